"""What steps cost: the parts of `scripts/benchmark.py`."""
