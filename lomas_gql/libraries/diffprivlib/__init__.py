"""diffprivlib (https://diffprivlib.readthedocs.io): models whose fitted parameters are differentially private.

`query` is the GraphQL input; `plan`, `columns`, `estimators` and `params` judge it by public metadata; `models`
fits on `rows`, with `training`, `transformers`, `classifiers`, `trees` and `sums` behind it.
"""
