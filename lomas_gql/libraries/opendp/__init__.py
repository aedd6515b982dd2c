"""OpenDP (https://docs.opendp.org): measurements as the library writes them, and Polars plans.

`query` is the GraphQL input and joins the rest. A measurement is read by `measurement` through the closed table
in `constructors`; a plan by `plan`, `expressions`, `functions` and `literals`, and `release` gives it its noise.
"""
