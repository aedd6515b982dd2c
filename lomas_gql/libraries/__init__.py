"""One file per DP library. A query is a frozen dataclass that knows its cost and how to run."""
