"""RCIG (Loo, Hasani, Lechner & Rus, ICML 2023, https://arxiv.org/abs/2302.06755): implicit gradients, linear networks.

`cpu` (the default): 10 images and a network of width 16, for two cores. `DATA_IPC`, for one `fashion_mnist_1`: the
authors' settings for a data set and images per class, on all training images, their network of widths 128, 256 and 512
and their evaluation, for a GPU:

    jaxdd distill --config=rcig --evaluate=full --workdir=runs/rcig
    jaxdd distill --config=rcig:fashion_mnist_1 --evaluate=full --workdir=runs/rcig_fmnist

| published accuracy, % | 1 | 10 | 50 |
|---|---|---|---|
| `cifar10` | 53.9 | 69.1 | 73.5 |
| `cifar100` | 39.3 | 44.1 | |
| `tiny_imagenet`, a file of 64x64 images | 25.6 | | |

`mnist` and `fashion_mnist` have presets for 1, 10 and 50 too. CIFAR and larger images are whitened and also seen
mirrored; `ridge` is 1e-6 for each synthetic image. 10,000 updates are those of the authors' example. Not part of this:
their smoothed ReLU, their learning rates for the inner problem (conjugate gradients have none), and their gradients of
a sample of the synthetic images, for more of them (CIFAR-100 with 50, Tiny ImageNet with 10 images per class).
"""

from jaxdd.cli import preset, smoke, template

IPC = {
    "mnist": (1, 10, 50),
    "fashion_mnist": (1, 10, 50),
    "cifar10": (1, 10, 50),
    "cifar100": (1, 10),
    "tiny_imagenet": (1,),
}
CLASSES = {"cifar100": 100, "tiny_imagenet": 200}


def paper(data: str, ipc: int) -> dict:
    digits = data in ("mnist", "fashion_mnist")
    model = f"wide_convnet(depth={4 if data == 'tiny_imagenet' else 3}, norm='none')"
    return {
        "method": {"ipc": ipc, "model": model, "flip": not digits, "ridge": 1e-6 * ipc * CLASSES.get(data, 10)},
        "data": {"name": data, "transform": "published" if digits else "zca", "validation": 0.0},
        "run": {"steps": 10_000},
        "evaluation": {"protocol": "rcig-digits" if digits else "rcig"},
    }


PRESETS = {
    "cpu": {
        "method": {"ipc": 1, "model": "wide_convnet(width=16, norm='none')", "target_batch": 256},
        "data": {"name": "mnist_5k"},
        "run": {"steps": 300},
    },
    **{f"{data}_{ipc}": paper(data, ipc) for data, ipcs in IPC.items() for ipc in ipcs},
    "smoke": smoke(
        5,
        model="wide_convnet(width=8, norm='none')",
        pool=2,
        pool_steps=2,
        inner_steps=5,
        hessian_steps=5,
        target_batch=64,
    ),
}

PUBLISHED_PRESET = "fashion_mnist_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("rcig", **preset(PRESETS, name))
