#!/usr/bin/env python3
"""Run named rows of the results tables through the public interface and write them to docs/results/.

    python scripts/reproduce.py kip_fashion_mnist_10 [ROW ..] [--seeds 3] [--keep DIR]
    python scripts/reproduce.py --list

A row is a command, and every seed is a distillation of its own. Accuracies are of the last iterate on test data and
never stand without random real images that are treated the same way.
"""

import sys

from reproduce.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
