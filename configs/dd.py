"""Dataset Distillation (Wang, Zhu, Torralba & Efros 2018, https://arxiv.org/abs/1811.10959), LeNet.

`fixed` (the default): 10 images, one step of gradient descent three times over, for the one initialisation that travels
with them. `random`: 100 images in ten steps three times over, for any initialisation. Both are evaluated as they were
distilled: the network takes those very steps, at a factor of the learned rates that is selected on a tenth of the
training images. The paper trains on all, at a factor of 1: `--config.data.validation=0.0`. Full MNIST
(JAXDD_DATA_DIR/mnist.npz):

    jaxdd distill --config=dd --config.data.name=mnist --workdir=runs/dd_fixed
    jaxdd distill --config=dd:random --config.data.name=mnist --workdir=runs/dd_random

The paper has batches of 1,024 and 400 epochs (23,600 updates, the rate halved every 2,360), and reports 94 % (fixed)
and 79.5 ± 8.1 % (random). What these settings give, in at most twenty CPU-minutes each, is in docs/results/meta.md, and
there too what longer ones give for `fixed`. With seed 0 the paper's schedule ends at 89.5, no better than the short one
(89.3), and 80,000 updates at 91.7: the first step's learned rate grows past 1, and single updates throw the iterate far
off. What it needs is that gradients are cut, which the paper does not say: 42,000 updates with
`--config.method.clip=2 --config.method.decay_every=6000` end at 93.4, and at 93.7 ± 0.5 over three seeds.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "fixed": {
        "method": {"initialisation": "fixed", "ipc": 1, "steps": 1, "target_batch": 256, "decay_every": 3000},
        "run": {"steps": 12_000},
    },
    "random": {
        "method": {
            "initialisation": "random",
            "ipc": 10,
            "steps": 10,
            "networks": 1,
            "target_batch": 256,
            "decay_every": 500,
        },
        "run": {"steps": 1500},
    },
    "smoke": smoke(50, initialisation="fixed", ipc=1, steps=1, target_batch=64),
}

PUBLISHED_PRESET = "random"  # the preset that accelerators are measured with


def get_config(name: str = "fixed"):
    sections = preset(PRESETS, name)
    evaluation = {**sections.get("evaluation", {}), "protocol": "as-distilled"}
    return template("dd", **{**sections, "evaluation": evaluation})
