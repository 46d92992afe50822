"""Networks by name."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._dotted import is_dotted, resolve
from jaxdd._files import digest
from jaxdd._jax import constants, key_of, primitives
from jaxdd._named import parse
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.models.adapters import as_network
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
from jaxdd.types import Array, Key, Network, PyTree, leaves_by_path

_ZOO: dict[str, type[nn.Module]] = {
    "alexcifarnet": AlexCifarNet,
    "convnet": ConvNet,
    "lenet": LeNet,
    "mlp": MLP,
    "mobilenet_v2": MobileNetV2,
    "resnet8": ResNet8,
    "resnet10": ResNet10,
    "resnet18": ResNet18,
    "resnet20": ResNet20,
    "resnet50": ResNet50,
    "resnet56": ResNet56,
    "shufflenet_v2": ShuffleNetV2,
    "vgg11": VGG11,
    "wide_convnet": WideConvNet,
}
_LINEN_FIELDS = {"name", "parent", "num_classes"}


def available() -> dict[str, str]:
    """The names `build` knows, each with one line about it."""
    return {name: (module.__doc__ or "").splitlines()[0] for name, module in _ZOO.items()}


def build(model: str | Network, image_shape: tuple[int, ...], num_classes: int, **options: Any) -> Network:
    """A network by name, with options: `"convnet"`, `"convnet(width=32, depth=2)"`, `"my.module:factory"`.

    Args:
      model: one of `available()`, or "package.module:factory" for your own `factory(image_shape, num_classes,
        **options)`, which returns a Network (as `from_nnx` does), a linen module or an `(init, apply)` pair; either
        may be followed by options in brackets. A Network passes through.
      image_shape: `(h, w, c)`.
      num_classes: at least 2.
      **options: the module's fields, such as `width` and `depth`, beside those in brackets.

    Raises:
      JaxddError: for an unknown name or option (the nearest is suggested), a factory that cannot be imported or
        returns something else, or an image shape that the network cannot take.
    """
    if isinstance(model, Network):
        return model
    name, bracketed = parse(model, "model")
    options = {**bracketed, **options}
    if len(image_shape) != 3 or min(image_shape) < 1 or num_classes < 2:
        raise JaxddError(
            f"a network needs images (height, width, channels) and at least 2 classes, "
            f"got {tuple(image_shape)} and {num_classes}."
        )
    height, width, channels = (int(size) for size in image_shape)
    image_shape = (height, width, channels)
    if is_dotted(name):
        factory = resolve(name)
        try:
            inspect.signature(factory).bind(image_shape, num_classes, **options)
        except (TypeError, ValueError) as error:
            raise JaxddError(
                f"model factory {name!r} must take (image_shape, num_classes, **options): {error}."
            ) from error
        made = factory(image_shape, num_classes, **options)
    elif name in _ZOO:
        made = _ZOO[name](num_classes, **_checked(name, options))
    else:
        raise unknown("model", name, _ZOO)
    network = as_network(made, (height, width, channels))
    if network is None:
        raise JaxddError(
            f"model factory {name!r} must return a Network, a linen module or an (init, apply) pair, "
            f"got {type(made).__name__}; if that is a flax.nnx module, wrap it with jaxdd.models.from_nnx."
        )
    return network


def options_of(model: str) -> tuple[str, dict[str, Any]]:
    """A network's name without its options, and all of these, the defaults too.

        options_of("mlp(width=32)")  # ("mlp", {"width": 32, "depth": 2})

    Args:
      model: as `build` takes it by name; of a dotted path only the options that are given are known.

    Raises:
      JaxddError: if it is not written as one, or has an option that is none of its network's.
    """
    name, given = parse(model, "model")
    if name not in _ZOO:
        return name, given
    return name, {**{option: field.default for option, field in _fields(name).items()}, **_checked(name, given)}


def with_options(model: str, **options: Any) -> str:
    """A network's name with options set, in place of those that it has.

        with_options("resnet18(width=32)", form="large")  # "resnet18(width=32, form='large')"

    Raises:
      JaxddError: if it is not written as one.
    """
    name, given = parse(model, "model")
    return f"{name}({', '.join(f'{option}={value!r}' for option, value in {**given, **options}.items())})"


def _fields(name: str) -> dict[str, Any]:
    """The options of a network of the zoo."""
    return {field.name: field for field in dataclasses.fields(_ZOO[name]) if field.name not in _LINEN_FIELDS}


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options that a network of the zoo has, of their types."""
    known = {option: field.type for option, field in _fields(name).items()}
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of model {name!r}", option, known)
        if known[option] == "int":
            checked[option] = whole(value, f"{option} of model {name!r}")
        elif isinstance(value, str):
            checked[option] = value
        else:
            raise JaxddError(f"{option} of model {name!r} must be a string, got {value!r}.")
    return checked


def identity(model: str | Network, image_shape: tuple[int, ...]) -> str:
    """What tells a network from others, the same in every process: its name, or a digest of what a `Network` computes.

    That is its initialisation, its logits in training mode and their gradients, in JAX's own notation, so that another
    release may change it, with all constants.

    Args:
      model: as `build` takes it.
      image_shape: `(h, w, c)`.

    Raises:
      JaxddError: for a network that calls back to the host, whose functions cannot be told apart.
    """
    if not isinstance(model, Network):
        return model
    key = key_of(0)
    theta, stats = jax.eval_shape(model.init, key)
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)

    def everything(key: Key, theta: PyTree, images: Array, stats: PyTree) -> Any:
        def total(theta: PyTree, images: Array) -> tuple[Array, Any]:
            logits, after = model.apply(theta, images, stats, mode="train", key=key)
            return logits.sum(), (logits, after)

        return model.init(key), jax.grad(total, (0, 1), has_aux=True, allow_int=True)(theta, images)

    traced = jax.make_jaxpr(everything)(key, theta, images, stats)
    if primitives(traced) & {"pure_callback", "io_callback"}:
        raise JaxddError(
            "a network that calls back to the host cannot be told from others of its kind, which a stage needs: pass "
            "the dotted path of a function that makes it."
        )
    leaves = [
        f"{name} {leaf.dtype}{leaf.shape}" for tree in (theta, stats) for name, leaf in leaves_by_path(tree).items()
    ]
    # Functions that an equation calls are printed with their addresses.
    text = "\n".join([*leaves, re.sub(r"0x[0-9a-f]+", "0x", str(traced))])
    keys = jax.dtypes.prng_key
    values = [jax.random.key_data(v) if jnp.issubdtype(v.dtype, keys) else v for v in constants(traced)]
    return f"network-{digest([np.frombuffer(text.encode(), np.uint8), *values])}"
