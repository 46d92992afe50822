"""FRePo (Zhou, Nezhadarya & Ba 2022, https://arxiv.org/abs/2206.00719): regression on the features of a pool.

`cpu` (the default): what two CPU cores do in a quarter of an hour, with a network of half the width, half the batch and
a rate for a short run. Fashion-MNIST (JAXDD_DATA_DIR/fashion_mnist.npz), 10 images; 100 with
`--config.method.ipc=10`. `DATA_IPC`, for one `cifar10_10`: the authors' settings for a data set and images per class,
all training images, 500,000 updates (days on a GPU), and their evaluation. `t4`: `cifar10_10` with 20,000 updates,
for a card of 16 GB, such as Colab's T4:

    jaxdd distill --config=frepo --config.data.name=fashion_mnist --workdir=runs/frepo
    jaxdd distill --config=frepo:cifar10_10 --evaluate=full --workdir=runs/frepo_cifar10_10

| published accuracy, % | 1 | 10 | 50 |
|---|---|---|---|
| `cifar10` | 46.8 | 65.5 | 71.7 |
| `cifar100` | 28.7 | 42.5 | 44.3 |
| `tiny_imagenet`, a file of 64x64 images | 15.4 | 25.4 | |

`mnist` and `fashion_mnist` have presets for 1, 10 and 50 too. Networks are trained on the result without batch
normalisation, as by the authors, and regression is on their features. What the `cpu` settings give is in
docs/results/features.md. With jaxdd-onednn (native/)
`--config.execution.target_precision=bfloat16` is faster on CPUs, too.
"""

from jaxdd.cli import preset, smoke, template

IPC = {
    "mnist": (1, 10, 50),
    "fashion_mnist": (1, 10, 50),
    "cifar10": (1, 10, 50),
    "cifar100": (1, 10, 50),
    "tiny_imagenet": (1, 10),
}


def paper(data: str, ipc: int) -> dict:
    digits = data in ("mnist", "fashion_mnist")
    depth = 4 if data == "tiny_imagenet" else 3
    return {
        "method": {
            "ipc": ipc,
            "model": f"wide_convnet(depth={depth})",
            "flip": data == "cifar10" or (ipc == 1 and not digits),
        },
        "data": {"name": data, "transform": "published" if digits else "zca", "validation": 0.0},
        "run": {"steps": 500_000},
        "evaluation": {
            "model": f"wide_convnet(depth={depth}, norm='none')",
            "protocol": "frepo-digits" if digits else "frepo",
        },
    }


def few(published: dict, updates: int) -> dict:
    return {**published, "method": {**published["method"], "decay_steps": updates}, "run": {"steps": updates}}


PRESETS = {
    "cpu": {
        "method": {
            "model": "wide_convnet(width=64)",
            "target_batch": 512,
            "learning_rate": 0.01,
            "decay_steps": 1500,
        },
        "run": {"steps": 1500},
        "evaluation": {"model": "wide_convnet(width=64, norm='none')"},
    },
    **{f"{data}_{ipc}": paper(data, ipc) for data, ipcs in IPC.items() for ipc in ipcs},
    "t4": few(paper("cifar10", 10), 20_000),
    "smoke": smoke(20, model="wide_convnet(width=8)", pool=2, max_age=10, target_batch=128),
}

PUBLISHED_PRESET = "fashion_mnist_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("frepo", **preset(PRESETS, name))
