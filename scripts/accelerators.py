#!/usr/bin/env python3
"""What the compilers for a GPU and a TPU make of every method, on a machine that has neither.

    pip install ".[aot]"
    python scripts/accelerators.py [--smoke] [--platforms gpu tpu] [--methods dm kip ..] [--json FILE] [--markdown FILE]

The engine's own program of an update, as the published preset of each method's config has it (`--smoke`: the smallest
examples of a few), is compiled for an H100 (sm_90) and a TPU v5e, which nothing runs on. Of the optimised program:

* `launches`: kernels and library calls that an update starts, those of a loop times its trips; of a loop whose trips
  the compiler does not know once, and `unknown_loops` says how many there are.
* `host_launches`, on a GPU: what the host starts, since XLA records kernels and calls that follow each other into CUDA
  graphs, which it starts at once (by its own defaults, with a driver of CUDA 12.9).
* `library_calls` by name, `convolution_types` and `product_types`: operands and result, by how often they are launched.
* `callbacks` to the host, and whether there is any `float64`.
* `peak_bytes` of the program, with the real data as it is stored, and `execution`, how it is carried out: on a device
  of 80 GB (GPU) or 16 GB (TPU) everything that fits is at once.

Data are zeros of the shapes of what the preset names. JAX's names for other devices' compilers are private and change:
they are in `accelerators/targets.py` alone.
"""

import sys

from accelerators.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
