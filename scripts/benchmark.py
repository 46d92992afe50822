#!/usr/bin/env python3
"""What one step costs, beside the machine's own matmul rate in the same run.

    python scripts/benchmark.py --suite all [--smoke] [--json FILE] [--markdown FILE]
    python scripts/benchmark.py --suite choices [--smoke] [--rows dm_bfloat16 dm_together] [--json FILE]
    python scripts/benchmark.py --read FILE.json --markdown docs/benchmarks.md
    python scripts/benchmark.py --suite conv | features | inner | kernels | matching [--json FILE]
    python scripts/benchmark.py --suite selection | trajectories | decoupled [--json FILE]

`all` is every method as its shipped config has it, in the engine's own program; `choices` some of them with another
precision, convolution or number of networks side by side. Seconds are medians (of these two suites means), and
CPU-seconds (all threads) are the figure to compare on shared machines. Convolutions, inner loops, matching,
trajectories and recovery stand beside the same arithmetic in PyTorch (`peers.py`; `pip install "jaxdd[bench]"`), which
runs afterwards, in a process of its own; selection beside NumPy, and beside PyTorch where it takes gradients of single
examples.
"""

import sys

from benchmark.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
