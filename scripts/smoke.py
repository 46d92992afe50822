#!/usr/bin/env python3
"""Every method's smallest example, `--config=NAME:smoke`, with its stages, through the command line.

    python scripts/smoke.py [--steps 2] [METHOD ..]

Each is distilled into a folder of its own that is deleted afterwards; the first that fails ends it, with its status.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time

from jaxdd import methods
from jaxdd.cli.main import main as command_line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="these instead of all")
    parser.add_argument("--steps", type=int, help="updates; by default those of the example, and its evaluation")
    arguments = parser.parse_args()
    for name in arguments.methods or methods.available():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JAXDD_CACHE_DIR"] = str(pathlib.Path(folder) / "cache")
            few = [] if arguments.steps is None else [f"--config.run.steps={arguments.steps}", "--evaluate=none"]
            began = time.perf_counter()
            flags = ["distill", f"--config={name}:smoke", *few, f"--workdir={folder}/run", "--json"]
            if status := command_line(flags):
                return status
            print(f"{name:<16} {time.perf_counter() - began:6.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
