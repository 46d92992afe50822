"""The field's standard networks, in flax.linen, with PyTorch's initialisation; a file for each family.

Every module has `__call__(images)` for logits, `features(images)` for what its linear head sees, and `layers(images)`
for what every ReLU gives, the features and the logits. The last map is `layers[-3]` of a convolutional network whose
features are that map, pooled; the head's weights are `theta["head"]["kernel"]`.
"""

from jaxdd.models.zoo.convnet import ConvNet, WideConvNet
from jaxdd.models.zoo.lenet import AlexCifarNet, LeNet
from jaxdd.models.zoo.mlp import MLP
from jaxdd.models.zoo.resnet import ResNet10, ResNet18

__all__ = ["MLP", "AlexCifarNet", "ConvNet", "LeNet", "ResNet10", "ResNet18", "WideConvNet"]
