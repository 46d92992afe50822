#!/usr/bin/env python3
"""What `benchmark.py` compares with: the same arithmetic in plain PyTorch, timed in a process of its own.

    python scripts/peers.py meta_gradient INPUT.npz OUTPUT.npz --repeats 10

INPUT holds the arrays of the step as jaxdd has them; OUTPUT gets its results, in jaxdd's layout, to be compared. Where
PyTorch has several ways to compute a convolution, its fastest is taken. One line of JSON on standard output says what
it took. Needs PyTorch, nothing of jaxdd and no JAX, so that no other library's threads are about.
"""

from peers.command import main

if __name__ == "__main__":
    main(__doc__)
