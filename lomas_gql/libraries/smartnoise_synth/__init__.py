"""SmartNoise Synth (https://docs.smartnoise.org/synth): synthetic rows from noised marginals.

`query` is the GraphQL input; `plan` judges it by public metadata; `codes` turns cells into codes and back; the
algorithms stand in `marginals` (MST, AIM), `mwem` and `pac`; `model` is what is stored and sampled.
"""
