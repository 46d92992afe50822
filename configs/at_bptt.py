"""AT-BPTT (Li et al., NeurIPS 2025, https://arxiv.org/abs/2510.04838): windows where training says.

`cpu` (the default): as that of `rat_bptt`, with windows of 7 to 13 among 60 inner steps, and stages that end after
three windows of little gain in smoothed accuracy; some ten minutes on two cores.
`cifar10`, `cifar100`, `tiny_imagenet`: the authors' settings, 10 images per class, for a GPU; the last is a file of
64x64 images.

    jaxdd distill --config=at_bptt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/at_bptt
    jaxdd distill --config=at_bptt:cifar10 --evaluate=full --workdir=runs/at_bptt_cifar10

On Tiny ImageNet the authors show an inner step 50 of the classes; here it sees all of them. The paper reports
54.4 / 72.4 / 78.7 % on CIFAR-10 with 1, 10 and 50 images per class, 36.9 / 49.0 / 55.9 % on CIFAR-100 and 24.3 / 32.7 %
with 1 and 10 on Tiny ImageNet (the best on test). What `cpu` gives is in docs/results/windows.md.
"""

from jaxdd.cli import preset, smoke, template


def paper(data: str, transform: str = "zca", **method):
    return {
        "method": method,
        "data": {"name": data, "transform": transform, "validation": 0.0},
        "run": {"steps": 60_000},
        "evaluation": {"protocol": "rat"},
    }


LABELLED = {"learn_labels": True, "per_class": 1, "window": 100, "steps": 300, "target_batch": 1000}

PRESETS = {
    "cpu": {
        "method": {
            "ipc": 1,
            "model": "convnet(width=32)",
            "steps": 60,
            "window": 10,
            "spread": 3,
            "patience": (0.05, 0.05),
            "smoothing": 0.5,
            "learning_rate": 0.01,
            "target_batch": 256,
            "augmentation": "none",
        },
        "data": {"name": "mnist_5k"},
        "run": {"steps": 300},
    },
    "cifar10": paper("cifar10"),
    "cifar100": paper("cifar100", **LABELLED, spread=20, every=50),
    "tiny_imagenet": paper(
        "tiny_imagenet",
        "published",
        **LABELLED,
        spread=30,
        every=100,
        model="convnet(depth=4)",
        learning_rate=3e-4,
        label_learning_rate=3e-4,
    ),
    "smoke": smoke(
        5,
        model="convnet(width=8, depth=2)",
        steps=10,
        window=4,
        spread=2,
        every=2,
        target_batch=64,
        learning_rate=0.01,
        augmentation="none",
    ),
}

PUBLISHED_PRESET = "cifar10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("at_bptt", **preset(PRESETS, name))
