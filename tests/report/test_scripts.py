"""The programs beside a set: what `load.py` gives, and that `train_torch.py` says and does what was measured."""

import ast
import dataclasses
import json
import re
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd._jax import key_of
from jaxdd.report.scripts import training_scripts
from jaxdd.report.torch_networks import layers
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import protocols
from jaxdd.types import Distilled, leaves_by_path

CONVENTIONS = ("hard", "probability", "raw", "centred", "features")
ROW = {"name": "distilled", "accuracy_mean": 0.781, "accuracy_std": 0.028, "networks": 2, "protocol": "quick",
       "model": "convnet(width=8, depth=2)", "learning_rate": 0.003}  # fmt: skip


@pytest.fixture
def of(mnist, provenance):
    """`of(convention, spec, **fields)`: twenty small real digits, labelled as they say."""

    def make(convention="hard", spec="standardize", **fields):
        chosen = np.concatenate([np.flatnonzero(mnist.train.labels == k)[:2] for k in range(10)])
        pixels, labels = mnist.train.pixels()[chosen, ::2, ::2], mnist.train.labels[chosen]
        transform = data.fit_transform(spec, mnist.train.pixels()[:500, ::2, ::2])
        soft = np.eye(10, dtype=np.float32)[labels]
        values = {"hard": labels, "probability": soft, "raw": 3 * soft, "centred": soft - np.float32(0.1)}
        values["features"] = np.float32(np.arange(60).reshape(20, 3) / 60)
        images = np.float32(transform.apply(pixels))
        distilled = Distilled(images, values[convention], label_convention=convention, **fields)
        return DistilledDataset.create(distilled, transform, {**provenance, "model": "mlp"})

    return make


def written(folder, dataset, rows=(ROW,)):
    dataset.write(folder / "distilled.safetensors")
    scripts = training_scripts(dataset, rows)
    for name, text in scripts.items():
        (folder / name).write_text(text)
    return scripts


def facts(program):
    """The constants of a program, by name."""
    found = {}
    for node in ast.parse(program).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [name.id for name in node.targets[0].elts]
            found |= dict(zip(names, ast.literal_eval(node.value), strict=True))
    return found


@pytest.mark.parametrize("spec", ["none", "standardize", "zca"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_load_gives_the_set_as_networks_see_it(convention, spec, of, tmp_path):
    dataset = of(convention, spec)
    written(tmp_path, dataset)
    module = runpy.run_path(str(tmp_path / "load.py"))
    pixels, labels, inputs = module["load"]()
    np.testing.assert_array_equal(pixels, dataset.images)
    np.testing.assert_array_equal(labels, dataset.labels)
    np.testing.assert_allclose(inputs, dataset.transform.apply(dataset.pixels()), rtol=1e-5, atol=1e-5)
    assert inputs.dtype == np.float32 and str(labels.shape) in module["load"].__doc__


def test_load_needs_numpy_and_safetensors_alone(of, tmp_path):
    dataset = of("centred")
    whole = np.rint(255 * dataset.images).astype(np.uint8)
    written(tmp_path, dataclasses.replace(dataset, images=whole))
    hidden = "import sys; [sys.modules.__setitem__(n, None) for n in ('jax', 'jaxdd', 'torch', 'flax')]; "
    code = f"{hidden}sys.path.insert(0, '.'); import load; p, *_ = load.load(); print(p.dtype, float(p.max()))"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == f"float32 {np.float32(whole.max()) / np.float32(255)}\n"


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_programs_are_python_and_say_what_was_measured(convention, of, tmp_path):
    row = dict(ROW)
    if convention == "features":
        row = {**row, "accuracy_mean": None, "probe_mean": 0.781, "probe_std": 0.028, "protocol": "krr-st"}
    scripts = written(tmp_path, of(convention), [row, {"name": "herding"}])
    program = scripts["train_torch.py"]
    for text in scripts.values():
        compile(text, "program", "exec")
    assert program.count("\n") < 200
    figure = "78.1 ± 2.8 %".replace(" ", "\N{NO-BREAK SPACE}")
    assert figure in program.replace(" ", "\N{NO-BREAK SPACE}")
    assert ("linear probes" in program) == ("def probe" in program) == (convention == "features")
    loss = "F.mse_loss" if convention == "features" else "square()" if convention == "centred" else "F.cross_entropy"
    assert loss in program and ("np.int64" in program) == (convention == "hard")
    told = facts(program)
    assert (told["NETWORKS"], told["OUTPUTS"]) == (2, 3 if convention == "features" else 10)
    protocol = protocols.get(row["protocol"])
    assert (told["RATE"], told["STEPS"]) == (0.003, protocol.num_steps(20))


def test_squared_error_takes_labels_around_zero(of):
    goals = {}
    for convention in ("hard", "probability", "centred"):
        dataset = of(convention)
        program = training_scripts(dataset, [{**ROW, "protocol": "rcig"}])["train_torch.py"]
        found = re.search(r"^    labels = (.*)$", program, re.M)
        scope = {"np": np, "OUTPUTS": 10, "labels": dataset.labels}
        goals[convention] = eval(found[1], scope) if found else dataset.labels
    for goal in goals.values():
        np.testing.assert_allclose(goal, goals["centred"], atol=1e-6)


@pytest.mark.parametrize("protocol", protocols.available())
def test_every_protocol_has_a_program(protocol, of):
    """Without a teacher beside class numbers, which no file's labels hold."""
    for convention in ("hard", "probability"):
        program = training_scripts(of(convention), [{**ROW, "protocol": protocol}])["train_torch.py"]
        compile(program, "train_torch.py", "exec")
        known = protocols.get(protocol)
        alone = known.loss in protocols.TAUGHT or (known.loss == "distillation" and convention == "hard")
        assert ("is left out, this learns from these alone" in program) == alone
        assert ("parts of a batch by themselves" in program) == (known.sub_batches > 1)
        assert (f"return {known.temperature**2!r} * loss" in program) == (known.squared and not alone)


@pytest.mark.parametrize("protocol", ["quick", "dc", "idc-digits", "frepo", "rat", "sre2l", "rded"])
def test_rates_are_those_of_the_protocol(protocol, of):
    from jaxdd.training import schedule_of

    program = training_scripts(of("probability"), [{**ROW, "protocol": protocol}])["train_torch.py"]
    known, count = protocols.get(protocol), facts(program)["STEPS"]
    share = schedule_of(known, 20)
    function = re.search(r"^def share.*?(?=^\n\n)", program, re.M | re.S)
    scope = {"np": np}
    exec(function[0] if function else "share = lambda step: 1.0", scope)
    steps = np.unique(np.linspace(0, count - 1, 60).astype(int))
    np.testing.assert_allclose([scope["share"](int(t)) for t in steps], [float(share(t)) for t in steps], atol=1e-6)
    left_out = known.augmentation != "none", bool(known.cutmix or known.mixup)
    assert ("augments every batch" in program, "mixes images" in program) == left_out
    assert (f"{round(1 - known.weight_average, 10)})" in program) == bool(known.weight_average)


@pytest.mark.parametrize(
    "model",
    [
        "convnet(width=4, depth=2)",
        "convnet(width=4, depth=1, norm='batch')",
        "convnet(width=4, norm='none')",
        "mlp(width=6)",
        "lenet",
    ],
)
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (17, 19, 1)])
def test_layers_are_those_of_the_network(model, shape, of):
    """Names and shapes of all parameters, turned as PyTorch has them."""
    found = {}
    for line in layers(model, shape, 10).lines:
        name, kind, numbers = re.match(r"(\w+)=(?:nn\.)?(\w+)\((.*)\)", line).groups()
        numbers = [int(n) for n in re.findall(r"\d+", numbers)]
        if kind == "Conv2d":
            found |= {f"{name}/kernel": (numbers[2], numbers[2], numbers[0], numbers[1]), f"{name}/bias": (numbers[1],)}
        elif kind == "Linear":
            found |= {f"{name}/kernel": (numbers[0], numbers[1]), f"{name}/bias": (numbers[1],)}
        elif "Norm" in kind:
            found |= {f"{name}/{leaf}": (numbers[-1],) for leaf in ("scale", "bias")}
    theta = jax.eval_shape(models.build(model, shape, 10).init, key_of(0))[0]
    assert found == {name: leaf.shape for name, leaf in leaves_by_path(theta).items()}


@pytest.mark.parametrize(
    "model", ["resnet10", "wide_convnet(width=8)", "my.module:net", "convnet(depht=3)", "</script>("]
)
def test_another_network_is_a_convnet_and_that_is_said(model, of):
    program = training_scripts(of(), [{**ROW, "model": model}])["train_torch.py"]
    compile(program, "program", "exec")
    assert "conv_2" in program and program.count("is no ") == 2 and "but a ConvNet" in program


def test_a_set_is_trained_as_it_was_distilled_for(of, tmp_path):
    theta = leaves_by_path(models.build("mlp(width=4, depth=1)", (14, 14, 1), 10).init(key_of(0))[0])
    own = {"plan": np.arange(20, dtype=np.int32).reshape(2, 10), "learning_rates": np.float32([0.1, 0.02])}
    row = {**ROW, "model": "mlp(width=4, depth=1)", "protocol": "as-distilled", "learning_rate": 0.3, "networks": 1}
    for more in ({}, {"theta0": theta}):
        program = written(tmp_path, of("raw", **own, **more), [row])["train_torch.py"]
        compile(program, "program", "exec")
        assert "FACTOR = 0.3" in program and "STEPS" not in program
        assert ("theta0." in program) == bool(more)


def test_what_was_not_measured_is_trained_as_the_file_says(of):
    program = training_scripts(of(), [{"name": "distilled", "kernel_accuracy": 0.6}])["train_torch.py"]
    assert "jaxdd measured no networks on this set. Kernel regression on the set reached 60.0" in program
    assert facts(program)["RATE"] == 1e-3 and "dense_1=nn.Linear" in program  # quick without validation, an MLP
    unknown = dataclasses.replace(of(), header={**of().header, "protocol": "mine"})
    assert "protocol 'mine' is not known here, this is 'default'" in training_scripts(unknown, [])["train_torch.py"]


@pytest.mark.parametrize(
    "evil", ['"""\nimport os; os.abort()\n"""', "\\", "'); exit(); ('", "a\nb", "{{ 7 * 7 }}", "\x00"]
)
def test_names_from_outside_stay_text(evil, of):
    dataset = of()
    header = {**dataset.header, "method": evil, "protocol": evil, "model": evil}
    header["data"] = {**header["data"], "name": evil}
    rows = [{**ROW, "model": evil, "protocol": evil}]
    own = {name: ast.parse(text) for name, text in training_scripts(dataset, [ROW]).items()}
    for name, text in training_scripts(dataclasses.replace(dataset, header=header), rows).items():
        calls, known = (
            {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            for tree in (ast.parse(text), own[name])
        )
        assert calls <= known and "49" not in text.replace(json.dumps(evil), "")
