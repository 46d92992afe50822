"""Shipped configs: complete, buildable, and open to overrides from the command line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from jaxdd import data, engine, methods, models
from jaxdd.cli import config as configs
from jaxdd.cli import preset, template
from jaxdd.cli.main import main
from jaxdd.engine.stages import foretold
from jaxdd.errors import JaxddError
from jaxdd.evaluation import protocols
from jaxdd.types import Execution, Labels, RealData, bound


def shipped():
    for name, path in configs.shipped().items():
        presets = getattr(configs.module_of(path), "PRESETS", None)
        for chosen in presets or [None]:
            yield pytest.param(path, chosen, id=f"{name}:{chosen}" if chosen else name)


@pytest.mark.parametrize(("path", "chosen"), list(shipped()))
def test_every_shipped_config_builds_and_names_what_there_is(path, chosen):
    module = configs.module_of(path)
    config = module.get_config(chosen) if chosen else module.get_config()
    plain = config.to_dict()
    name = plain["method"].pop("name")
    assert methods.build(name, **plain["method"])
    assert set(plain["method"]) == set(methods.fields(name))  # every hyper-parameter can be overridden
    assert plain["execution"] == dataclasses.asdict(Execution())  # how a machine goes about it is no preset's
    assert protocols.get(plain["evaluation"]["protocol"])
    assert models.build(plain["evaluation"]["model"] or "convnet", (32, 32, 3), 10)
    assert f"--config={path.stem}" in module.__doc__


@pytest.mark.parametrize(("path", "chosen"), list(shipped()))
def test_presets_of_a_paper_take_all_its_data_its_constants_and_its_rate(path, chosen):
    """And those for two cores hold a tenth out, on which a rate may be chosen."""
    module = configs.module_of(path)
    config = (module.get_config(chosen) if chosen else module.get_config()).to_dict()
    section = config["data"]
    if chosen in ("cpu", "fc", "fixed", "random", "smoke", *OF_FEW_BITS, None):
        assert section["validation"] == 0.1 and section["transform"] == "standardize"
        return
    assert section["validation"] == 0.0
    protocol = protocols.get(config["evaluation"]["protocol"])
    assert protocol.without_validation() is protocol  # it says so itself: every level can be evaluated
    # Where papers measure: RFAD its channels, and who whitens without dividing by constants first.
    measured = path.stem == "rfad" or section["transform"] == "zca"
    assert measured or section["transform"] in ("published", "published+zca")
    if section["transform"].startswith("published"):
        assert section["name"] in data.PUBLISHED
    if "cifar10" in section["name"] and path.stem in ("dc", "dsa", "dm", "cafe", "idc", "ncfm", "datadam", "linba"):
        assert section["transform"].startswith("published")


OF_FEW_BITS = {"multi_formation": 40, "frequencies": 110, "neural_fields": 110, "linear_bases": 130}
"""Presets of `mtt`, and their images of 28x28."""


@pytest.mark.parametrize(
    ("chosen", "count", "side", "channels"),
    [
        *((name, count, 28, 1) for name, count in OF_FEW_BITS.items()),
        ("cifar10_frequencies", 150, 32, 3),
        ("cifar10_neural_fields", 370, 32, 3),
    ],
)
def test_parameterisations_of_mtt_cost_no_more_than_a_plain_image_a_class(chosen, count, side, channels):
    fields = configs.read("mtt", chosen)["method"]
    recipe = methods.build(fields.pop("name"), **fields)
    labels = Labels.index(np.repeat(np.arange(10), 40))
    real = foretold(recipe, RealData.of(jnp.zeros((400, side, side, channels)), labels))
    method = bound(recipe, real)
    found = jax.eval_shape(lambda key: method.product(engine.first_state(method, real, key)), jax.random.key(0))
    assert found.images.shape == (count, side, side, channels)
    plain = 10 * (32 * side * side * channels + 4)
    assert 0.9 * plain < found.num_bits - 32 <= plain  # the step size beside them


@pytest.mark.parametrize("name", methods.available())
def test_every_method_has_a_small_example_on_the_embedded_digits(name):
    config = configs.read(name, "smoke")
    assert config["method"]["name"] == name and config["data"]["name"] == "mnist_5k"
    assert 5 <= config["run"]["steps"] <= 50 and config["evaluation"]["networks"] == 2


def test_idc_has_the_published_settings():
    """Of the authors' code, whose rates are of pixels in [0, 1], before these are divided by a standard deviation."""
    mnist, fashion, cifar10 = (configs.read("idc", name) for name in ("mnist", "fashion_mnist", "cifar10"))
    for config, rate in ((mnist, 1.053e-3), (fashion, 6.14e-4), (cifar10, 0.1239)):
        assert config["method"]["learning_rate"] == pytest.approx(rate, rel=1e-3)
    for config, distance, examples, augmentation, cutmix in (
        (mnist, "l1", 500, "idc-train", 0.0),  # colour and crop; networks without CutMix
        (fashion, "l1", 500, "idc-match", 0.5),
        (cifar10, "mse", 2000, "idc-match", 0.5),
    ):
        method = config["method"]
        assert (method["network_examples"], method["network_batch"], method["matching_steps"]) == (examples, 64, 100)
        assert (method["distance"], method["augmentation"], method["cutmix"]) == (distance, augmentation, cutmix)
        assert (method["network_augmentation"], method["factor"], method["ipc"]) == ("idc-train", 2, 10)


def test_cafe_is_evaluated_with_600_epochs():
    for name in ("mnist", "fashion_mnist", "cifar10"):
        protocol = protocols.get(configs.read("cafe", name)["evaluation"]["protocol"])
        assert (protocol.name, protocol.epochs, protocol.augmentation) == ("cafe", 601, "none")


def test_optional_fields_can_be_given_on_the_command_line(tmp_path, capsys):
    line = ["distill", "--config=soft_label_dd", "--config.method.classes=11", f"--workdir={tmp_path / 'run'}"]
    assert main([*line, "--config.method.model=mlp(width=4)", "--config.run.steps=1"]) == 2
    assert "images for 11 classes were asked for, but the data have 10" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--config=dd:fixd", "unknown preset of this config 'fixd'; did you mean 'fixed'?"),
        ("--config=bd:fixed", "unknown config (neither a file nor the name of a shipped one) 'bd'; did you mean"),
    ],
)
def test_unknown_presets_are_one_sentence(argument, sentence, tmp_path, capsys):
    assert main(["distill", argument, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and error.count("\n") == 1


def test_templates_check_what_they_are_given():
    config = template("dd", seed=3, method={"ipc": 4, "steps": 2}, run={"steps": 7})
    assert (config.seed, config.method.ipc, config.run.steps, config.data.name) == (3, 4, 7, "mnist_5k")
    for sections, sentence in (
        ({"method": {"icp": 4}}, "'icp'; did you mean 'ipc'"),
        ({"runs": {}}, "did you mean 'run'"),
        ({"method": {"steps": 3}}, "a divisor of ipc"),
    ):
        with pytest.raises(JaxddError, match=sentence):
            template("dd", **sections)
    with pytest.raises(JaxddError, match="did you mean 'kip'"):
        template("kipp")
    assert preset({"a": 1}, "a") == 1


def test_a_config_of_ones_own_without_presets_says_so(tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text('from jaxdd.cli import template\n\n\ndef get_config():\n    return template("kip")\n')
    assert main(["distill", f"--config={own}:small", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "this config has no presets" in capsys.readouterr().err


def test_flags_of_what_is_the_executions_now_are_taken_for_a_release():
    values = flags.FlagValues()
    configs.define_config(values)
    old = ["--config=dm:smoke", "--config.method.target_block=8", "--config.run.precision=float32"]
    of_block = pytest.warns(DeprecationWarning, match=r"--config.method.target_block is now --config.execution.block=8")
    of_precision = pytest.warns(DeprecationWarning, match=r"--config.run.precision is now --config.execution.precision")
    with of_block, of_precision:
        configs.parse(values, "plan", [*old, "--config.execution.side_by_side=None"])
    found = values.config.to_dict()["execution"]
    assert found == {**dataclasses.asdict(Execution()), "block": 8, "precision": "float32", "side_by_side": None}
    fresh = flags.FlagValues()
    configs.define_config(fresh)
    with pytest.raises(JaxddError, match=r"unknown field of the config 'method\.target_blok'"):
        configs.parse(fresh, "plan", ["--config=dm:smoke", "--config.method.target_blok=8"])
