"""Soft-label dataset distillation (Sucholutsky & Schonlau 2019, https://arxiv.org/abs/1910.02551), LeNet.

10 images with learned label vectors for one initialisation; 5 images with `--config.method.classes=5`. A tenth of the
training images is held out, on which the evaluation selects a factor of the learned rates; the paper trains on all, at
a factor of 1: `--config.data.validation=0.0`. Full MNIST:

    jaxdd distill --config=soft_label_dd --config.data.name=mnist --workdir=runs/soft_10
    jaxdd distill --config=soft_label_dd --config.data.name=mnist --config.method.classes=5 --workdir=runs/soft_5

The paper reports 96 % with 10 images and 92 % with 5. What these settings give, in some twenty
CPU-minutes, is in docs/results/meta.md.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "fixed": {
        "method": {"initialisation": "fixed", "ipc": 1, "steps": 1, "target_batch": 256, "decay_every": 3000},
        "run": {"steps": 12_000},
    },
    "smoke": smoke(50, initialisation="fixed", ipc=1, steps=1, target_batch=64),
}


def get_config(name: str = "fixed"):
    sections = preset(PRESETS, name)
    evaluation = {**sections.get("evaluation", {}), "protocol": "as-distilled"}
    return template("soft_label_dd", **{**sections, "evaluation": evaluation})
