"""A few snapshots of what a run makes: of their steps, the same after any interruption."""

import logging
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from toys import blocks, class_means, run

from jaxdd.engine.snapshots import FILE, Snapshots, snapshot_steps
from jaxdd.errors import RunInterrupted
from jaxdd.types import Labels, RealData


@pytest.fixture
def data(rng):
    labels = np.arange(60) % 3
    images = (rng.normal(size=(60, 4, 4, 1)) + labels[:, None, None, None]).astype(np.float32)
    return RealData.of(jnp.asarray(images), Labels.index(labels))


def first_two(product):
    return product.images[:2]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(1, (0, 1)), (9, (0, 9)), (10, (0, 10)), (11, (0, 10, 11)), (2000, (0, 10, 100, 1000, 2000))],
)
def test_steps_are_few_and_those_of_a_longer_run(steps, expected):
    assert snapshot_steps(steps) == expected
    assert set(expected[:-1]) <= set(snapshot_steps(10 * steps))


def test_they_are_the_products_of_their_steps(data):
    states = {}

    def callback(step, metrics, state):
        states[step] = state

    done = run(class_means(), data, snapshots=first_two, log_every=1, callback=callback)
    assert list(done.snapshots) == [0, 10, 25]
    np.testing.assert_array_equal(done.snapshots[0], np.zeros((2, 4, 4, 1)))  # where the toy begins
    for step in (10, 25):
        np.testing.assert_array_equal(done.snapshots[step], states[step].params["images"][:2])
    assert np.abs(done.snapshots[10] - done.snapshots[25]).max() > 0
    assert run(class_means(), data).snapshots == {}


def test_a_run_that_was_stopped_shows_those_of_one_that_was_not(data, tmp_path):
    run(class_means(), data, snapshots=first_two, workdir=tmp_path / "whole")

    def stop(step, metrics, state):
        if step in (4, 12):
            os.kill(os.getpid(), signal.SIGTERM)

    options = {"snapshots": first_two, "workdir": tmp_path / "part", "resume": True, "log_every": 4}
    for _ in range(2):
        with pytest.raises(RunInterrupted):
            run(class_means(), data, callback=stop, **options)
    done = run(class_means(), data, **options)
    assert done.resumed_from == 12 and list(done.snapshots) == [0, 10, 25]
    files = [(tmp_path / folder / FILE).read_bytes() for folder in ("whole", "part")]
    assert files[0] == files[1]
    # Nor is anything taken anew where nothing is left to do.
    assert list(run(class_means(), data, **options).snapshots) == [0, 10, 25]


def test_a_run_that_was_killed_takes_those_ahead_of_its_checkpoint_again(data, tmp_path):
    whole = run(class_means(), data, snapshots=first_two)

    class Killed(Exception):
        pass

    def die(step, metrics, state):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        if step == 12:
            raise Killed

    options = {"snapshots": first_two, "workdir": tmp_path, "resume": True, "log_every": 4}
    for error in (RunInterrupted, Killed):
        with pytest.raises(error):
            run(class_means(), data, callback=die, **options)
    ahead = safetensors.numpy.load_file(tmp_path / FILE)
    assert set(ahead) == {"0", "10"}
    done = run(class_means(), data, **options)
    assert done.resumed_from == 4 and list(done.snapshots) == list(whole.snapshots) == [0, 10, 25]
    for step, taken in whole.snapshots.items():
        np.testing.assert_array_equal(done.snapshots[step], taken)


def test_a_longer_run_has_the_steps_of_one_that_was_meant_to_be_so_long(data, tmp_path):
    part = run(class_means(), data, snapshots=first_two, workdir=tmp_path / "part", steps=15)
    assert list(part.snapshots) == [0, 10, 15]
    run(class_means(), data, snapshots=first_two, workdir=tmp_path / "part", resume=True)
    run(class_means(), data, snapshots=first_two, workdir=tmp_path / "whole")
    assert (tmp_path / "part" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


def test_of_parts_it_is_the_first(data):
    done = run(blocks(), data, steps=12, snapshots=first_two, devices=jax.devices()[:2])
    assert list(done.snapshots) == [0, 10, 12]
    np.testing.assert_allclose(done.snapshots[12], done.distilled.images[:2], rtol=1e-6)


def test_a_view_of_the_state_is_copied():
    """The next step overwrites the very buffer."""
    snapshots = Snapshots(None, lambda product: product, class_means()._replace(product=lambda state: state), 10, None)
    state = np.ones(3)
    snapshots._product = lambda state: state
    snapshots(0, 0, state)
    state[:] = 2
    assert snapshots.all()[0].tolist() == [1, 1, 1]


def test_a_damaged_file_is_said_and_fails_no_run(data, tmp_path, caplog):
    run(class_means(), data, snapshots=first_two, workdir=tmp_path, steps=15)
    for content in (b"", b"not a file of tensors", safetensors.numpy.save({"no step": np.zeros(1)})):
        (tmp_path / FILE).write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jaxdd"):
            done = run(class_means(), data, snapshots=first_two, workdir=tmp_path, resume=True)
        assert "cannot be read" in caplog.text
    assert list(done.snapshots) == []  # all of its steps were done in the first of the three
