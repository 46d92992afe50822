"""RFAD (Loo, Hasani, Amini & Rus 2022, https://arxiv.org/abs/2210.12067): random features for the NNGP kernel.

`cpu` (the default): networks of width 64 and batches of 512, at a rate for a short run. `DATA_IPC`, for one
`cifar10_10`: the authors' settings for mnist, fashion_mnist, cifar10 (1, 10, 50 images per class) and cifar100 (1, 10),
on all training images, without their learned linear map of the pixels; up to 100,000 updates, with early stopping that
we leave out. Networks are evaluated by `dc`, as their protocol is not here. For a GPU.

    jaxdd distill --config=rfad --config.data.name=fashion_mnist --evaluate=kernel --workdir=runs/rfad
    jaxdd distill --config=rfad:cifar10_10 --evaluate=kernel --workdir=runs/rfad_cifar10_10

What the `cpu` settings give is in docs/results/features.md. The kernel that the file names, and by which it is
measured, has four times as many networks as an update sees.
"""

from jaxdd.cli import preset, smoke, template

IPC = {"mnist": (1, 10, 50), "fashion_mnist": (1, 10, 50), "cifar10": (1, 10, 50), "cifar100": (1, 10)}


def paper(data: str, ipc: int) -> dict:
    return {
        "method": {"ipc": ipc},
        "data": {"name": data, "transform": "zca" if data.startswith("cifar") else "standardize", "validation": 0.0},
        "run": {"steps": 100_000},
        "evaluation": {"protocol": "dc"},
    }


PRESETS = {
    "cpu": {
        "method": {
            "model": "convnet(width=64, norm='none', initializer='he')",
            "target_batch": 512,
            "learning_rate": 0.005,
        },
        "run": {"steps": 400},
    },
    **{f"{data}_{ipc}": paper(data, ipc) for data, ipcs in IPC.items() for ipc in ipcs},
    "smoke": smoke(10, model="convnet(width=8, norm='none', initializer='he')", networks=2, target_batch=128),
}

PUBLISHED_PRESET = "fashion_mnist_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("rfad", **preset(PRESETS, name))
