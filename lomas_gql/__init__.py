"""lomas_gql: differentially private queries over GraphQL."""

from importlib.metadata import version

__version__ = version("lomas-gql")
