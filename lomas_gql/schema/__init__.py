"""GraphQL: the only room that knows of it."""
