"""RFAD (Loo, Hasani, Amini & Rus 2022, https://arxiv.org/abs/2210.12067): random features for the NNGP kernel.

`cpu` (the default): networks of width 64 and batches of 512, at a rate for a short run. `paper`: the authors' settings,
without their learned linear map of the pixels; up to 100,000 updates, with early stopping that we leave out.

    jaxdd distill --config=rfad --config.data.name=fashion_mnist --evaluate=kernel --workdir=runs/rfad

What the `cpu` settings give is in docs/results/features.md. The kernel that the file names, and by which it is
measured, has four times as many networks as an update sees.
"""

from jaxdd.cli import preset, template

PRESETS = {
    "cpu": {
        "method": {
            "model": "convnet(width=64, norm='none', initializer='he')",
            "target_batch": 512,
            "precision": "bfloat16",
            "learning_rate": 0.005,
        },
        "run": {"steps": 400},
    },
    "paper": {"method": {"precision": "bfloat16"}, "run": {"steps": 100_000}},
}


def get_config(name: str = "cpu"):
    return template("rfad", **preset(PRESETS, name))
