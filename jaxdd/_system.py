"""What the system says of itself."""

from __future__ import annotations

import os
import pathlib
import re


def free_memory() -> int | None:
    """Bytes that are free, with what is given up for a program (Linux), or else all there are; None if unknown."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
