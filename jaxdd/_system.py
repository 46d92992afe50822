"""What the system says of itself."""

from __future__ import annotations

import os
import pathlib
import platform
import re


def in_words(size: float) -> str:
    """Bytes as people write them, "1.5 GiB" or "3.0 MiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


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


def hardware() -> dict[str, str | int]:
    """The processor's name, how many of its cores this process may use, and the machine's memory in bytes."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        memory = 0
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    name = cpuinfo("model name") or platform.processor() or platform.machine()
    return {"processor": name, "cores": cores} | ({"memory": memory} if memory else {})


def cpuinfo(*fields: str) -> str | None:
    """What Linux says of the first processor under one of these names; None where it says nothing."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^(?:{'|'.join(map(re.escape, fields))})\s*:\s*(.+)$", text, re.MULTILINE)
    return found and found[1]
