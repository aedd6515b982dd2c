"""SmartNoise SQL (https://docs.smartnoise.org/sql): noisy aggregates of one SELECT.

`query` is the GraphQL input; `gate` says which SQL may pass; `reader` runs what the library makes of it.
"""
