"""Rows of the results tables, run anew: the parts of `scripts/reproduce.py`."""
