"""Threads that obey what the main one hears."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, class_means, run

from jaxdd import _stopping, evaluation, models
from jaxdd.errors import RunInterrupted
from jaxdd.types import Distilled, Examples, Labels, RealData


@pytest.fixture
def data(rng):
    labels = np.arange(60) % 3
    images = (rng.normal(size=(60, 4, 4, 1)) + labels[:, None, None, None]).astype(np.float32)
    return RealData.of(jnp.asarray(images), Labels.index(labels))


def in_thread(work):
    """What a thread raises, or None."""
    raised = []

    def call():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_a_run_of_a_thread_stops_where_the_main_one_is_told(data, tmp_path):
    def told(step, metrics, state):
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with _stopping.signals() as caught:

        def obey():
            with _stopping.obeying(caught):
                run(class_means(), data, workdir=tmp_path, callback=told, steps=40)

        stopped = in_thread(obey)
    assert isinstance(stopped, RunInterrupted) and stopped.signum == signal.SIGTERM
    assert "is saved in" in str(stopped) and caught == [signal.SIGTERM]
    again = run(class_means(), data, workdir=tmp_path, resume=True, steps=40)
    assert again.resumed_from > 0
    assert_same(again.state, run(class_means(), data, steps=40).state)


def test_a_thread_that_obeys_nobody_is_not_stopped(data):
    with _stopping.signals() as caught:
        caught.append(signal.SIGTERM)
        assert in_thread(lambda: run(class_means(), data)) is None
        assert in_thread(_stopping.check) is None
    _stopping.check()


def test_an_evaluation_stops_between_networks(data):
    network = models.build("mlp(width=4, depth=1)", (4, 4, 1), 3)
    distilled = Distilled(jnp.zeros((3, 4, 4, 1)), jnp.arange(3))
    test = Examples(data.images, data.labels.values)

    def work():
        with _stopping.obeying([signal.SIGINT]):
            evaluation.evaluate(network, distilled, None, test, "quick", key=jax.random.key(0))

    stopped = in_thread(work)
    assert isinstance(stopped, RunInterrupted) and stopped.signum == signal.SIGINT
