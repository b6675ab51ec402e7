"""A generator of synthetic videos with exact instance masks, used by the quickstart, the ablation and the figures."""
