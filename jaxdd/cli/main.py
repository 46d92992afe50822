"""Commands and their flags. Each is a few lines over `jaxdd.cli.pipeline`, which notebooks may call too."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError, RunInterrupted, unknown

EVALUATE = ("none", "kernel", "quick", "full")  # pipeline.EVALUATIONS, without importing it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 after bad input, 128 + signal after an interruption."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs tracebacks of what becomes one sentence below
    _warn_in_our_name()
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, _terminate)
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
    except BrokenPipeError:  # the reader of our output, `head` for one, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _warn_in_our_name() -> None:
    log = logging.getLogger("jaxdd")
    if not log.handlers:
        handler = logging.StreamHandler()
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
    define, run = _COMMANDS[name]
    values = flags.FlagValues()
    define(values)
    if any(arg in ("-h", "--help") for arg in rest):
        print(f"{run.__doc__}\n\n{values.get_help()}")
        return 0
    run(values, configs.parse(values, name, rest), shlex.join(["jaxdd", *arguments]))
    _advise()
    return 0


def _advise() -> None:
    if "jaxdd.models" in sys.modules:  # some commands import no JAX
        from jaxdd.models.conv import advice

        if line := advice():
            print(line, file=sys.stderr)


def _usage() -> str:
    lines = [f"  jaxdd {name:<9} {(run.__doc__ or '').splitlines()[0]}" for name, (_, run) in _COMMANDS.items()]
    return "\n".join(
        ["jaxdd: dataset distillation in JAX", "", *lines, "", "jaxdd COMMAND --help lists a command's options."]
    )


def _one(positional: list[str], what: str) -> str:
    if len(positional) != 1:
        raise JaxddError(f"give exactly one {what}, got {len(positional)}.")
    return positional[0]


def _none(positional: list[str]) -> None:
    if positional:
        raise JaxddError(f"unexpected argument {positional[0]!r}; options are written --name=VALUE.")


def _show(renderable: Any, *, to_stderr: bool = False) -> None:
    from rich.console import Console

    Console(stderr=to_stderr, soft_wrap=not sys.stdout.isatty()).print(renderable)


def _evaluation_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_bool(
        "full_data",
        False,
        "also measure networks trained on all real data (slow once, then cached)",
        flag_values=values,
    )
    flags.DEFINE_bool("json", False, "print the result as one JSON object on the last line", flag_values=values)


def _finish(values: flags.FlagValues, result: dict[str, Any], rows: list[dict[str, Any]], title: str) -> None:
    from jaxdd.report import comparison_table

    if rows:
        _show(comparison_table(rows, title), to_stderr=values.json)
    if values.json:
        print(json.dumps(result))


def _distill_flags(values: flags.FlagValues) -> None:
    configs.define_config(values)
    flags.DEFINE_string("workdir", None, "directory for the run and its results", flag_values=values)
    flags.DEFINE_bool("resume", False, "go on with the run in --workdir, bit for bit", flag_values=values)
    flags.DEFINE_enum("evaluate", "quick", EVALUATE, "how much evaluation at the end", flag_values=values)
    flags.DEFINE_bool("tensorboard", False, "also write TensorBoard files", flag_values=values)
    flags.DEFINE_string(
        "distributed",
        None,
        "one of several processes that share the run: auto (SLURM, Open MPI, Cloud TPU, Kubernetes) or "
        "HOST:PORT,COUNT,INDEX",
        flag_values=values,
    )
    _evaluation_flags(values)


def _distill(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Distil a data set as a config says, evaluate it and write the report.

    jaxdd distill --config=kip --workdir=DIR [--config.method.ipc=10 ..] [--resume]
    """
    from jaxdd import engine
    from jaxdd.cli.pipeline import distill

    _none(positional)
    for name in ("config", "workdir"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd distill --config=kip --workdir=DIR.")
    if values.distributed:
        engine.connect(None if values.distributed == "auto" else values.distributed)
    outcome = distill(
        configs.plain(values.config),
        values.workdir,
        resume=values.resume,
        evaluate=values.evaluate,
        full_data=values.full_data,
        tensorboard=values.tensorboard,
        command=command,
    )
    if not engine.is_first():
        return
    _finish(values, outcome.result, outcome.rows, f"{values.workdir}: {outcome.summary}")
    if not values.json:
        print(f"{outcome.path}\n{outcome.path.parent / 'report.html'}")


def _plan_flags(values: flags.FlagValues) -> None:
    configs.define_config(values)
    flags.DEFINE_string(
        "budget", None, "memory of each device, such as 4GiB; by default what there is", flag_values=values
    )
    flags.DEFINE_bool("json", False, "print the result as one JSON object on the last line", flag_values=values)


def _plan(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Say what a run will cost in memory and time, and the setting that fits. Writes nothing.

    jaxdd plan --config=kip [--config.method.ipc=10 ..] [--budget=4GiB]
    """
    from jaxdd.cli.planning import parse_bytes, plan

    _none(positional)
    if not values.config:
        raise JaxddError("--config is missing: jaxdd plan --config=kip.")
    budget = None if values.budget is None else parse_bytes(values.budget)
    planned = plan(configs.plain(values.config), budget=budget)
    _show(planned.tables(), to_stderr=values.json)
    print(planned.advice(), file=sys.stderr if values.json else sys.stdout)
    if values.json:
        print(json.dumps(planned.as_dict()))


def _evaluate_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "model", None, "network to train, see jaxdd list; by default as the file says", flag_values=values
    )
    flags.DEFINE_integer("seeds", 5, "networks to train", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "data", None, "data set to test on; by default the one it was distilled from", flag_values=values
    )
    flags.DEFINE_bool("stream", False, "leave the data's images in their files", flag_values=values)
    flags.DEFINE_string(
        "protocol", None, "how networks are trained, see jaxdd list; by default as the file says", flag_values=values
    )
    flags.DEFINE_float("learning_rate", None, "fix the protocol's learning rate", lower_bound=0.0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the networks", flag_values=values)
    _evaluation_flags(values)


def _evaluate(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Train fresh networks on a distilled set, beside random real images.

    jaxdd evaluate DIR_OR_FILE [--model='convnet(width=32)' --seeds=5 --data=NAME]
    """
    from jaxdd.cli.pipeline import evaluate

    path = _one(positional, "directory or distilled file")
    outcome = evaluate(
        path,
        model=values.model,
        networks=values.seeds,
        data_name=values.data,
        stream=values.stream,
        protocol=values.protocol,
        learning_rate=values.learning_rate,
        seed=values.seed,
        full_data=values.full_data,
    )
    _finish(values, outcome.result, outcome.rows, f"{path}: {outcome.summary}")


def _no_flags(values: flags.FlagValues) -> None:
    del values


def _show_file(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Say what is in a distilled file.

    jaxdd show FILE
    """
    from jaxdd.cli.pipeline import distilled_file
    from jaxdd.report import describe
    from jaxdd.synthetic import DistilledDataset

    _show(describe(DistilledDataset.read(distilled_file(_one(positional, "directory or distilled file")))))


def _export_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("npz", None, "write a NumPy file here", flag_values=values)
    flags.DEFINE_string("png", None, "write a folder of PNG files and labels.csv here", flag_values=values)


def _export(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Write a distilled file as .npz or as a folder of pictures.

    jaxdd export FILE [--npz=OUT.npz] [--png=FOLDER]
    """
    from jaxdd.cli.pipeline import distilled_file
    from jaxdd.report import to_npz, to_png_folder
    from jaxdd.synthetic import DistilledDataset

    if not (values.npz or values.png):
        raise JaxddError("say where to: --npz=OUT.npz, --png=FOLDER, or both.")
    dataset = DistilledDataset.read(distilled_file(_one(positional, "directory or distilled file")))
    if values.npz:
        to_npz(dataset, values.npz)
        print(values.npz)
    if values.png:
        clipped = to_png_folder(dataset, values.png)
        print(f"{values.png} ({clipped:.1%} of the pixels lay outside the range of a picture and were clipped)")


def _stages_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_float(
        "prune", None, "delete those used longest ago, until so many GiB are left", lower_bound=0.0, flag_values=values
    )
    flags.DEFINE_bool("json", False, "print the stages as one JSON list on the last line", flag_values=values)


def _stages(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """List what stages have left in the cache (JAXDD_CACHE_DIR), or make room there.

    jaxdd stages [--prune=GIB]
    """
    from jaxdd.engine import cache
    from jaxdd.report import stages_table

    _none(positional)
    gone = [] if values.prune is None else cache.make_room(0, bound=values.prune * 2**30)
    for entry in gone:
        print(f"deleted {entry.directory}", file=sys.stderr)
    there = cache.entries()
    _show(stages_table(there, str(cache.folder())), to_stderr=values.json)
    if values.json:
        print(json.dumps([{**entry._asdict(), "directory": str(entry.directory)} for entry in there]))


def _list_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("methods", False, "only the names of the methods, one a line", flag_values=values)


def _list(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """List methods, data sets, models, protocols and configs."""
    if values.methods:
        from jaxdd import methods

        _none(positional)
        print("\n".join(methods.available()))
        return
    from rich.table import Table
    from rich.text import Text

    from jaxdd import data, evaluation, methods, models

    _none(positional)
    known = {
        "methods": methods.available(),
        "data sets": data.available(),
        "models": models.available(),
        "protocols": evaluation.protocols.available(),
        "configs": {name: configs.describe(path) for name, path in configs.shipped().items()},
    }
    for title, entries in known.items():
        table = Table("name", "what", title=title, title_justify="left", box=None, pad_edge=False)
        for name, text in entries.items():
            table.add_row(Text(name), Text(text))
        _show(table)
        print()


_COMMANDS: dict[str, tuple[Callable, Callable]] = {
    "distill": (_distill_flags, _distill),
    "plan": (_plan_flags, _plan),
    "evaluate": (_evaluate_flags, _evaluate),
    "show": (_no_flags, _show_file),
    "export": (_export_flags, _export),
    "stages": (_stages_flags, _stages),
    "list": (_list_flags, _list),
}
