"""RCIG (Loo, Hasani, Lechner & Rus, ICML 2023, https://arxiv.org/abs/2302.06755): implicit gradients, linear networks.

`cpu` (the default): 10 images and a network of width 16, for two cores. `paper`: Fashion-MNIST, 1 image per class, the
authors' network of widths 128, 256 and 512, for a GPU.

    jaxdd distill --config=rcig --evaluate=full --workdir=runs/rcig
    jaxdd distill --config=rcig:paper --evaluate=full --workdir=runs/rcig_fmnist

Of CIFAR and larger images the support is also seen mirrored (`--config.method.flip=true`), and they are whitened
(`--config.data.transform=zca`); `ridge` is 1e-6 for each synthetic image. Not part of this: the authors' smoothed ReLU,
their learning rates for the inner problem (conjugate gradients have none), and their gradients of a sample of the
synthetic images, which are for CIFAR-100 with 50 images per class. Published, not made here: 53.9 / 69.1 / 73.5 % on
CIFAR-10 with 1, 10 and 50 images per class, for networks of that width.
"""

from jaxdd.cli import preset, template

PRESETS = {
    "cpu": {
        "method": {"ipc": 1, "model": "wide_convnet(width=16, norm='none')", "target_batch": 256},
        "data": {"name": "mnist_5k"},
        "run": {"steps": 300},
    },
    "paper": {
        "method": {"ipc": 1},
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 10_000},
    },
}


def get_config(name: str = "cpu"):
    return template("rcig", **preset(PRESETS, name))
