"""The command line."""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import statistics
import time

import numpy as np
import torch

from peers.convolutions import conv_dw, conv_dw_in_scan, conv_dx, conv_fwd, conv_fwd_bf16, conv_grouped, in_each_layout
from peers.decoupled import recover, student
from peers.gradients import grand
from peers.inner_loops import meta_gradient, rat_bptt
from peers.matching import by_classes, dc, dm, test_pass, train
from peers.trajectories import expert_step, mtt, tesla

TASKS = {
    **{f.__name__: functools.partial(in_each_layout, f) for f in (conv_fwd, conv_dx, conv_dw, conv_dw_in_scan)},
    "conv_fwd_bf16": conv_fwd_bf16,
    "conv_grouped_4": conv_grouped,
    "dc": functools.partial(by_classes, dc),
    "dm": functools.partial(by_classes, dm),
    "expert_step": expert_step,
    "grand": grand,
    "meta_gradient": meta_gradient,
    "mtt": mtt,
    "rat_bptt": rat_bptt,
    "recover": recover,
    "student": student,
    "tesla": tesla,
    "test_pass": test_pass,
    "train": train,
}


def main(about: str | None) -> None:
    """The command line; `about` is what --help says of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("input", help=".npz")
    parser.add_argument("output", help=".npz")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with np.load(options.input) as arrays:
        run = TASKS[options.task](dict(arrays))
    results = run()  # and it is warm now
    np.savez(
        options.output,
        **{name: np.stack(value) if isinstance(value, tuple) else value.numpy() for name, value in results.items()},
    )
    walls, cpus = [], []
    for _ in range(options.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    took = {"peer_seconds": statistics.median(walls), "peer_cpu_seconds": statistics.median(cpus)}
    print(json.dumps(took | peak_bytes()))


def peak_bytes() -> dict[str, int]:
    """Of the whole process, PyTorch itself included; on Linux only. (`getrusage` counts what the parent had, too.)"""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return {}
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {"peer_peak_bytes": int(fields["VmHWM"].split()[0]) * 1024}
