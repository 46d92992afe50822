"""Config files and flags: where ml_collections and absl end and plain dicts begin."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import re
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

import jaxdd
from jaxdd._dotted import is_dotted
from jaxdd._files import expanded, read_object
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import RETIRED


def shipped() -> dict[str, pathlib.Path]:
    """The configs of methods that came with the package, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.py"))}


def rules() -> dict[str, str]:
    """The selections that came with the package, by name: what `load` takes for each."""
    path = _folder() / "selection" / "rules.py"
    return {name: f"{path}:{name}" for name in (module_of(path).RULES if path.exists() else ())}


def _folder() -> pathlib.Path:
    package = pathlib.Path(jaxdd.__file__).parent
    return next((each for each in (package / "configs", package.parent / "configs") if each.is_dir()), package)


def module_of(path: pathlib.Path) -> types.ModuleType:
    """A config file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def describe(path: pathlib.Path) -> str:
    """First line of a config's docstring."""
    return (module_of(path).__doc__ or "").strip().splitlines()[0]


def read(name: str, preset: str | None = None) -> dict[str, Any]:
    """A shipped config as nested plain dicts, in one of its presets or as it comes.

    Raises:
      JaxddError: for an unknown config or preset.
    """
    known = shipped()
    if name not in known:
        raise unknown("config", name, known)
    return load(str(known[name]) if preset is None else f"{known[name]}:{preset}").to_dict()


def find(name: str) -> tuple[pathlib.Path, str | None]:
    """A config file and its preset, from a path or the bare name of a shipped one, either with `:PRESET` or without."""
    if (path := expanded(name)).is_file():
        return path, None
    name, colon, preset = name.partition(":")
    chosen, known = preset if colon else None, shipped()
    if (path := expanded(name)).is_file():
        return path, chosen
    for stem, file in known.items():
        if name in (stem, f"configs/{stem}.py"):
            return file, chosen
    if name in rules():
        raise JaxddError(f"{name} selects real examples: jaxdd select --config={name}")
    raise unknown("config (neither a file nor the name of a shipped one)", name, known)


def template(name: str, /, *, seed: int = 0, **sections: Mapping[str, Any]) -> ConfigDict:
    """A complete config of a method, every field of it open to `--config.a.b=VALUE`.

    Args:
      name: of the method.
      **sections: `method`, `data`, `run`, `execution`, `evaluation`: what is to differ from the defaults.

    Raises:
      JaxddError: for an unknown method, section or field (the nearest one is named).
    """
    from jaxdd import methods
    from jaxdd.workflows import complete, settled

    hyper = {"name": name, **methods.fields(name), **sections.get("method", {})}
    full = complete({"seed": seed, **sections, "method": hyper})
    written = {key: value for key, value in full["method"].items() if key != "name"}
    settled.check(name, written)  # what cannot be built is said where it is written
    full["method"] = methods.fields(name, **full["method"])
    kinds = methods.field_types(name)
    if kinds.get("ipc") is int and not is_dotted(name):
        kinds["ipc"] = int | tuple[int, ...]  # what does not take numbers by class says who does
    for title, section in full.items():
        if isinstance(section, dict):
            for field, value in section.items():
                if title == "method":
                    section[field] = _open_to_flags(value, kinds.get(field, Any))
                elif title == "execution" and field in ("block", "side_by_side"):
                    section[field] = config_dict.FieldReference(value, field_type=object)
                elif value is None:
                    text = field in ("model", "keep")
                    section[field] = config_dict.FieldReference(None, field_type=str if text else object)
    return ConfigDict(full)


def selection(name: str = "", /, *, seed: int = 0, **sections: Mapping[str, Any]) -> ConfigDict:
    """A complete config of a selection, every field of it open to `--config.a.b=VALUE`.

    Args:
      name: of the rule, one of `selection.choose`; "" for that of `sections`.
      **sections: `select`, `network`, `data`, `evaluation`: what is to differ from the defaults.

    Raises:
      JaxddError: for an unknown rule, section or field (the nearest one is named).
    """
    from jaxdd.workflows.select import complete

    chosen = {**({"rule": name} if name else {}), **sections.get("select", {})}
    full = complete({"seed": seed, **sections, "select": chosen})
    for section in full.values():
        if isinstance(section, dict):
            for field, value in section.items():
                if value is None:
                    text = field in ("model", "keep")
                    section[field] = config_dict.FieldReference(None, field_type=str if text else object)
    return ConfigDict(full)


def _open_to_flags(value: Any, kind: Any) -> Any:
    """A hyper-parameter that a flag can set to whatever its annotated type allows: `methods.build` says what does not.

    Of themselves flags go by the type that the value has, and None has none.
    """
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    allowed = [typing.get_origin(each) or each for each in (typing.get_args(kind) if union else (kind,))]
    several = type(None) in allowed or (union and tuple in allowed)
    if (type(value) in allowed and not several) or (kind is Any and value is not None):
        return value
    text = set(allowed) <= {str, type(None)}  # which is not to be read as a Python literal
    return config_dict.FieldReference(value, field_type=str if text else object)


def preset(presets: Mapping[str, Any], name: str) -> Any:
    """One of a config's presets, for `--config=FILE:NAME`. Raises JaxddError for an unknown name."""
    if name not in presets:
        raise unknown("preset of this config", name, presets)
    return presets[name]


def smoke(steps: int, /, **method: Any) -> dict[str, Any]:
    """The preset `smoke` of a config: all of the way on the embedded digits, in a minute or less on two cores.

    Args:
      steps: updates.
      method: hyper-parameters that make them small.
    """
    return {
        "method": method,
        "data": {"name": "mnist_5k"},
        "run": {"steps": steps},
        "evaluation": {"networks": 2},
    }


@contextlib.contextmanager
def argv(arguments: list[str]) -> Iterator[None]:
    """config_flags reads the overrides from sys.argv, whatever arguments the flags are given."""
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def parse(values: flags.FlagValues, command: str, arguments: Sequence[str]) -> list[str]:
    """Parse flags into `values` and return the positional arguments.

    Raises:
      JaxddError: for a config that fails (with file and line), an unknown flag or config field (with the nearest one),
        a flag that is there twice, or a value of the wrong type.
    """
    # absl takes one dash for two, and a space for an equals sign; what reads the fields of a config does not.
    line = [re.sub(r"^-(?=[A-Za-z]\w)", "--", argument) for argument in arguments]
    while "--config" in line[:-1]:
        at = line.index("--config")
        line[at : at + 2] = [f"--config={line[at + 1]}"]
    _once(line)
    config = None
    given = [argument for argument in line if argument.startswith("--config=")]
    if given and "config" in values:
        config = load(given[0].removeprefix("--config="))
        line = [_moved(argument, config) for argument in line if argument not in given]
        _open_budget(config, line)
        for argument in line:
            check_field(argument, config)
    line = [f"jaxdd {command}", *line]
    try:
        with argv(line):
            if config is not None:
                delattr(values, "config")
                config_flags.DEFINE_config_dict("config", config, flag_values=values)
            return values(line)[1:]
    except flags.UnrecognizedFlagError as error:
        called = [f"--config.{field}=VALUE" for field in _fields(config) if field.split(".")[-1] == error.flagname]
        if called:
            raise JaxddError(f"unknown option '--{error.flagname}'; did you mean {called[0]}?") from error
        raise unknown("option", f"--{error.flagname}", [f"--{name}" for name in values]) from error
    except Exception as error:  # both raise what comes
        raise JaxddError(f"{said_of_value(str(error))} (jaxdd {command} --help lists the options)") from error


def load(name: str) -> ConfigDict:
    """What `get_config` of a config file returns, or of a shipped one by its name; either with `:PRESET`. Or what a run
    has left of its config, in its `command.json` or `results.json`.

    Raises:
      JaxddError: if there is none, or it fails: which file, and which line.
    """
    path, chosen = find(name)
    if path.suffix == ".json":
        return _of_a_run(path)
    try:
        config = module_of(path).get_config(*([] if chosen is None else [chosen]))
    except JaxddError:
        raise
    except Exception as error:  # it is a program, and may fail as any program
        if chosen is not None and "takes 0 positional arguments" in str(error):
            raise JaxddError(f"{path}: this config has no presets") from error
        raise JaxddError(f"{_place(path, error)}: {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(config, ConfigDict | Mapping):
        raise JaxddError(f"{path}: get_config must return a ConfigDict, got {type(config).__name__}")
    return config if isinstance(config, ConfigDict) else ConfigDict(dict(config))


def _of_a_run(path: pathlib.Path) -> ConfigDict:
    """The config that a run has left in its `command.json` or `results.json`."""
    found = read_object(path) or {}
    try:
        config = dict(found["record"]["config"] if "record" in found else found["config"])
        name, seed, _ = config["method"]["name"], config.pop("seed"), config["data"]["name"]
    except (KeyError, TypeError):
        raise JaxddError(
            f"{path} holds no config; a config is a Python file, or the command.json or results.json of a run"
        ) from None
    return template(name, seed=seed, **config)


def _place(path: pathlib.Path, error: Exception) -> str:
    """Where a config file fails, `FILE:LINE`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _first_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return (text or "").strip().split("\n")[0].rstrip(".")


def _once(arguments: Sequence[str]) -> None:
    """Raises JaxddError for an option that is there twice, of which nobody knows which is meant."""
    names = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    for name in names:
        if names.count(name) > 1:
            raise JaxddError(f"{name} is there {names.count(name)} times: give it once")


def _fields(config: ConfigDict | None) -> list[str]:
    """The paths of a config's fields, `section.field`."""
    found = []
    for name, value in (config or {}).items():
        found += [f"{name}.{field}" for field in _fields(value)] if isinstance(value, ConfigDict) else [name]
    return found


def _moved(argument: str, config: ConfigDict) -> str:
    """A flag; if its field is one of the section `execution` now, see `types.RETIRED`, that of the new one."""
    name, equals, value = argument.partition("=")
    places = {f"--config.method.{field}": newer for field, newer in RETIRED.items()}
    newer = {**places, "--config.run.precision": "precision"}.get(name)
    if newer is None or name.removeprefix("--config.") in _fields(config):
        return argument
    newer = f"--config.execution.{newer}"
    warnings.warn(f"{name} is now {newer}{equals}{value}.", DeprecationWarning, stacklevel=4)
    return f"{newer}{equals}{value}"


def _open_budget(config: ConfigDict, arguments: Sequence[str]) -> None:
    """A budget in bytes stands in place of `ipc` where it is given, and is no field of a config else."""
    method = config.get("method")
    given = any(argument.partition("=")[0] == "--config.method.bytes" for argument in arguments)
    if given and isinstance(method, ConfigDict) and "ipc" in method and "bytes" not in method:
        with config.unlocked():
            method["bytes"] = config_dict.FieldReference(None, field_type=object)


def check_field(argument: str, config: ConfigDict) -> None:
    """Raises JaxddError for `--config.a.b` that the config has not, with the nearest field that it has."""
    found = re.match(r"--(?:no)?config\.([\w.]+)", argument)
    known = _fields(config)
    sections = [name for name, value in config.items() if isinstance(value, ConfigDict)]
    if found and found[1] not in known:
        if found[1] in sections:
            raise JaxddError(f"config.{found[1]} is a section; set one of its fields, --config.{found[1]}.FIELD=VALUE")
        if any(found[1].startswith(f"{field}.") for field in known):  # within what a flag does not know
            return
        raise unknown("field of the config", found[1], known)


_KINDS = {
    "invalid literal for int()": "takes a whole number",
    "could not convert string to float": "takes a number",
    "Non-boolean argument": "takes true or false",
    "value should be one of": "takes one of",
}


def said_of_value(text: str) -> str:
    """What absl says of a flag's value, in people's words."""
    flag, _, reason = " ".join(text.split()).rstrip(".").removeprefix("flag ").partition(": ")
    kind = next((kind for start, kind in _KINDS.items() if start in reason), reason)
    if kind == "takes one of":
        kind += " " + reason.partition("<")[2].rstrip(">").replace("|", ", ")
    return f"{flag}: this {kind}" if kind.startswith("takes") else f"{flag}: {kind}" if kind else flag


def define_config(values: flags.FlagValues) -> None:
    """The flag --config, which becomes the config itself once it is known."""
    flags.DEFINE_string(
        "config",
        None,
        "a config file or the name of a shipped one; --config.a.b=VALUE overrides a field",
        flag_values=values,
    )
