#!/usr/bin/env python3
"""Would the tests notice wrong code? Make it wrong in one place, run the tests of that file, and count.

    python scripts/mutants.py --sample=100 --seed=0 --json FILE [--jobs 2]
    python scripts/mutants.py --list --only=reuse_key
    python scripts/mutants.py --mutant methods/dc:93:skip_augmentation:1a2b3c

Mutants are made by named operators (scripts/mutants/) and drawn with a seed; some wrong methods that once passed are
always among them. Each is tried in a copy of the tree. docs/testing.md says how to judge a survivor.
"""

import signal
import sys

from mutants.command import main

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background, too: what is done stays in the report
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
