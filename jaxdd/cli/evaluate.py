"""`jaxdd evaluate`."""

from __future__ import annotations

import dataclasses

from absl import flags

from jaxdd.cli.common import evaluation_flags, finish, one_argument, show, under
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
SPEAKS = True


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string(
        "model", None, "network to train, see jaxdd list; by default as the file says", flag_values=values
    )
    flags.DEFINE_string(
        "models",
        None,
        "several networks, each measured by itself: 'convnet;mlp;lenet'; a run's directory keeps them",
        flag_values=values,
    )
    flags.DEFINE_integer("seeds", 5, "networks to train", lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "data", None, "data set to test on; by default the one it was distilled from", flag_values=values
    )
    flags.DEFINE_bool("stream", False, "leave the data's images in their files", flag_values=values)
    flags.DEFINE_bool("cache", False, "keep the data's pictures as they are decoded", flag_values=values)
    flags.DEFINE_string(
        "protocol", None, "how networks are trained, see jaxdd list; by default as the file says", flag_values=values
    )
    flags.DEFINE_float("learning_rate", None, "fix the protocol's learning rate", lower_bound=0.0, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the networks", flag_values=values)
    flags.DEFINE_string(
        "transfer",
        None,
        "of a set without classes: another data set to measure pretrained networks on",
        flag_values=values,
    )
    flags.DEFINE_string(
        "fine_tuning",
        None,
        "of a set without classes: protocol of fine-tuning, beside linear probes",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "labels_per_class",
        None,
        "of a set without classes: labelled images of each class for probes and fine-tuning; by default all",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "diversity",
        False,
        "also say how diverse sets are: Vendi score, coverage of real images",
        flag_values=values,
    )
    evaluation_flags(values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Train fresh networks on a distilled set, beside random real images.

    jaxdd evaluate DIR_OR_FILE_OR_sets:NAME [--model='convnet(width=32)' | --models='convnet;mlp'] [--seeds=5]
    """
    path = one_argument(positional, "directory or distilled file")
    if values.models is not None and values.model is not None:
        raise JaxddError("--model and --models are both there: give one of them.")
    if values.models is not None and values.diversity:
        raise JaxddError("--diversity is of sets and not of networks: leave out --models.")
    _, workflows = awake()
    from jaxdd import report

    how = {
        "networks": values.seeds,
        "data_name": values.data,
        "stream": values.stream,
        "cache": values.cache,
        "protocol": values.protocol,
        "learning_rate": values.learning_rate,
        "seed": values.seed,
        "full_data": bool(values.full_data),
        "baselines": values.baselines,
        "target": values.transfer,
        "fine_tuning": values.fine_tuning,
        "labels_per_class": values.labels_per_class,
        "command": command,
    }
    if values.models is None:
        outcome = workflows.evaluate(path, model=values.model, diversity=values.diversity, **how)
        finish(values, outcome, f"{path}: {outcome.summary}", classes=True)
        return
    outcome = workflows.architectures(path, [name.strip() for name in values.models.split(";")], **how)
    matrix = report.architectures.matrix(outcome.architectures)
    show(report.tables.terminal(matrix, f"{path}: {outcome.summary}"), to_stderr=values.json)
    under(report.architectures.notes(outcome.architectures), to_stderr=values.json)
    finish(values, dataclasses.replace(outcome, rows=[]), "")
