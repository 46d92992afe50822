"""The field's standard networks, in flax.linen, with PyTorch's initialisation; a file for each family.

Every module has `__call__(images)` for logits, `features(images)` for what its linear head sees, and `layers(images)`
for what every ReLU gives, the features and the logits. The last map is `layers[-3]` of a convolutional network whose
features are that map, pooled; the head's weights are `theta["head"]["kernel"]`.
"""

from jaxdd.models.zoo.convnet import ConvNet, WideConvNet
from jaxdd.models.zoo.lenet import AlexCifarNet, LeNet
from jaxdd.models.zoo.mlp import MLP
from jaxdd.models.zoo.mobile import MobileNetV2, ShuffleNetV2
from jaxdd.models.zoo.resnet import ResNet8, ResNet10, ResNet18, ResNet20, ResNet50, ResNet56
from jaxdd.models.zoo.vgg import VGG11

__all__ = [
    "MLP",
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
]
