"""The rows of the benchmarks beside PyTorch, tiny: they compute what their peers compute."""

import importlib.util
import pathlib
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.types import Labels, RealData

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_data(benchmark, monkeypatch):
    """Noise instead of the data set that a machine may not have."""
    images = jnp.asarray(np.random.default_rng(0).normal(size=(20, *benchmark.IMAGE)), jnp.float32)
    labels = np.arange(20) % 10
    real = RealData(images, Labels.index(labels, 10))
    monkeypatch.setattr(benchmark, "real_images", lambda: ("noise", real))
    monkeypatch.setattr(benchmark, "real_batch", lambda size: (images[:size], jnp.asarray(labels[:size])))
    monkeypatch.setattr(benchmark, "matmul_rate", lambda: 1e9)


ROWS = {
    "meta_gradient": lambda b: b.meta_gradient(4, 2, 1, real=20),
    "conv_fwd": lambda b: b.convolution("conv_fwd", b.conv_fwd, 1, images=(3, 6, 6, 4)),
    "conv_dx": lambda b: b.convolution("conv_dx", b.conv_dx, 1, images=(3, 6, 6, 4)),
    "conv_dw": lambda b: b.convolution("conv_dw", b.conv_dw, 1, images=(3, 6, 6, 4)),
    "conv_dw_in_scan": lambda b: b.convolution("conv_dw_in_scan", b.conv_dw_in_scan, 1, images=(3, 6, 6, 4)),
    "conv_grouped_4": lambda b: b.convolution("conv_grouped_4", b.conv_grouped, 1, images=(4, 3, 6, 6, 4)),
    "conv_fwd_bf16": lambda b: b.convolution(
        "conv_fwd_bf16", b.conv_fwd, 1, images=(3, 6, 6, 4), precision="bfloat16", tolerance=1e-2
    ),
    "rat_bptt": lambda b: b.rat_bptt(4, 1, prefix=2, window=3, real=20, block=10),
    "dm": lambda b: b.matching_update("dm", methods.DM(ipc=2, target_per_class=4), 1, width=4),
    "dsa": lambda b: b.matching_update("dsa", methods.DSA(ipc=2, target_per_class=4), 1, width=4),
    "dc_update": lambda b: b.network_update(1, width=4, ipc=1, steps=2),
    "eval_epoch": lambda b: b.evaluation_epoch(1, width=4, ipc=1, steps=2),
    "test_pass": lambda b: b.test_pass(1, width=4, count=20),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_row_computes_what_pytorch_computes(name, benchmark, tiny_data):
    pytest.importorskip("torch")
    row = ROWS[name](benchmark)
    assert row["peer_difference"] < (1e-2 if "bf16" in name else 1e-3)
    assert min(row[field] for field in ("seconds", "cpu_seconds", "peer_seconds", "peer_cpu_seconds")) > 0


def test_without_pytorch_there_is_no_peer(benchmark, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert benchmark.peer("meta_gradient", {}, {}, 1) == ({}, {})


def test_a_peer_that_computes_something_else_is_refused(benchmark):
    ours, theirs = ({"loss": np.asarray(loss), "gradient": np.ones(3)} for loss in (2.0, 2.1))
    with pytest.raises(JaxddError, match=r"row is not what its peer computes: loss differs by 0\.048"):
        benchmark.compared({"name": "row"}, ours, theirs, benchmark.SAME_LOSS)


def test_only_the_wanted_rows_run(benchmark):
    rows = {"one": lambda: {"name": "one"}, "two": lambda: pytest.fail("ran")}
    assert list(benchmark.wanted(iter(rows.items()), ["one"])) == [{"name": "one"}]
    with pytest.raises(JaxddError, match=r"unknown row 'oen'.*one"):
        list(benchmark.wanted(iter(rows.items()), ["oen"]))


def test_timed_gives_medians_of_waited_for_results(benchmark):
    seconds, cpu = benchmark.timed(lambda: time.sleep(0.02), repeats=3)
    assert seconds >= 0.02
    assert 0 <= cpu < seconds
