"""DSA (Zhao & Bilen, ICML 2021, https://arxiv.org/abs/2102.08259): gradient matching with siamese augmentation.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 64, fewer and shorter steps: a quarter of an
hour on two cores. `mnist` (without flips), `fashion_mnist`, `cifar10`: the paper's settings, on all training images and
with its constants of their channels, for a GPU; any `--config.method.ipc`, and as many `--config.run.steps` as 1,000
times the matching steps of that ipc (1 for 1, 10 for 10, 50 for 50):

    jaxdd distill --config=dsa --evaluate=full --workdir=runs/dsa
    jaxdd distill --config=dsa:cifar10 --evaluate=full --workdir=runs/dsa_cifar10

The paper reports, for 1, 10 and 50 images per class, 88.7 / 97.8 / 99.2 % on MNIST, 70.6 / 84.6 / 88.7 % on
Fashion-MNIST, 28.8 / 52.1 / 60.6 % on CIFAR-10. What `cpu` gives is in docs/results/matching.md.
"""

from jaxdd.cli import preset, smoke, template


def paper(data: str, **method) -> dict:
    return {
        "method": {"ipc": 10, **method},
        "data": {"name": data, "transform": "published", "validation": 0.0},
        "run": {"steps": 10_000},
        "evaluation": {"protocol": "dsa-digits" if method else "dsa"},
    }


PRESETS = {
    "cpu": {
        "method": {"ipc": 10, "model": "convnet(width=64)", "target_per_class": 64, "epochs": 10},
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 300},
        "evaluation": {"protocol": "dc", "networks": 3},
    },
    "mnist": paper("mnist", augmentation="dsa-digits"),
    "fashion_mnist": paper("fashion_mnist"),
    "cifar10": paper("cifar10"),
    "smoke": smoke(10, model="convnet(width=8, depth=2)", target_per_class=32, matching_steps=2, epochs=2),
}

PUBLISHED_PRESET = "fashion_mnist"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("dsa", **preset(PRESETS, name))
