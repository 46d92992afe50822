"""FRePo (Zhou, Nezhadarya & Ba 2022, https://arxiv.org/abs/2206.00719): regression on the features of a pool.

`cpu` (the default): what two CPU cores do in a quarter of an hour, with a network of half the width, half the batch and
a rate for a short run. `paper`: the authors' settings, whose 500,000 updates are days on a GPU. Fashion-MNIST
(JAXDD_DATA_DIR/fashion_mnist.npz), 10 images; 100 with `--config.method.ipc=10`:

    jaxdd distill --config=frepo --config.data.name=fashion_mnist --workdir=runs/frepo
    jaxdd distill --config=frepo:paper --config.data.name=cifar10 --config.data.transform=zca \\
        --config.method.flip=True --workdir=runs/frepo_cifar10

Networks are trained on the result without batch normalisation, as by the authors, and regression is on their features.
The paper reports 46.8 / 65.5 / 71.7 % on CIFAR-10 (1, 10 and 50 images per class). What the `cpu` settings give is in
docs/results/features.md. On CPUs bfloat16 needs jaxdd-onednn (native/); without it all is float32.
"""

from jaxdd.cli import preset, template

PRESETS = {
    "cpu": {
        "method": {
            "model": "wide_convnet(width=64)",
            "target_batch": 512,
            "precision": "bfloat16",
            "learning_rate": 0.01,
            "decay_steps": 1500,
        },
        "run": {"steps": 1500},
        "evaluation": {"model": "wide_convnet(width=64, norm='none')"},
    },
    "paper": {
        "method": {"precision": "bfloat16"},
        "run": {"steps": 500_000},
        "evaluation": {"model": "wide_convnet(norm='none')"},
    },
}


def get_config(name: str = "cpu"):
    return template("frepo", **preset(PRESETS, name))
