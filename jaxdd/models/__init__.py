"""Networks as pure functions: the zoo, and adapters for everyone else's."""

from jaxdd.models.adapters import from_functions, from_linen, from_nnx
from jaxdd.models.conv import conv2d
from jaxdd.models.dense import dot_general
from jaxdd.models.precision import PRECISIONS, matmul_precision
from jaxdd.models.registry import available, build, identity, options_of
from jaxdd.models.statistics import frozen_statistics
from jaxdd.models.zoo import MLP, AlexCifarNet, ConvNet, LeNet, ResNet10, ResNet18, WideConvNet

__all__ = [
    "MLP",
    "PRECISIONS",
    "AlexCifarNet",
    "ConvNet",
    "LeNet",
    "ResNet10",
    "ResNet18",
    "WideConvNet",
    "available",
    "build",
    "conv2d",
    "dot_general",
    "from_functions",
    "from_linen",
    "from_nnx",
    "frozen_statistics",
    "identity",
    "matmul_precision",
    "options_of",
]
