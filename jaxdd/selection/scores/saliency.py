"""Where a network looks in an image, and how much there is to see."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd._arrays import images_of
from jaxdd._labels import class_numbers
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Network, PyTree


def grad_cam(
    network: Network, theta: PyTree, stats: PyTree, images: ArrayLike, classes: ArrayLike | None = None
) -> Array:
    """Grad-CAM++ (Chattopadhyay et al. 2018, arXiv 1710.11063): how much each place speaks for a class.

    With A the last map and g the slope of the class's logit in it, `α = g² / (2 g² + Σ_places A g³)`, which is their
    closed form where the score is the exponential of the logit; `w_channel = Σ_places α relu(g)`; and the saliency is
    `relu(Σ_channels w A)`, enlarged to the image's size. That exponential itself, by which the paper multiplies slopes,
    is left out: it scales the saliency of an image as a whole.

    The slope is known without a backward pass: a network's head is linear in its features, and these are its last map,
    pooled by means. A map that is larger than the image was of a padded one, and its margins are cut off.

        saliency = grad_cam(network, theta, stats, images)

    Args:
      network: of the zoo, with maps: a ConvNet or a ResNet, or of one's own with `layers` and a linear
        `theta["head"]["kernel"]`.
      theta, stats: its numbers; it is in evaluation mode.
      images: `(n, h, w, c)`.
      classes: int `(n,)`; None for the class that the network takes each image for.

    Returns:
      float32 `(n, h, w)`, none negative.

    Raises:
      JaxddError: if the network has no map, no linear head, or features that are no pooled map; or for
        images or classes of other shapes, and numbers of no class.
    """
    images = images_of(images)
    layers, _ = network.layers(theta, images, stats)
    maps, features, logits = [layer for layer in layers[:-2] if layer.ndim == 4], layers[-2], layers[-1]
    if not maps or not isinstance(theta, dict) or "kernel" not in theta.get("head", {}):
        raise JaxddError("saliency needs a network with maps and a linear head, such as a ConvNet or a ResNet.")
    last = maps[-1]
    if classes is None:
        classes = logits.argmax(1)
    else:
        classes = class_numbers(classes, logits.shape[:1], "classes", logits.shape[1])
    slope = _slope(theta["head"]["kernel"], last.shape[1:], features.shape[1:])[classes]
    squared, cubed = slope**2, slope**3
    below = 2 * squared + jnp.sum(last, axis=(1, 2), keepdims=True) * cubed
    alpha = jnp.where(below != 0, squared / jnp.where(below != 0, below, 1), 0)
    weights = jnp.sum(alpha * jax.nn.relu(slope), axis=(1, 2), keepdims=True)
    return _enlarged(jax.nn.relu(jnp.sum(weights * last, axis=3)), *images.shape[1:3])


def _slope(kernel: Array, shape: tuple[int, ...], features: tuple[int, ...]) -> Array:
    """Of each class's logit in the last map of this shape, `(classes, h, w, channels)`."""
    height, width, channels = shape
    whole = channels == kernel.shape[0]  # pooled as a whole
    rows, columns = (1, 1) if whole else (height, width)
    factor = 1
    while not whole and rows * columns * channels > kernel.shape[0]:
        factor *= 2
        rows, columns = height // factor, width // factor
    if features != (kernel.shape[0],) or rows * columns * channels != kernel.shape[0]:
        raise JaxddError("saliency needs a network whose features are its last map, pooled by means.")
    cells = kernel.T.reshape(-1, rows, columns, channels)
    if whole:
        return jnp.broadcast_to(cells, (len(cells), *shape)) / (height * width)
    spread = cells.repeat(factor, axis=1).repeat(factor, axis=2) / factor**2
    rest = ((0, 0), (0, height - rows * factor), (0, width - columns * factor), (0, 0))
    return jnp.pad(spread, rest)  # what pooling leaves out speaks for nothing


def _enlarged(maps: Array, height: int, width: int) -> Array:
    """Maps `(n, h, w)` at an image's size; the steps between their places are a power of two."""
    _, rows, columns = maps.shape
    stride = 1
    while stride * rows < height or stride * columns < width:
        stride *= 2
    large = jax.image.resize(maps, (len(maps), stride * rows, stride * columns), "bilinear")
    top, left = (stride * rows - height) // 2, (stride * columns - width) // 2
    return large[:, top : top + height, left : left + width]


def texture(images: ArrayLike) -> Array:
    """How much texture images have: `(|x slope| + |y slope|) / 2` by Sobel's filters, averaged over pixels.

    That is the score by which Adaptive Dataset Quantization (Li et al. 2025, arXiv 2412.16895) takes small images to be
    representative; channels are averaged first (the authors' weigh them as the eye does).

    Args:
      images: `(n, h, w, c)`, with sides of at least 2.

    Returns:
      float32 `(n,)`

    Raises:
      JaxddError: for images of another shape.
    """
    grey = jnp.pad(images_of(images, side=2).astype(jnp.float32).mean(-1), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    across = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    down = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    slopes = jnp.abs(across[:, :, 2:] - across[:, :, :-2]) + jnp.abs(down[:, 2:] - down[:, :-2])
    return slopes.mean((1, 2)) / 2
