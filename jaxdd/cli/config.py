"""Config files and flags: where ml_collections and absl end and plain dicts begin."""

from __future__ import annotations

import contextlib
import importlib.util
import pathlib
import sys
import types
import typing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

import jaxdd
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import RETIRED


def shipped() -> dict[str, pathlib.Path]:
    """The configs that came with the package, by name."""
    package = pathlib.Path(jaxdd.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}


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
    config = module_of(known[name])
    return plain(config.get_config(*([] if preset is None else [preset])))


def find(name: str) -> str:
    """A config file from a path or from the bare name of a shipped one, either with `:PRESET` for its get_config."""
    if pathlib.Path(name).is_file():
        return name
    name, colon, preset = name.partition(":")
    known = shipped()
    if pathlib.Path(name).is_file():
        return f"{name}{colon}{preset}"
    for stem, path in known.items():
        if name in (stem, f"configs/{stem}.py"):
            return f"{path}{colon}{preset}"
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
    from jaxdd.workflows import complete

    hyper = {"name": name, **methods.fields(name), **sections.get("method", {})}
    full = complete({"seed": seed, **sections, "method": hyper})
    methods.build(**full["method"])  # what cannot be built is said where it is written
    full["method"] = methods.fields(name, **full["method"])
    kinds = methods.field_types(name)
    for title, section in full.items():
        if isinstance(section, dict):
            for field, value in section.items():
                if title == "method":
                    section[field] = _open_to_flags(value, kinds.get(field, Any))
                elif title == "execution" and field in ("block", "side_by_side"):
                    section[field] = config_dict.FieldReference(value, field_type=object)
                elif value is None:
                    section[field] = config_dict.placeholder(str if field == "model" else int)
    return ConfigDict(full)


def _open_to_flags(value: Any, kind: Any) -> Any:
    """A hyper-parameter that a flag can set to whatever its annotated type allows: `methods.build` says what does not.

    Of themselves flags go by the type that the value has, and None has none.
    """
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    allowed = [typing.get_origin(each) or each for each in (typing.get_args(kind) if union else (kind,))]
    if (type(value) in allowed and type(None) not in allowed) or (kind is Any and value is not None):
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
def _argv(arguments: list[str]) -> Iterator[None]:
    # config_flags reads the overrides from sys.argv, whatever arguments the flags are given.
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def parse(values: flags.FlagValues, command: str, arguments: Sequence[str]) -> list[str]:
    """Parse flags into `values` and return the positional arguments.

    Raises:
      JaxddError: for an unknown flag or config field (with the nearest one) or a value of the wrong type.
    """
    line = [f"jaxdd {command}", *arguments]
    if "config" in values:
        while "--config" in line[:-1]:  # written with a space
            at = line.index("--config")
            line[at : at + 2] = [f"--config={line[at + 1]}"]
        line = [f"--config={find(arg[len('--config=') :])}" if arg.startswith("--config=") else arg for arg in line]
    try:
        with _argv(line):
            return values(line)[1:]
    except flags.UnrecognizedFlagError as error:
        raise unknown("option", f"--{error.flagname}", [f"--{name}" for name in values]) from error
    except Exception as error:  # a config file is a program, and may fail as any program
        if ours := _ours(error):
            raise ours from error
        for argument in line:
            if argument.startswith("--config=") and "get_config() takes 0 positional arguments" in str(error):
                raise JaxddError(f"{argument.removeprefix('--config=')!r}: this config has no presets.") from error
        field = str(error.args[0]).strip("'\"") if error.args else ""
        if isinstance(error, AttributeError | KeyError) and field.isidentifier():
            if (newer := _moved(line[1:], field)) != line[1:]:
                for name in [name for name in values if name.startswith("config.")]:
                    delattr(values, name)  # of this attempt
                return parse(values, command, newer)
            raise JaxddError(f"the config has no field {field!r}.") from error
        text = " ".join(str(error.args[0] if error.args else error).split()).rstrip(".")
        kind = "" if isinstance(error, flags.Error | AttributeError | KeyError) else f"{type(error).__name__}: "
        raise JaxddError(f"{kind}{text} (jaxdd {command} --help lists the options).") from error


def _moved(arguments: list[str], field: str) -> list[str]:
    """Flags with that of a field which is one of the section `execution` now, see `types.RETIRED`, in its place."""
    places = {f"--config.method.{field}=": RETIRED.get(field)}
    if field == "precision":
        places["--config.run.precision="] = "precision"
    found = []
    for argument in arguments:
        for old, new in places.items():
            if new is not None and argument.startswith(old):
                argument = f"--config.execution.{new}={argument.removeprefix(old)}"
                warnings.warn(f"{old.rstrip('=')} is now {argument}.", DeprecationWarning, stacklevel=4)
        found.append(argument)
    return found


def _ours(error: BaseException | None) -> JaxddError | None:
    """The innermost sentence for people in a chain of exceptions; config_flags puts tracebacks around it."""
    found = None
    while error is not None:
        found = error if isinstance(error, JaxddError) else found
        error = error.__cause__ or error.__context__
    return found


def define_config(values: flags.FlagValues) -> None:
    config_flags.DEFINE_config_file(
        "config",
        None,
        "a config file or the name of a shipped one; --config.a.b=VALUE overrides a field",
        flag_values=values,
    )


def plain(config: Any) -> dict[str, Any]:
    """What a config file's `get_config` returned, as nested plain dicts."""
    if isinstance(config, ConfigDict):
        return config.to_dict()
    if isinstance(config, Mapping):
        return dict(config)
    raise JaxddError(f"get_config of a config must return a ConfigDict, got {type(config).__name__}.")
