"""Runs that are broken on purpose, and what was lost: the parts of `scripts/reliability.py`."""
