"""Wrong versions of jaxdd, made on purpose, and whether its tests notice them: the parts of `scripts/mutants.py`."""
