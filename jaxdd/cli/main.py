"""The command line: finds the command, and ends in an exit status and one sentence if it fails."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from absl import flags

from jaxdd import _progress
from jaxdd.cli import config as configs
from jaxdd.cli import distill, evaluate, export, plan, push, quantize, resume, select, show, stages, sweep, table
from jaxdd.cli import list as list_
from jaxdd.cli.printing import printing
from jaxdd.cli.speaking import speaking
from jaxdd.errors import JaxddError, RunInterrupted, unknown

# Each has `define(flags)` and `run(flags, positional, command)`, whose docstring is its help. One that computes has
# `SPEAKS = True` and says what goes on; one that knows its config by other words has `prepare(arguments)`, one with
# flags of another kind `parse(flags, name, arguments)`.
_COMMANDS: dict[str, ModuleType] = {
    "distill": distill,
    "resume": resume,
    "select": select,
    "sweep": sweep,
    "plan": plan,
    "evaluate": evaluate,
    "table": table,
    "show": show,
    "export": export,
    "push": push,
    "quantize": quantize,
    "stages": stages,
    "list": list_,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 after bad input, 128 + signal after an interruption."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs tracebacks of what becomes one sentence below
    _warn_in_our_name()
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, _terminate)
    with printing():
        return _status(arguments)


def _status(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except JaxddError as error:
        print(f"jaxdd: {str(error).rstrip('.')}.", file=sys.stderr)
        return 2
    except RunInterrupted as interrupted:
        print(f"jaxdd: {interrupted}", file=sys.stderr)
        return 128 + interrupted.signum
    except KeyboardInterrupt:
        print("jaxdd: interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    except (RuntimeError, AssertionError):
        if not (sentence := _missing_platform()):
            raise
        print(f"jaxdd: {sentence}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` for one, has left
        return 0


def _missing_platform() -> str | None:
    if "jax" not in sys.modules:
        return None
    from jaxdd._jax import missing_platform

    return missing_platform()


class _ToStderr(logging.StreamHandler):
    """To what standard error is when something is said: what moves on a terminal must know of it."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        del value


def _warn_in_our_name() -> None:
    log = logging.getLogger("jaxdd")
    if not log.handlers:
        handler = _ToStderr()
        handler.setFormatter(logging.Formatter("jaxdd: %(message)s"))
        log.addHandler(handler)


def _terminate(signum: int, frame: Any) -> None:
    raise RunInterrupted("interrupted.", signum)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        import jaxdd

        print(jaxdd.__version__)
        return 0
    name, *rest = arguments
    if name not in _COMMANDS:
        raise unknown("command", name, _COMMANDS)
    chosen = _COMMANDS[name]
    values = flags.FlagValues()
    chosen.define(values)
    if any(arg in ("-h", "--help") for arg in rest):
        print(f"{chosen.run.__doc__}\n\n{values.get_help()}")
        return 0
    with speaking() if getattr(chosen, "SPEAKS", False) else contextlib.nullcontext():
        with _progress.phase("starting"):
            prepare = getattr(chosen, "prepare", lambda arguments: arguments)
            parse = getattr(chosen, "parse", configs.parse)
            positional = parse(values, name, prepare(rest))
        chosen.run(values, positional, shlex.join(["jaxdd", *arguments]))
    _advise()
    return 0


def _advise() -> None:
    if "jaxdd.models" in sys.modules:  # some commands import no JAX
        from jaxdd.models.conv import advice

        if line := advice():
            print(line, file=sys.stderr)


def _usage() -> str:
    lines = [f"  jaxdd {name:<9} {(chosen.run.__doc__ or '').splitlines()[0]}" for name, chosen in _COMMANDS.items()]
    return "\n".join(
        ["jaxdd: dataset distillation in JAX", "", *lines, "", "jaxdd COMMAND --help lists a command's options."]
    )
