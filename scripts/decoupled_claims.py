#!/usr/bin/env python3
"""The decoupled family side by side on CIFAR-10, under the same labels, beside random real images and noise.

    python scripts/decoupled_claims.py --folder FOLDER --json FILE [--arms random sre2l cda ..] [--seeds 0 1 2]
    python scripts/decoupled_claims.py --folder FOLDER --json FILE --arms random sre2l rded cv_dd --labels hard image
    python scripts/decoupled_claims.py --read FILE [FILE ..]

Every arm is a method of its preset `cpu`, ten images a class, 500 steps, with what ARMS says; its teachers are stages
that all arms share. The images are labelled anew, all by the same teachers: `--labels` says how, "view" by default, and
`--committee` by which: the ConvNet alone, or the committee of CV-DD. One fresh network a seed is trained on them
(`--student`, by default the ConvNet), by the protocol "sre2l", or "hard" for class numbers; the accuracy is of its last
step on all test images. `alike` is the mean cosine of the ConvNet's features between two images of a class, `seconds`
those of the updates, without teachers and compilation. FILE is gone on with; `--read` makes a table of some, with the
mean difference from random real images of the same seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data, engine, evaluation, models, training, workflows
from jaxdd.cli import config as configs
from jaxdd.cli.decoupled import OTHERS
from jaxdd.synthetic import DistilledDataset, labelled_by
from jaxdd.types import Content, Distilled, Examples, Labelling, NetworkState
from jaxdd.workflows.data import Real

MODEL = "convnet(width=32, norm='batch')"
COMMITTEE = (MODEL, *OTHERS)
CROPS = (0.08, 1.0)
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sre2l": ("sre2l", {}),
    "sre2l_ce": ("sre2l", {"statistics_weight": 0.0}),
    "sre2l_crops": ("sre2l", {"crop": CROPS}),
    "cda": ("cda", {}),
    "cda_reversed": ("cda", {"curriculum": "reversed"}),
    "dwa": ("dwa", {}),
    "dwa_none": ("dwa", {"adjustment_steps": 0}),
    "dwa_random": ("dwa", {"direction": "random"}),
    "lpld": ("lpld", {}),
    "rded": ("rded", {}),
    "rded_one_crop": ("rded", {"crops": 1}),
    "nrr_dd": ("nrr_dd", {}),
    "nrr_dd_everywhere": ("nrr_dd", {"everywhere": True}),
    "nrr_dd_nowhere": ("nrr_dd", {"refined_below": 0.0}),
    "fadrm": ("fadrm", {}),
    "fadrm_plus": ("fadrm", {"others": OTHERS}),
    "fadrm_once": ("fadrm", {"segments": 1}),
    "infer": ("infer", {}),
    "cv_dd": ("cv_dd", {}),
    "cv_dd_alone_0": ("cv_dd", {"model": COMMITTEE[0], "others": (), "voters": 1}),
    "cv_dd_alone_1": ("cv_dd", {"model": COMMITTEE[1], "others": (), "voters": 1}),
    "cv_dd_alone_2": ("cv_dd", {"model": COMMITTEE[2], "others": (), "voters": 1}),
}
CHOSEN = ("random", "noise")
IPC = 10


def config_of(arm: str, seed: int, steps: int | None) -> dict[str, Any]:
    name, fields = ARMS[arm]
    config = configs.read(name)
    config["method"] |= fields
    if steps is not None:
        config["run"]["steps"] = steps
        config["method"] |= {"decay_steps": steps} if "decay_steps" in config["method"] else {}
    config["run"] |= {"validate": "none", "log_every": 50}
    return config | {"seed": seed}


def teachers(real: Real, seed: int, *, committee: bool) -> list[NetworkState]:
    """The ConvNet alone, or the committee, from the stages that the arms share."""
    config = config_of("cv_dd" if committee else "sre2l", seed, None)
    hyper = dict(config["method"])
    provided = engine.provide(
        real.method(hyper.pop("name"), hyper), real.stored, seed=seed, config={"data": workflows.told(config["data"])}
    )
    return [provided.assets[name] for name in ("teacher", "teacher_1", "teacher_2")[: 3 if committee else 1]]


def images_of(arm: str, real: Real, seed: int, options: argparse.Namespace) -> tuple[Any, Any, float]:
    """Images, class numbers, and the seconds of the updates."""
    classes = real.train.labels.num_classes
    if arm == "random":
        rows = data.balanced_choice(jax.random.key(seed), real.train.labels, IPC)
        return real.train.images[rows], real.train.labels.values[rows], 0.0
    numbers = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), IPC)
    if arm == "noise":
        shape = (classes * IPC, *real.test.images.shape[1:])
        return jax.random.normal(jax.random.key(seed), shape), numbers, 0.0
    config = config_of(arm, seed, options.steps)
    workdir = options.folder / f"{arm}_{seed}_{options.steps}"
    fresh = not (workdir / "distilled.safetensors").exists()
    result = workflows.distill(config, workdir, evaluate="none", resume=True).result
    seconds = result["seconds"] if fresh and not result["resumed_from"] else float("nan")
    images = DistilledDataset.read(workdir / "distilled.safetensors").distilled().images
    return images, jnp.repeat(jnp.arange(classes, dtype=jnp.int32), len(images) // classes), seconds


def labelled(images, numbers, how: str, members: list[NetworkState], committee: bool, classes: int) -> Distilled:
    if how == "hard":
        return Distilled(Content(images), Labelling(numbers, "hard"))
    count = len(COMMITTEE) if committee else 1
    labelling, _ = labelled_by(COMMITTEE[:count], members[:count], images, classes, views=how == "view")
    return Distilled(Content(images), labelling)


def alike(images, numbers, teacher: NetworkState, classes: int) -> float:
    """The mean cosine between the features of two images of a class."""
    network = models.build(MODEL, images.shape[1:], classes)
    found = np.array(network.features(teacher.theta, images, teacher.stats)[0])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    means = []
    for number in range(classes):
        of_class = found[np.asarray(numbers) == number]
        gram = of_class @ of_class.T
        means.append((gram.sum() - len(gram)) / (len(gram) * (len(gram) - 1)))
    return float(np.mean(means))


def table(files: list[pathlib.Path]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        for row, of in json.loads(file.read_text()).items():
            found.setdefault(row, {}).update(of)
    lines = ["| images | labels | student | seeds | accuracy | beside random | alike | seconds |", "|---" * 8 + "|"]
    for row, of in found.items():
        arm, how, by, student = row.split("/")
        accuracies = np.array([each["accuracy"] for each in of.values()])
        spread = f" ± {100 * accuracies.std(ddof=1):.1f}" if len(of) > 1 else ""
        random = found.get("/".join(("random", how, by, student)), {})
        apart = [of[seed]["accuracy"] - random[seed]["accuracy"] for seed in of if seed in random]
        beside = f"{100 * np.mean(apart):+.1f}" if apart else ""
        seconds = np.array([each["seconds"] for each in of.values()])
        took = f"{np.nanmean(seconds):.1f}" if np.isfinite(seconds).any() else ""
        likeness = np.mean([each["alike"] for each in of.values()])
        cells = arm, f"{how}, {by}", student, len(of), f"{100 * accuracies.mean():.1f}{spread}", beside
        lines.append(f"| {' | '.join(map(str, cells))} | {likeness:.2f} | {took} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=[*CHOSEN, "sre2l"], choices=[*ARMS, *CHOSEN])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--labels", nargs="+", default=["view"], choices=("view", "image", "hard"))
    parser.add_argument("--committee", action="store_true")
    parser.add_argument("--student", default=MODEL)
    parser.add_argument("--steps", type=int, help="of a block, in place of the preset's 500")
    parser.add_argument("--folder", type=pathlib.Path, help="of the runs")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--read", type=pathlib.Path, nargs="+", metavar="FILE")
    options = parser.parse_args()
    if options.read:
        print(table(options.read))
        return
    if options.folder is None or options.json is None:
        parser.error("give --folder and --json, or --read")
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    real_of = functools.cache(lambda: Real.of_config(config_of("sre2l", 0, None)["data"]))
    members_of = functools.cache(lambda seed: teachers(real_of(), seed, committee=options.committee))
    for seed in options.seeds:
        for arm in options.arms:
            images = None
            for how in options.labels:
                row = "/".join((arm, how, "committee" if options.committee else "alone", options.student))
                of = found.setdefault(row, {})
                if str(seed) in of:
                    continue
                real = real_of()
                if images is None:
                    images, numbers, seconds = images_of(arm, real, seed, options)
                classes, members = real.train.labels.num_classes, members_of(seed)
                student = models.build(options.student, images.shape[1:], classes)
                test = Examples(real.test.images, jnp.asarray(real.test.labels.values))
                score = evaluation.evaluate(
                    student,
                    labelled(images, numbers, how, members, options.committee, classes),
                    None,
                    test,
                    training.protocols.get("hard" if how == "hard" else "sre2l"),
                    num_networks=1,
                    key=jax.random.key(seed),
                )
                of[str(seed)] = {
                    "accuracy": float(np.mean(score.accuracies)),
                    "alike": alike(images, numbers, members[0], classes),
                    "images": len(images),
                    "seconds": seconds,
                }
                options.json.write_text(json.dumps(found, indent=1) + "\n")
                print(row, seed, {name: round(value, 4) for name, value in of[str(seed)].items()}, flush=True)


if __name__ == "__main__":
    main()
