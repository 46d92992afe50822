"""The suites beside the same arithmetic in PyTorch, which `scripts/peers.py` computes in a process of its own."""
