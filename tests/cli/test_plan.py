"""`jaxdd plan` on real digits: what it says, what it recommends, and the sentence for everything that can be wrong."""

import json

import jax
import numpy as np
import pytest
from toys import once

from jaxdd.cli import main
from jaxdd.cli.plan import parse_bytes
from jaxdd.methods._registry import fields

KIP = ["plan", "--config=kip", "--config.method.target_batch=100", "--config.run.steps=50"]

OWN = '''
import jax, jax.numpy as jnp
from jaxdd import inner
from jaxdd.data import uniform_sampler
from jaxdd.types import Distilled, Execution, Method, Recipe


def unrolled(networks=4):
    """Learns images through 36 steps of a linear network; its remat matters."""
    return Recipe(
        lambda spec: through(networks, spec.execution.remat, spec.execution.side_by_side),
        identity=("unrolled", networks),
        lean=Execution(side_by_side=1, remat="step"),
        most=lambda spec: Execution(side_by_side=networks),
    )


def through(networks, remat, networks_per_batch):

    def init(key, data):
        return {"images": data.images[:10]}

    def error(theta, batch):
        return jnp.mean((batch[0].reshape(len(batch[0]), -1) @ theta - batch[1]) ** 2)

    def update(key, state, batch):
        def one(key):
            theta = 0.01 * jax.random.normal(key, (784, 10))

            def objective(state):
                feed = lambda t: ((state["images"], jnp.eye(10)), 0.01)
                theta_end = inner.unroll(error, inner.sgd(), theta, feed, 36, remat=remat).theta
                return error(theta_end, (batch.images, jax.nn.one_hot(batch.labels, 10)))

            return jax.value_and_grad(objective)(state)

        loss, grads = inner.map_networks(one, jax.random.split(key, networks), batch_size=networks_per_batch)
        return jax.tree.map(lambda p, g: p - 0.1 * g, state, grads), {"loss": loss}

    return Method(init, uniform_sampler(16), update, lambda s: Distilled(s["images"], jnp.arange(10), params=s))


def indifferent(remat="none"):  # a field of its own
    """As large in every setting."""
    return Method(
        lambda key, data: {"images": data.images[:10]},
        uniform_sampler(16),
        lambda key, state, batch: (state, {"loss": batch.images.mean()}),
        lambda s: Distilled(s["images"], jnp.arange(10), params=s, num_bits=250_920),
    )
'''

CONFIG = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({"method": %s, "data": {"name": "floats.npz"}, "run": {"steps": 7}, **%s})
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The flag for a config file of a method of `OWN`, whose data need not be decoded: equal plans compile once."""
    labels = np.arange(1000) % 10
    np.savez(tmp_path / "floats.npz", x=np.float32(np.random.default_rng(0).random((1000, 28, 28, 1))), y=labels)
    (tmp_path / "own_planned.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def write(method, execution=None, **options):
        path = tmp_path / f"{method}.py"
        sections = {} if execution is None else {"execution": execution}
        path.write_text(CONFIG % ({"name": f"own_planned:{method}", **options}, sections))
        return f"--config={path}"

    return write


def planned(capsys, *arguments):
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_plan_is_told_in_words_and_nothing_is_written(config, tmp_path, capsys):
    flag = config("indifferent")
    before = set(tmp_path.iterdir())
    assert main(["plan", flag]) == 0
    out = capsys.readouterr().out
    for words in (
        "own_planned:indifferent on floats",
        "7,840 parameters",
        "250,920 bits",
        "7 steps",
        f"{jax.device_count()} × cpu",
        "fits as it is",
    ):
        assert words in out
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before


def test_kip_has_one_setting_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = planned(capsys, *KIP[1:], "--budget=2GB")
    (setting,) = result["settings"]
    assert not list(tmp_path.iterdir())
    assert (result["title"], result["steps"]) == ("kip on mnist_5k", 50)
    assert (setting["parameters"], setting["num_bits"]) == (7940, 254_080)
    assert result["budget_bytes"] == 2 * 10**9 and result["chosen"] == 0 and result["flags"] == []
    assert result["run_seconds"] == pytest.approx(50 * setting["seconds_per_step"])
    assert setting["state_parameters"] == 4 * 7940  # parameters, their average, Adam's two moments


def test_the_fastest_setting_that_fits_is_recommended_as_the_flags_that_give_it(config, capsys):
    flag = config("unrolled", {"remat": "auto"}, networks=4)
    result = planned(capsys, flag)
    (step,) = result["settings"]  # leaner ones are not looked at
    assert result["chosen"] == 0 and result["flags"] == [] and result["steps"] == 7
    assert step["options"] == {"side_by_side": 1, "remat": "step"} and step["seconds_per_step"] > 0
    budget = step["peak_bytes"] - 1
    result = planned(capsys, flag, f"--budget={budget}")
    sqrt = result["settings"][1]
    assert result["chosen"] == 1 and result["flags"] == ["--config.execution.remat=sqrt"]
    assert result["settings"][0]["seconds_per_step"] is None and result["settings"][1]["seconds_per_step"] > 0
    assert main(["plan", flag, *result["flags"], f"--budget={budget}"]) == 0
    assert "fits as it is" in capsys.readouterr().out
    assert main(["plan", flag, "--budget=1MiB"]) == 2
    error = capsys.readouterr().err
    leanest = f"{sqrt['peak_bytes'] / 2**20:.1f} MiB"
    assert f"no setting fits the budget of 1.0 MiB on each device: the leanest, {'side_by_side=1, '}" in error
    assert "remat=sqrt" in error and leanest in error


def test_what_no_flag_can_say_is_a_line_of_the_config(config, capsys):
    peak = planned(capsys, config("unrolled"))["settings"][0]["peak_bytes"]
    assert main(["plan", config("unrolled"), f"--budget={peak - 1}"]) == 0  # the config has no such section
    out = " ".join(capsys.readouterr().out.split())
    assert "write execution.remat = 'sqrt' in the config file" in out and "append" not in out


def test_a_method_without_a_recipe_has_one_setting_and_keeps_its_own_fields(config, capsys):
    (setting,) = planned(capsys, config("indifferent", remat="sqrt"))["settings"]
    assert setting["options"] == {} and setting["execution"]["remat"] == "step"


def test_fields_of_methods(config):
    config("unrolled")
    assert fields("own_planned:unrolled") == {"networks": 4}
    assert fields("kip")["ipc"] == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("1.5 gib", 1.5 * 2**30), ("512MiB", 2**29), ("2KiB", 2048), ("2GB", 2e9), ("123", 123)],
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "four", "-1GiB", "4GiX", "4 i", "GiB", "1e9"])
def test_bad_budgets(text, capsys):
    assert main([*KIP, f"--budget={text}"]) == 2
    assert f"--budget must be bytes with a unit, as in 4GiB, 512MiB or 2GB, got {text!r}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan"], "--config is missing: jaxdd plan --config=kip."),
        ([*KIP, "--bugdet=4GiB"], "unknown option '--bugdet'; did you mean '--budget'?"),
        ([*KIP, "--workdir=out"], "unknown option '--workdir'"),
        ([*KIP, "more"], "unexpected argument 'more'"),
        (["plan", "--config=kipp"], "did you mean 'kip'?"),
        ([*KIP, "--config.method.name=kap"], "unknown method 'kap'; did you mean 'kip'?"),
        ([*KIP, "--config.method.ipc=0"], "ipc of"),
        ([*KIP, "--config.run.steps=0"], "steps must be an integer of at least 1, got 0."),
        ([*KIP, "--config.data.name=absent"], "absent"),
    ],
)
def test_bad_input(arguments, sentence, capsys):
    assert main(once(arguments)) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and "Traceback" not in error
