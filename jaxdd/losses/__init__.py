"""Losses on arrays and pytrees of them: pure and shape-checked. They need jax and optax alone."""

from jaxdd.losses._numerics import l2_normalize
from jaxdd.losses.attention import attention_map, attention_matching
from jaxdd.losses.characteristic import FrequencySampler, characteristic_function_matching, frequency_sampler
from jaxdd.losses.distillation import distillation, logit_regression, smoothed_cosine, taught
from jaxdd.losses.distribution import cafe_discrimination, maximum_mean_discrepancy, mean_feature_matching
from jaxdd.losses.gradient import convolutions, gradient_matching, matrices
from jaxdd.losses.invariance import barlow_twins
from jaxdd.losses.label import (
    centred_labels,
    centred_one_hot,
    cross_entropy,
    margin_loss,
    mean_squared_error,
    squared_error,
)
from jaxdd.losses.statistics import (
    example_statistics_matching,
    moving_statistics,
    statistics_matching,
    statistics_of_labels,
)
from jaxdd.losses.trajectory import (
    intermediate_trajectory_matching,
    largest_differences,
    nearest_step,
    trajectory_matching,
    trajectory_matching_by_layer,
)

__all__ = [
    "FrequencySampler",
    "attention_map",
    "attention_matching",
    "barlow_twins",
    "cafe_discrimination",
    "centred_labels",
    "centred_one_hot",
    "characteristic_function_matching",
    "convolutions",
    "cross_entropy",
    "distillation",
    "example_statistics_matching",
    "frequency_sampler",
    "gradient_matching",
    "intermediate_trajectory_matching",
    "l2_normalize",
    "largest_differences",
    "logit_regression",
    "margin_loss",
    "matrices",
    "maximum_mean_discrepancy",
    "mean_feature_matching",
    "mean_squared_error",
    "moving_statistics",
    "nearest_step",
    "smoothed_cosine",
    "squared_error",
    "statistics_matching",
    "statistics_of_labels",
    "taught",
    "trajectory_matching",
    "trajectory_matching_by_layer",
]
