"""What somebody gets who says nothing: published settings where there are any, and what is promised elsewhere.

A default that changes changes the results of everybody who relies on it. It is to be changed here too, with a line in
the CHANGELOG and, for a method, a revision.
"""

import inspect

import pytest

from jaxdd import data, evaluation, inner, kernels, losses, methods, synthetic
from jaxdd.data import augmentation
from jaxdd.evaluation import verification
from jaxdd.evaluation.baselines import full_data_reference
from jaxdd.evaluation.kernel import Predictor

FUNCTIONS = [
    # A tenth of the training images to select on; where there is no test split, a fifth for that.
    (data.from_arrays, {"validation": 0.1, "test": 0.2, "seed": 0}),
    (data.load, {"validation": 0.1, "test": 0.2, "seed": 0}),
    # Nguyen et al. (2021): ZCA with a ridge of 0.1, kernels relative to their mean diagonal, w_std √2 of ReLU.
    (data.ZCA.fit, {"ridge": 0.1}),
    (data.fit_transform, {"zca_ridge": 0.1}),
    (kernels.kernel_ridge_solve, {"ridge": 1e-6, "float64": False}),
    (kernels.kernel_ridge_predict, {"ridge": 1e-6, "float64": False}),
    (kernels.sharded_kernel_ridge_solve, {"ridge": 1e-6, "float64": False}),
    (kernels.label_solve, {"ridge": 1e-6}),
    (kernels.feature_kernel, {"w_std": 1.0, "b_std": 0.0}),
    (kernels.conjugate_kernel, {"w_std": 1.0, "b_std": 0.0}),
    (kernels.nngp_and_ntk, {"depth": 1, "b_std": 0.1, "activation": "relu"}),
    (kernels.conv_nngp_and_ntk, {"depth": 3, "b_std": 0.1, "activation": "relu", "stem": False}),
    (Predictor, {"ridge": 1e-6, "float64": False}),
    # Yun et al. (2019), as IDC has it: a share from Beta(1, 1), in every second batch.
    (augmentation.cutmix, {"probability": 0.5, "beta": 1.0}),
    # Sajedi et al. (2023), section 3.
    (losses.attention_map, {"exponent": 4}),
    (losses.attention_matching, {"exponent": 4}),
    # Wang et al. (2025): amplitudes and phases count alike, frequencies are standard normal.
    (losses.characteristic_function_matching, {"amplitude_weight": 0.5, "phase_weight": 0.5}),
    (losses.frequency_sampler, {"scale": 1.0}),
    # Kingma & Ba (2015).
    (inner.adam, {"b1": 0.9, "b2": 0.999, "eps": 1e-8}),
    (inner.sgd, {"momentum": 0.0, "nesterov": False}),
    (inner.implicit_gradient, {"steps": 100}),
    # Deng & Russakovsky (2022): bases at half the size. Feng et al. (2024): norms of twice the running one are cut.
    (synthetic.linear_bases, {"scale": 2}),
    (synthetic.rows_for_budget, {"scale": 2}),
    (synthetic.clip_by_running_norm, {"decay": 0.9, "factor": 2.0}),
    (synthetic.learned_labels, {"kind": "raw", "confidence": 0.9, "nonnegative": False}),
    # Five networks say how far they scatter; two are enough to select a learning rate.
    (evaluation.evaluate, {"num_networks": 5}),
    (evaluation.compare, {"num_networks": 5}),
    (verification.verify, {"num_networks": 5}),
    (full_data_reference, {"num_networks": 5}),
    (evaluation.Protocol, {"batch_size": 256, "factor": 0.1, "selection_networks": 2, "weight_average": 0.0}),
]

# Beside those that the tests of a method say. Sources in its docstring; ipc is nobody's.
_WINDOWED = {
    "steps": 200,
    "target_batch": 5000,
    "inner_learning_rate": 0.001,
    "learning_rate": 0.001,
    "label_learning_rate": 0.001,
    "clip": 2.0,
    "augmentation": "flip_rotate",
}
_LONG = {
    "augmentation": "flip_rotate",
    "inner_learning_rate": 0.01,
    "momentum": 0.9,
    "optimizer": "sgd",
    "learning_rate": 0.1,
}
METHODS = {
    "bptt": {**_LONG, "steps": 150, "per_class": None, "init": "noise", "networks": 1, "target_batch": 1024},
    "linba": {**_LONG, "steps": 150, "per_class": 32, "bases": 16, "scale": 2, "coefficient_decay": 1e-4},
    "rat_bptt": {**_WINDOWED, "window": 60},
    "at_bptt": {
        **_WINDOWED,
        "window": 40,
        "spread": 10,
        "every": 10,
        "rises": (0.015, 0.01),
        "patience": (0.15, 0.125),
    },
    "dd": {
        "augmentation": "none",
        "steps": 10,
        "epochs": 3,
        "networks": 4,
        "target_batch": 1024,
        "inner_learning_rate": 0.02,
        "learning_rate": 0.01,
        "decay_every": 40 * (60_000 // 1024 + 1),
        "init": "noise",
    },
    "kip": {
        "learning_rate": 0.04,
        "label_learning_rate": 0.003,
        "ema": 0.99,
        "target_batch": 2500,
        "depth": 1,
        "b_std": 0.1,
        "ridge": 1e-6,
    },
    "frepo": {
        "pool": 10,
        "max_age": 100,
        "pool_learning_rate": 3e-4,
        "networks": 1,
        "target_batch": 1024,
        "learning_rate": 3e-4,
        "decay_steps": 500_000,
        "ridge": 1e-6,
        "flip": False,
    },
    "rcig": {
        "pool": 30,
        "max_age": 100,
        "pool_steps": 16,
        "pool_learning_rate": 5e-5,
        "inner_steps": 20,
        "hessian_steps": 20,
        "target_batch": 1024,
        "learning_rate": 3e-3,
        "scale_learning_rate": 0.03,
        "ema": 0.99,
        "flip": False,
    },
    "rfad": {
        "networks": 8,
        "target_batch": 5120,
        "learning_rate": 1e-3,
        "scale_learning_rate": 1e-2,
        "b_std": 0.1,
        "ridge": 5e-3,
    },
    "cafe": {
        "early_weight": 0.1,
        "discrimination_weight": 0.01,
        "query": 128,
        "renewal": 0.04,
        "change": 0.03,
        "window": 10,
        "max_epochs": 50,
        "network_learning_rate": 0.01,
    },
    "datadam": {
        "target_per_class": 64,
        "learning_rate": 1.0,
        "exponent": 1.0,
        "attention_weight": 100.0,
        "feature_weight": 0.01,
    },
    "dm": {"target_per_class": 256, "learning_rate": 1.0},
    "ncfm": {"learning_rate": 0.004},
}


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


@pytest.mark.parametrize(("function", "promised"), FUNCTIONS, ids=lambda value: getattr(value, "__qualname__", ""))
def test_functions(function, promised):
    assert promised.items() <= defaults(function).items()


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    assert METHODS[name].items() <= methods.fields(name).items()
