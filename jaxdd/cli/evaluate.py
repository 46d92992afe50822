"""`jaxdd evaluate`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli.common import evaluation_flags, finish, one_argument

flags.disclaim_key_flags()


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
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
    evaluation_flags(values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Train fresh networks on a distilled set, beside random real images.

    jaxdd evaluate DIR_OR_FILE [--model='convnet(width=32)' --seeds=5 --data=NAME]
    """
    from jaxdd import workflows

    path = one_argument(positional, "directory or distilled file")
    outcome = workflows.evaluate(
        path,
        model=values.model,
        networks=values.seeds,
        data_name=values.data,
        stream=values.stream,
        protocol=values.protocol,
        learning_rate=values.learning_rate,
        seed=values.seed,
        full_data=values.full_data,
        target=values.transfer,
        fine_tuning=values.fine_tuning,
        labels_per_class=values.labels_per_class,
        command=command,
    )
    finish(values, outcome, f"{path}: {outcome.summary}", classes=True)
