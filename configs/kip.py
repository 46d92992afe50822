"""Kernel Inducing Points (Nguyen, Chen & Lee, ICLR 2021, https://arxiv.org/abs/2011.00050): infinitely wide networks.

`fc` (the default): the kernel of a fully-connected network. As it stands this is the newcomer's run: 10 images from the
5,000 MNIST images of the extra `demo`, some ten seconds. Fashion-MNIST (JAXDD_DATA_DIR/fashion_mnist.npz) with 10
images a class:

    jaxdd distill --config=kip --workdir=runs/kip
    jaxdd distill --config=kip --config.data.name=fashion_mnist --config.method.ipc=10 --workdir=runs/kip_fmnist_10

`conv`: CIFAR-10 with the paper's "ConvNet" (Nguyen, Novak, Xiao & Lee, NeurIPS 2021, https://arxiv.org/abs/2107.13034):
a convolution, three blocks of convolution and pooling, all infinitely wide. For GPUs; theirs were hundreds. On all
training images, so without a best iterate; networks are evaluated by `dc`. Not part of it: the normalisation of each
image before the whitening. 1, 10 or 50 images by `--config.method.ipc`:

    jaxdd distill --config=kip:conv --evaluate=kernel --workdir=runs/kip_conv
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "fc": {
        "run": {"steps": 2000, "log_every": 10, "validate_every": 200},
        "evaluation": {"model": "convnet"},
    },
    "conv": {
        "method": {
            "kernel": "conv_ntk",
            "depth": 3,
            "stem": True,
            "target_batch": 5000,
            "float64": True,
        },
        "data": {"name": "cifar10", "transform": "zca", "validation": 0.0},
        "run": {"steps": 50_000, "log_every": 10},
        "evaluation": {"model": "convnet", "protocol": "dc"},
    },
    "smoke": smoke(50, target_batch=500),
}


def get_config(name: str = "fc"):
    return template("kip", **preset(PRESETS, name))
