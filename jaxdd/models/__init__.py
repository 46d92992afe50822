"""Networks as pure functions: the zoo, and adapters for everyone else's."""

from jaxdd.models.adapters import from_functions, from_linen, from_nnx
from jaxdd.models.conv import conv2d
from jaxdd.models.dense import dot_general
from jaxdd.models.precision import PRECISIONS, matmul_precision
from jaxdd.models.registry import available, build, identity, options_of, with_options
from jaxdd.models.statistics import frozen_statistics
from jaxdd.models.torch_weights import from_torch
from jaxdd.models.zoo import (
    MLP,
    VGG11,
    AlexCifarNet,
    ConvNet,
    LeNet,
    MobileNetV2,
    ResNet8,
    ResNet10,
    ResNet18,
    ResNet20,
    ResNet50,
    ResNet56,
    ShuffleNetV2,
    WideConvNet,
)

__all__ = [
    "MLP",
    "PRECISIONS",
    "VGG11",
    "AlexCifarNet",
    "ConvNet",
    "LeNet",
    "MobileNetV2",
    "ResNet8",
    "ResNet10",
    "ResNet18",
    "ResNet20",
    "ResNet50",
    "ResNet56",
    "ShuffleNetV2",
    "WideConvNet",
    "available",
    "build",
    "conv2d",
    "dot_general",
    "from_functions",
    "from_linen",
    "from_nnx",
    "from_torch",
    "frozen_statistics",
    "identity",
    "matmul_precision",
    "options_of",
    "with_options",
]
