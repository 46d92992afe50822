"""What people type and write in configs: taken, or refused in their words."""

import jax
import pytest
from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli import distill, main
from jaxdd.cli import list as list_
from jaxdd.errors import JaxddError


def parsed(*line):
    values = flags.FlagValues()
    distill.define(values)
    return values, configs.parse(values, "distill", list(line))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--seed=1"], "unknown option '--seed'; did you mean --config.seed=VALUE?"),
        (["--ipc=10"], "unknown option '--ipc'; did you mean --config.method.ipc=VALUE?"),
        (["--wrkdir=x"], "unknown option '--wrkdir'; did you mean '--workdir'?"),
        (["--config.method.ipcc=3"], "unknown field of the config 'method.ipcc'; did you mean 'method.ipc'?"),
        (["--config.method=3"], "config.method is a section; set one of its fields, --config.method.FIELD=VALUE"),
        (["--config.run.steps=1e3"], "--config.run.steps=1e3: this takes a whole number"),
        (["--config.data.validation=x"], "--config.data.validation=x: this takes a number"),
        (["--config.method.float64=maybe"], "--config.method.float64=maybe: this takes true or false"),
        (["--resume=maybe"], "--resume=maybe: this takes true or false"),
        (["--evaluate=all"], "--evaluate=all: this takes one of none, kernel, quick, full"),
        (["--config.seed"], "Missing value for flag --config.seed"),
        (["--config=dm"], "--config is there 2 times: give it once"),
        (["--config.seed=1", "--config.seed=2"], "--config.seed is there 2 times: give it once"),
    ],
)
def test_what_is_typed_wrongly(line, sentence):
    with pytest.raises(JaxddError) as caught:
        parsed("--config=kip", *line)
    assert str(caught.value).startswith(sentence)


def test_a_name_in_another_case_is_the_nearest():
    with pytest.raises(JaxddError, match="did you mean 'kip'"):
        parsed("--config=KIP")


def test_one_dash_a_space_and_none_are_taken():
    values, rest = parsed(
        "-config", "dm:smoke", "-config.run.log_every=None", "--noconfig.data.stream", "-workdir=x", "y"
    )
    assert values.config.method.name == "dm" and values.config.run.log_every is None and rest == ["y"]
    assert values.config.data.stream is False and values.workdir == "x"


def test_a_budget_in_bytes_is_a_field_where_it_is_given(tmp_path):
    values, _ = parsed("--config=kip", "--config.method.bytes=40000", "--config.method.init=a.safetensors+noise")
    assert values.config.method.bytes == 40000 and values.config.method.init == "a.safetensors+noise"
    assert "bytes" not in parsed("--config=kip")[0].config.method
    with pytest.raises(JaxddError, match=r"unknown field of the config 'method.bytes'"):
        parsed("--config=krr_st", "--config.method.bytes=40000")
    assert configs.template("kip", method={"bytes": 40000}).method.bytes == 40000
    with pytest.raises(JaxddError, match=r"a.safetensors: there is no such file"):
        configs.template("kip", method={"init": str(tmp_path / "a.safetensors")})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def get_config():\n    x = {}\n    return x['abc']\n", "{}:3: KeyError: 'abc'"),
        ("import nothere\n", "{}:1: ModuleNotFoundError: No module named 'nothere'"),
        ("x = 1\ndef get_config(:\n", "{}:2: SyntaxError: invalid syntax"),
        ("x = 1\n", "{}: AttributeError: module 'mine' has no attribute 'get_config'"),
        ("def get_config(): return 3\n", "{}: get_config must return a ConfigDict, got int"),
    ],
)
def test_a_config_that_fails_says_where(text, sentence, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(JaxddError) as caught:
        parsed(f"--config={path}")
    assert str(caught.value) == sentence.format(path)


def test_home_is_where_people_say(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def get_config(preset='a'): return {'method': {'name': preset}}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, preset in (("~/mine.py", "a"), ("~/mine.py:b", "b")):
        values, _ = parsed(f"--config={name}")
        assert values.config.method.name == preset


@pytest.mark.parametrize("raised", [AssertionError(), RuntimeError("Unable to initialize backend")])
def test_a_platform_that_is_not_there_is_one_sentence(raised, monkeypatch, capsys):
    """JAX raises the one for a plugin that is not installed and the other for a name that nobody knows."""
    there, before = jax.devices(), jax.config.jax_platforms

    def devices():
        if jax.config.jax_platforms == "cudda":
            raise raised
        return there

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(list_, "run", lambda *args: jax.devices())
    jax.config.update("jax_platforms", "cudda")
    try:
        assert main(["list"]) == 2
    finally:
        jax.config.update("jax_platforms", before)
    said = capsys.readouterr().err
    assert said.startswith("jaxdd: JAX_PLATFORMS asks for 'cudda', and JAX finds no such device: there is cpu.")
    assert said.count("\n") == 1
