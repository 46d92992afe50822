"""The benchmarks, tiny: every method has its row, and rows beside PyTorch compute what their peers compute."""

import importlib.util
import json
import math
import sys
import time

import jax
import jax.numpy as jnp
import measuring
import numpy as np
import pytest
from benchmark import command, every_method
from beside_pytorch import convolutions, inner_loops, matching, network, peer

from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.types import Labels, RealData

IMAGES = np.random.default_rng(0).normal(size=(40, 28, 28, 1)).astype(np.float32)
LABELS = np.arange(40) % 10


@pytest.fixture
def small(monkeypatch):
    """With noise instead of the data set that a machine may not have, and no time lost with the machine's own rate."""
    real = RealData.of(jnp.asarray(IMAGES), Labels.index(LABELS, 10))
    monkeypatch.setattr(every_method, "stored_images", lambda: ("noise", real, None))
    monkeypatch.setattr(every_method, "matmul_rates", lambda *size, devices: (1e9, 5e8))
    few = RealData.of(real.images[:20], Labels.index(LABELS[:20], 10))
    for of in (inner_loops, matching, measuring, network):
        monkeypatch.setattr(of, "real_images", lambda: ("noise", few))
    monkeypatch.setattr(inner_loops, "matmul_rate", lambda: 1e9)


ROWS = {
    "meta_gradient": lambda: inner_loops.meta_gradient(4, 2, 1, real=20),
    "conv_fwd": lambda: convolutions.convolution("conv_fwd", convolutions.conv_fwd, 1, images=(3, 6, 6, 4)),
    "conv_dx": lambda: convolutions.convolution("conv_dx", convolutions.conv_dx, 1, images=(3, 6, 6, 4)),
    "conv_dw": lambda: convolutions.convolution("conv_dw", convolutions.conv_dw, 1, images=(3, 6, 6, 4)),
    "conv_dw_in_scan": lambda: convolutions.convolution(
        "conv_dw_in_scan", convolutions.conv_dw_in_scan, 1, images=(3, 6, 6, 4)
    ),
    "conv_grouped_4": lambda: convolutions.convolution(
        "conv_grouped_4", convolutions.conv_grouped, 1, images=(4, 3, 6, 6, 4)
    ),
    "conv_fwd_bf16": lambda: convolutions.convolution(
        "conv_fwd_bf16", convolutions.conv_fwd, 1, images=(3, 6, 6, 4), precision="bfloat16", tolerance=1e-2
    ),
    "rat_bptt": lambda: inner_loops.rat_bptt(4, 1, prefix=2, window=3, real=20, block=10),
    "dm": lambda: matching.matching_update("dm", methods.DM(ipc=2, target_per_class=4), 1, width=4),
    "dsa": lambda: matching.matching_update("dsa", methods.DSA(ipc=2, target_per_class=4), 1, width=4),
    "dc_update": lambda: matching.network_update(1, width=4, ipc=1, steps=2),
    "eval_epoch": lambda: matching.evaluation_epoch(1, width=4, ipc=1, steps=2),
    "test_pass": lambda: matching.test_pass(1, width=4, count=20),
}


@pytest.mark.endurance
@pytest.mark.parametrize("name", ROWS)
def test_a_row_computes_what_pytorch_computes(name, small):
    """Without PyTorch it stands alone, of which two are enough."""
    if importlib.util.find_spec("torch") is None and name not in ("dm", "test_pass"):
        pytest.skip("PyTorch is not installed")
    row = ROWS[name]()
    figures = {field: value for field, value in row.items() if isinstance(value, float) and field != "peer_difference"}
    assert {"seconds", "cpu_seconds"} <= set(figures) and all(0 < value < math.inf for value in figures.values())
    if importlib.util.find_spec("torch") is not None:
        assert row["peer_difference"] < (1e-2 if "bf16" in name else 1e-3)
        assert min(row["peer_seconds"], row["peer_cpu_seconds"]) > 0


def test_without_pytorch_there_is_no_peer(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert peer.peer("meta_gradient", {}, {}, 1) == ({}, {})


def test_a_peer_that_computes_something_else_is_refused():
    ours, theirs = ({"loss": np.asarray(loss), "gradient": np.ones(3)} for loss in (2.0, 2.1))
    with pytest.raises(JaxddError, match=r"row is not what its peer computes: loss differs by 0\.048"):
        peer.compared({"name": "row"}, ours, theirs, peer.SAME_LOSS)


def test_only_the_wanted_rows_run():
    rows = {"one": lambda: {"name": "one"}, "two": lambda: pytest.fail("ran")}
    assert list(command.wanted(iter(rows.items()), ["one"])) == [{"name": "one"}]
    with pytest.raises(JaxddError, match=r"unknown row 'oen'.*one"):
        list(command.wanted(iter(rows.items()), ["oen"]))


def test_timed_gives_medians_of_waited_for_results():
    seconds, cpu = measuring.timed(lambda: time.sleep(0.02), repeats=3)
    assert seconds >= 0.02
    assert 0 <= cpu < seconds


def test_the_rate_of_all_devices_is_that_of_their_products_together(monkeypatch):
    one = float(8**3)
    monkeypatch.setattr(measuring, "timed", lambda function, a, b, repeats: (len(a) * one, 2 * len(a) * one))
    assert measuring.matmul_rates(8) == measuring.matmul_rates(8, devices=jax.devices()) == (2.0, 1.0)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_every_method_has_a_row_with_settings_that_it_takes(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert set(dict(every_method.every_method(1.0))) == set(methods.available())
    for name in methods.available():
        preset, hyper = every_method.shipped(name)
        assert hyper["name"] == name and methods.build(**hyper)
        on_cpus = preset in ("cpu", "fc", "fixed")
        assert on_cpus == (backend == "cpu" or name in ("kip", "soft_label_dd"))  # they have one for both
        assert preset != "smoke" and every_method.shipped(name, smoke=True)[0] == "smoke"


def test_every_choice_is_one_that_its_method_has():
    rows = dict(every_method.choices(1.0))
    for name, options in every_method.SIDE_BY_SIDE.items():
        assert {f"{name}_{choice}" for choice in ("float32", "bfloat16", "native", "im2col", "together")} <= set(rows)
        assert methods.build(name, **options)


@pytest.mark.endurance
def test_a_row_of_a_method_has_all_figures_and_they_are_the_tables(small, tmp_path, monkeypatch):
    kip = every_method.method("kip", "kip", 0.0, smoke=True)
    options = {"precision": "bfloat16", "conv": "im2col", "side_by_side": None}
    dm = every_method.method("dm", "dm_im2col", 0.0, smoke=True, **options)
    assert (kip["convolution"], dm["convolution"], dm["precision"]) == ("none", "im2col", "bfloat16")
    assert kip["batch"] == 500 and kip["steps"] == 2 and kip["devices"] == jax.device_count() and kip["data"] == "noise"
    assert dm["matmul_share"] == pytest.approx(dm["flops"] * dm["steps_per_second"] / 1e9)
    assert dm["cpu_share"] == pytest.approx(dm["flops"] / dm["cpu_seconds"] / 5e8)
    # The kernel of targets forwards, and backwards in the support; that of the support, and both its sides.
    assert kip["flops"] >= 2 * 784 * (2 * 500 * 10 + 3 * 10 * 10)

    docs, earlier = tmp_path / "docs.md", tmp_path / "all.json"
    docs.write_text("before\n<!-- all -->\nold\n<!-- end of all -->\nafter\n")
    about = {"suite": "all", "devices": 4, "device": "cpu", "cpus": 2, "jax": jax.__version__, "rows": [kip, dm]}
    earlier.write_text(json.dumps(about))
    for _ in range(2):  # the second time the table is where it was
        monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--read={earlier}", f"--markdown={docs}"])
        assert command.main(None) == 0
    lines = docs.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    table = [line for line in lines if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:]] == ["`kip`", "`dm_im2col`"]
    assert len({line.count("|") for line in table}) == 1
    docs.write_text("no place")
    with pytest.raises(JaxddError, match=r"has no place for this table: <!-- all --> and <!-- end of all -->"):
        command.main(None)


@pytest.mark.parametrize("value", [None, 0, -1.0, math.nan, math.inf])
def test_a_row_without_one_of_its_figures_is_refused(value):
    row = {"name": "dm"} | dict.fromkeys(every_method.POSITIVE, 1.0)
    assert every_method.checked(row) == row
    bad = {**row, "flops": value}
    if value is None:
        del bad["flops"]
    with pytest.raises(JaxddError, match=rf"the row 'dm' has {value!r} for its flops\."):
        every_method.checked(bad)


@pytest.mark.parametrize("option", ["--smoke", "--markdown=docs.md"])
def test_options_of_other_suites_are_refused(monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--suite=conv", option])
    with pytest.raises(SystemExit):
        command.main(None)
    assert "--smoke and --markdown are for the suites all and choices" in capsys.readouterr().err
