"""The same arithmetic in plain PyTorch: the parts of `scripts/peers.py`. They need nothing of jaxdd and no JAX."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch: waiting threads are not to count as work
