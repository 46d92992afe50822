"""KRR-ST (Lee et al., ICLR 2024, https://arxiv.org/abs/2310.06511): pairs for pretraining, distilled without labels.

`cpu` (the default): 100 pairs of Fashion-MNIST, with an encoder and networks of width 32; forty minutes on two cores
that did other work too, with its evaluation. `cifar10`: the authors' settings for CIFAR-100, 1,000
pairs and 160,000 updates, on CIFAR-10, with an encoder that is trained here (theirs is a file), for a GPU. `t4`: the
same with 10,000 updates, and as many of the encoder, for a card of 16 GB, such as Colab's T4.
`--config.method.encoder=..` takes another network. What `cpu` gives is in docs/selfsupervised.md: networks that are
worth five points more than untrained ones where labels are few, and no more than after as many random real pairs:

    jaxdd distill --config=krr_st --config.data.name=fashion_mnist --evaluate=full --workdir=runs/krr_st
    jaxdd evaluate runs/krr_st --transfer=usps

There are no images per class, and no accuracy of networks that are trained on the set by themselves: what is measured
is a linear probe of networks that were pretrained on it, and fine-tuning, see docs/selfsupervised.md. The encoder and
its features of every image are stages, kept under JAXDD_CACHE_DIR.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "cpu": {
        "method": {
            "images": 100,
            "model": "convnet(width=32, norm='batch')",
            "target_batch": 256,
            "augmentation": "none",
            "learning_rate": 1e-3,
            "decay_steps": 2000,
            "max_age": 300,
            "encoder": "convnet(width=32, norm='batch')",
            "encoder_steps": 1000,
        },
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 2000},
        "evaluation": {"protocol": "krr-st", "networks": 3},
    },
    "cifar10": {
        "method": {"targets": "augmented"},
        "data": {"name": "cifar10", "transform": "published", "validation": 0.0},
        "run": {"steps": 160_000},
        "evaluation": {"protocol": "krr-st", "networks": 3},
    },
    "t4": {
        "method": {"targets": "augmented", "decay_steps": 10_000, "encoder_steps": 10_000},
        "data": {"name": "cifar10", "transform": "published", "validation": 0.0},
        "run": {"steps": 10_000},
        "evaluation": {"protocol": "krr-st", "networks": 3},
    },
    "smoke": {
        **smoke(
            20,
            images=10,
            model="mlp(width=32, depth=2)",
            pool=2,
            max_age=10,
            target_batch=128,
            learning_rate=1e-2,
            decay_steps=20,
            augmentation="crop-flip-digits",
            encoder="mlp(width=32, depth=2)",
            encoder_steps=20,
            encoder_augmentation="views-digits",
            projector=32,
        ),
        "evaluation": {"protocol": "krr-st", "networks": 2},
    },
}

PUBLISHED_PRESET = "cifar10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("krr_st", **preset(PRESETS, name))
