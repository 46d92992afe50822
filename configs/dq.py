"""DQ (Zhou et al., ICCV 2023, https://arxiv.org/abs/2308.10524): real images of graph-cut bins, with fewer patches.

`cpu` (the default): the 5,000 embedded digits, 20 images per class, a ConvNet of width 32.
`cifar10`: the authors' bins and shares, an eighth of the images and four fifths of their patches, with a network and an
inpainter that are trained here (theirs are of ImageNet), for a GPU. `t4`: the same, the inpainter with 2,000 updates,
for a card of 16 GB, such as Colab's T4.

    jaxdd distill --config=dq --evaluate=full --workdir=runs/dq
    jaxdd distill --config=dq --config.method.adaptive=True --workdir=runs/adq

`--config.method.adaptive=True` samples bins by their importance (ADQ, Li et al., AAAI 2025,
https://arxiv.org/abs/2412.16895; a reconstruction, see docs/quantisation.md). Without patches,
`--config.method.drop=0`, it is a selection: `jaxdd select --config=dataset_quantization` keeps the source's pixels.
The bits are those of the kept patches, of the mask, and of the inpainter.

`cpu` takes some minutes on two cores that do other work too, most of them for the network and the inpainter. Its 200
images cost 4.11 million bits (0.31 of them the inpainter's), whole ones 5.02, as the run says. The authors report no
loss with 60 % of ImageNet. Networks on the set of `cpu` have not been measured here, and `cifar10` has not been run.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "cpu": {
        "method": {
            "ipc": 20,
            "patch": 4,
            "drop": 0.25,
            "model": "convnet(width=32)",
            "network_epochs": 10,
            "network_learning_rate": 0.05,
            "network_augmentation": "none",
        },
        "data": {"name": "mnist_5k"},
        "run": {"steps": 1000},
        "evaluation": {"networks": 3},
    },
    "cifar10": {
        "method": {"ipc": 625},
        "data": {"name": "cifar10", "transform": "published", "validation": 0.0},
        "run": {"steps": 10_000},
        "evaluation": {"protocol": "dc"},
    },
    "t4": {
        "method": {"ipc": 625},
        "data": {"name": "cifar10", "transform": "published", "validation": 0.0},
        "run": {"steps": 2_000},
        "evaluation": {"protocol": "dc", "networks": 3},
    },
    "smoke": smoke(
        20,
        ipc=2,
        bins=5,
        patch=7,
        drop=0.25,
        model="convnet(width=8, depth=2)",
        network_epochs=1,
        network_augmentation="none",
        inpainter_width=16,
        inpainter_batch=64,
    ),
}

PUBLISHED_PRESET = "cifar10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("dq", **preset(PRESETS, name))
