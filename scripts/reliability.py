#!/usr/bin/env python3
"""Break runs on purpose and say what was lost: the figures of docs/reliability.md.

    python scripts/reliability.py kills [METHOD ..] [--count 200] [--jobs 2]
    python scripts/reliability.py faults [FAULT ..]

Both take --json FILE and --markdown, and end with status 1 if anything was lost that should not be. A kill is a SIGKILL
at a random moment; the run goes on with --resume, and what it ends in must be, byte for byte, that of a run never
killed. Faults that fill a disk make a small one of their own, for which Linux must allow tmpfs or user namespaces.
"""

import sys

from reliability.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
