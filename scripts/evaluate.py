#!/usr/bin/env python3
"""`jaxdd evaluate` for people who run scripts: the same flags, the same function."""

import sys

from jaxdd.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
