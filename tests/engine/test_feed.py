"""Streamed data give what data on the devices give."""

import dataclasses
import functools
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import MeanState, assert_same, class_means, run

from jaxdd import engine
from jaxdd._files import digest
from jaxdd.data import balanced_sampler
from jaxdd.engine import feed
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import HostArray, Labels, RealData


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    """Several of them in a run."""
    monkeypatch.setattr(feed, "_WINDOW_STEPS", 4)


@pytest.fixture
def pixels(rng):
    labels = np.arange(60) % 3
    return (rng.normal(size=(60, 4, 4, 1)) + labels[:, None, None, None]).astype(np.float32), labels


def streamed(pixels, read=None):
    images, labels = pixels
    seen = []

    def rows(rows):
        seen.append(np.array(rows))
        return images[rows] if read is None else read(rows)

    return RealData.of(HostArray(images.shape, images.dtype, rows, digest([images])), Labels.index(labels)), seen


@functools.cache  # equal methods share compiled programs
def starting_from_real(**options):
    method = class_means(**options)

    def init(key, data):
        chosen = jnp.arange(3) + jax.random.randint(key, (), 0, 20) * 3
        return MeanState({"images": data.images[chosen], "size": jnp.zeros(())}, key)

    return method._replace(init=init)


@pytest.mark.parametrize(("devices", "steps"), [(1, 11), (4, 12)])  # the last window is cut, or whole
def test_streamed_and_resident_data_give_the_same(pixels, devices, steps):
    options = {"devices": jax.devices()[:devices], "steps": steps}
    resident = run(starting_from_real(), RealData.of(jnp.asarray(pixels[0]), Labels.index(pixels[1])), **options)
    data, seen = streamed(pixels)
    result = run(starting_from_real(), data, **options)
    assert_same(result.state, resident.state)
    assert [row["loss"] for row in result.history] == [row["loss"] for row in resident.history]
    # The first images, then the steps, of which each device gets its part; none beyond the last window.
    assert [rows.size for rows in seen[1:]] == [16 // devices] * 12 * devices


def test_a_window_is_filled_in_place_where_that_can_be(pixels):
    data, seen = streamed(pixels)

    def fill(rows, out):
        out[:] = pixels[0][rows]

    filled = data.with_images(dataclasses.replace(data.images, fill=fill))
    result, expected = (run(starting_from_real(), each, steps=11) for each in (filled, data))
    assert_same(result.state, expected.state)
    assert len(seen) == 1 + 1 + 12  # the first images of both, and the steps of the one that can only read


def test_a_batch_that_does_not_divide_is_read_once_and_said_so(pixels, caplog):
    data, seen = streamed(pixels)
    options = {"steps": 3, "devices": jax.devices()[:4]}
    method = starting_from_real(sampler=balanced_sampler(15))
    result = run(method, data, **options)
    assert [rows.size for rows in seen[1:]] == [15] * 4
    assert "a batch of 15 does not divide over 4 devices" in caplog.text
    resident = RealData.of(jnp.asarray(pixels[0]), data.labels)
    assert_same(result.state, run(method, resident, **options).state)


def test_rows_of_other_tables_are_not_for_the_devices_to_share(pixels, caplog):
    """Networks, for one: three of them are no batch that does not divide."""
    real = RealData.of(jnp.asarray(pixels[0]), Labels.index(pixels[1]))
    data = RealData({**real.tables, "networks": jnp.zeros((5, 2))}, real.labels)
    base = starting_from_real()

    def sample(key, labels):
        return {"examples": base.sample(key, labels), "networks": jnp.arange(3)}

    run(base._replace(sample=sample), data, steps=1, devices=jax.devices()[:4])
    assert "does not divide" not in caplog.text


def test_a_streamed_run_resumes_with_the_same_bits_even_resident(pixels, tmp_path):
    data, _ = streamed(pixels)
    whole = run(starting_from_real(), data)
    resident = RealData.of(jnp.asarray(pixels[0]), data.labels)
    for steps, now in ((3, data), (10, resident), (25, data)):
        part = run(starting_from_real(), now, workdir=tmp_path, resume=True, steps=steps)
    assert part.resumed_from == 10
    assert_same(part.state, whole.state)
    altered = (np.where(np.arange(60)[:, None, None, None] == 7, 0, pixels[0]), pixels[1])
    with pytest.raises(JaxddError, match="data is"):
        run(starting_from_real(), streamed(altered)[0], workdir=tmp_path, resume=True)


def test_data_that_cannot_be_read_any_more_end_a_run_with_its_state_saved(pixels, tmp_path):
    gone = False

    def read(rows):
        if gone:
            raise JaxddError("cat/7.png: there is no such file.")
        return pixels[0][rows]

    def vanish(step, metrics, state):
        nonlocal gone
        gone = gone or step >= 10

    data, _ = streamed(pixels, read)
    with pytest.raises(
        JaxddError, match=r"cat/7\.png: there is no such file; stopped at step 1\d of 25, step 1\d is saved in"
    ):
        run(starting_from_real(), data, workdir=tmp_path, callback=vanish, log_every=1)
    gone = False
    resumed = run(starting_from_real(), data, workdir=tmp_path, resume=True)
    assert resumed.resumed_from >= 10
    resident = RealData.of(jnp.asarray(pixels[0]), data.labels)
    assert_same(resumed.state, run(starting_from_real(), resident).state)


@pytest.mark.endurance
def test_a_signal_is_answered_while_data_are_read(pixels, tmp_path):
    """And the first images may be the ones that cannot be read."""
    released = threading.Event()

    def read(rows):
        if len(seen) == 1 + 4 + 2:  # of the second window
            released.wait(30)
        return pixels[0][rows]

    data, seen = streamed(pixels, read)

    def stop(step, metrics, state):
        if step == 4:  # while the next ones are awaited
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Timer(2, released.set).start()

    with pytest.raises(RunInterrupted, match="stopped at step 4 of 25; step 4 is saved"):
        run(starting_from_real(), data, workdir=tmp_path, callback=stop, log_every=1)
    assert len(seen) == 1 + 4 + 2  # nothing was read any more

    def gone(rows):
        raise JaxddError("7.png: there is no such file.")

    with pytest.raises(JaxddError, match=r"^7\.png: there is no such file\.$"):
        run(starting_from_real(), streamed(pixels, gone)[0])


def test_stored_images_are_decoded_on_the_device(rng):
    stored, labels = rng.integers(0, 256, (60, 4, 4, 1), np.uint8), np.arange(60) % 3

    def decode(images):
        return images / jnp.float32(255)

    data, _ = streamed((stored, labels))
    data = data.with_images(dataclasses.replace(data.images, decode=decode))
    result = run(starting_from_real(), data, steps=5)
    resident = RealData.of(decode(jnp.asarray(stored)), Labels.index(labels))
    expected = run(starting_from_real(), resident, steps=5)
    np.testing.assert_allclose(result.distilled.images, expected.distilled.images, rtol=1e-6, atol=1e-6)
    cost = engine.plan(starting_from_real(), data, devices=jax.devices()[:1])
    assert cost.seconds_per_step > 0
    assert cost.argument_bytes < 3 * 4 * 16 * stored[0].nbytes  # a window, not the data


def test_images_on_the_host_are_no_array(pixels):
    images = streamed(pixels)[0].images
    assert images.shape == (60, 4, 4, 1) and len(images) == 60 and images.ndim == 4 and images.dtype == np.float32
    np.testing.assert_array_equal(images[np.array([3, 1])], pixels[0][[3, 1]])
    np.testing.assert_array_equal(jax.jit(lambda rows: images[rows])(jnp.array([3, 1])), pixels[0][[3, 1]])
    np.testing.assert_array_equal(images[:2], pixels[0][:2])
    with pytest.raises(JaxddError, match="cannot be taken as one array"):
        np.asarray(images)
