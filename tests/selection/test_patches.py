"""Patches of images, and where a network looks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.selection import drop_patches, patch_scores, scores
from jaxdd.selection.patches import as_patches, from_patches, in_place

IMAGES = np.random.default_rng(0).normal(size=(5, 6, 4, 3)).astype(np.float32)


def test_patches_are_tiles_row_by_row_and_come_back():
    patches = as_patches(jnp.asarray(IMAGES), 2)
    assert patches.shape == (5, 6, 12)
    np.testing.assert_array_equal(patches[:, 3], IMAGES[:, 2:4, 2:4].reshape(5, -1))
    np.testing.assert_array_equal(from_patches(patches, (6, 4, 3), 2), IMAGES)
    np.testing.assert_allclose(
        patch_scores(IMAGES[..., 0], 2)[:, 5], IMAGES[:, 4:6, 2:4, 0].mean((1, 2)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.3, 2), (0.8, 5)])
def test_the_least_salient_patches_are_dropped_and_the_others_are_what_they_were(share, count):
    salient = np.random.default_rng(1).integers(0, 3, size=(5, 6))  # with equal ones: the first is dropped
    found = drop_patches(IMAGES, salient, 2, share)
    expected = np.zeros((5, 6), bool)
    for i, row in enumerate(salient):
        expected[i, np.argsort(row, kind="stable")[:count]] = True
    np.testing.assert_array_equal(found.dropped, expected)
    assert found.kept.shape == (5, 6 - count, 12)
    whole = np.asarray(as_patches(jnp.asarray(IMAGES), 2))
    np.testing.assert_array_equal(in_place(found, 7.0), np.where(expected[..., None], 7, whole))


@pytest.mark.parametrize(
    ("size", "share", "salient", "words"),
    [
        (4, 0.5, np.zeros((5, 6)), "6x4 pixels cannot be cut into patches of 4x4"),
        (2, 1.0, np.zeros((5, 6)), "from 0 to below 1"),
        (2, 0.99, np.zeros((5, 6)), "leaves none"),
        (2, 0.5, np.zeros((5, 5)), "a score for each"),
        (2, 0.5, "none", "scores must be an array"),
        (2, "0.5", np.zeros((5, 6)), "from 0 to below 1"),
    ],
)
def test_what_cannot_be_dropped_is_refused(size, share, salient, words):
    with pytest.raises(JaxddError, match=words):
        drop_patches(IMAGES, salient, size, share)


def test_what_is_no_image_or_no_score_is_refused():
    for images in (IMAGES[0], IMAGES[:0], None):
        with pytest.raises(JaxddError, match="images must"):
            drop_patches(images, np.zeros((5, 6)), 2, 0.5)
    for salient in (IMAGES, IMAGES[0, :, :, 0], IMAGES[:0, ..., 0]):
        with pytest.raises(JaxddError, match="scores of pixels must have the shape"):
            patch_scores(salient, 2)


SQUARES = np.random.default_rng(2).uniform(size=(4, 7, 7, 1)).astype(np.float32)


@jax.jit
def looked(images):
    """A small ConvNet's numbers, saliency and layers."""
    network = models.build("convnet(width=4, depth=2)", (7, 7, 1), 3)
    theta, stats = network.init(jax.random.key(0))
    saliency = scores.grad_cam(network, theta, stats, images, jnp.array([0, 1, 2, 0]))
    return saliency, network.layers(theta, images, stats)[0], theta["head"]


def test_grad_cam_by_derivatives_of_what_follows_the_last_map():
    """Grad-CAM++ by its definition, with three derivatives of the exponential of the logit, place by place."""
    found, layers, head = jax.tree.map(lambda leaf: np.asarray(leaf, float), looked(SQUARES))
    last, classes = layers[1], np.array([0, 1, 2, 0])
    assert last.shape == (4, 5, 5, 4)  # of a map of 11x11 pixels: images of 7x7 with a margin of two
    slope = np.zeros_like(last)
    for place in np.ndindex(4, 4):
        for channel in range(4):
            flat = np.zeros((2, 2, 4))
            flat[place[0] // 2, place[1] // 2, channel] = 0.25  # the fifth row and column are not pooled
            slope[:, *place, channel] = (flat.ravel() @ head["kernel"])[classes]
    pooled = last[:, :4, :4].reshape(4, 2, 2, 2, 2, 4).mean((2, 4)).reshape(4, -1)
    logit = (pooled @ head["kernel"] + head["bias"])[range(4), classes]
    np.testing.assert_allclose(logit, layers[-1][range(4), classes], rtol=1e-4)
    cam = by_definition(last, slope, logit)
    large = np.asarray(jax.image.resize(cam, (4, 10, 10), "bilinear"))
    np.testing.assert_allclose(found, large[:, 1:8, 1:8], rtol=1e-3, atol=1e-5 * large.max())
    assert found.shape == (4, 7, 7) and found.max() > 0


def by_definition(last, slope, logit):
    first, second, third = (np.exp(logit)[:, None, None, None] * slope**order for order in (1, 2, 3))
    below = 2 * second + last.sum((1, 2), keepdims=True) * third
    alpha = np.divide(second, below, out=np.zeros_like(below), where=below != 0)
    weights = (alpha * np.maximum(first, 0)).sum((1, 2), keepdims=True)
    return np.maximum((weights * last).sum(3), 0) / np.exp(logit)[:, None, None]


def test_a_map_that_is_pooled_as_a_whole_has_the_same_slope_everywhere():
    """And without classes it is the one that the network takes an image for."""
    theta = {"head": {"kernel": jnp.asarray(np.random.default_rng(3).normal(size=(2, 3)))}}

    def layers(theta, images):
        last = jnp.concatenate([images, images**2], axis=3)
        features = last.mean((1, 2))
        return last, features, features @ theta["head"]["kernel"]

    network = models.from_functions(lambda key: theta, lambda theta, images: layers(theta, images)[-1], layers=layers)
    found = jax.jit(lambda images: scores.grad_cam(network, theta, {}, images))(SQUARES)
    last = np.concatenate([SQUARES, SQUARES**2], axis=3).astype(float)
    kernel = np.asarray(theta["head"]["kernel"], float)
    logits = last.mean((1, 2)) @ kernel
    slope = np.broadcast_to(kernel.T[logits.argmax(1)][:, None, None] / 49, last.shape)
    np.testing.assert_allclose(found, by_definition(last, slope, logits.max(1)), rtol=1e-3, atol=1e-7)


def test_saliency_needs_maps():
    network = models.build("mlp(width=4)", (7, 7, 1), 3)
    theta, stats = network.init(jax.random.key(0))
    with pytest.raises(JaxddError, match="maps and a linear head"):
        scores.grad_cam(network, theta, stats, SQUARES)


def test_texture_is_by_sobel():
    grey = IMAGES.mean(-1).astype(float)
    slopes = [[np.abs(scipy.ndimage.sobel(one, axis=axis, mode="mirror")) for axis in (0, 1)] for one in grey]
    np.testing.assert_allclose(jax.jit(scores.texture)(IMAGES), np.mean(slopes, (1, 2, 3)), rtol=1e-5)
    assert scores.texture(np.ones((1, 4, 4, 1))) == 0
