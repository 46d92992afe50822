"""Kernel Inducing Points (Nguyen, Chen & Lee, ICLR 2021, https://arxiv.org/abs/2011.00050), fully-connected NTK.

As it stands this is the newcomer's run: 10 images from the 5,000 MNIST images of the extra `demo`, some ten seconds:

    jaxdd distill --config=kip --workdir=runs/kip

Fashion-MNIST (JAXDD_DATA_DIR/fashion_mnist.npz) with 10 images a class:

    jaxdd distill --config=kip --config.data.name=fashion_mnist --config.method.ipc=10 --workdir=runs/kip_fmnist_10
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "mnist_5k",
                "validation": 0.1,  # share of train that is held out for everything that is selected
                "split_seed": 0,
                "transform": "standardize",  # or "zca", "none"
                "zca_ridge": 0.1,
            },
            "method": {
                "name": "kip",
                "ipc": 1,
                "init": "real",
                "labels": "learned",  # or "fixed", "solve"
                "learning_rate": 0.04,
                "label_learning_rate": 0.003,
                "ema": 0.99,
                "target_batch": 2500,
                "corruption": 0.0,
                "kernel": "ntk",
                "depth": 1,
                "activation": "relu",
                "w_std": 2**0.5,
                "b_std": 0.1,
                "ridge": 1e-6,
                "float64": False,
            },
            "run": {
                "steps": 2000,
                "log_every": 10,
                "validate_every": 200,
                "checkpoint_seconds": 30.0,
                "precision": "default",  # or float32, bfloat16
            },
            "evaluation": {
                "model": "convnet",  # of `--evaluate=full`; quick is always an MLP
                "protocol": "default",
                "networks": 5,
            },
        }
    )
