"""Runs of several threads, each on a device of its own."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, class_means, run

from jaxdd.engine import chunk
from jaxdd.types import Distilled, Labels, Method, RealData, Recipe, Stage


@pytest.fixture
def data(rng):
    labels = np.arange(60) % 3
    return RealData.of(jnp.asarray(rng.normal(size=(60, 4, 4, 1)).astype(np.float32)), Labels.index(labels))


def together(*works):
    """What they return, each in a thread, begun at once."""
    found, failures, gate = [None] * len(works), [], threading.Barrier(len(works))

    def call(i):
        try:
            gate.wait()
            found[i] = works[i]()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return found


def needy(rate):
    """A method that starts from what a stage leaves and goes on at its own rate."""
    follow = class_means(0.3)
    stage = Stage(
        "slow", Recipe(lambda spec: follow._replace(product=lambda state: state.params["images"])), steps=20, config={}
    )

    def bind(spec):
        def init(key, data):
            return {"images": data.assets["slow"]}

        def update(key, state, batch):
            return {"images": state["images"] + rate * batch.images.mean(0)[None]}, {"loss": batch.images.mean()}

        return Method(init, follow.sample, update, lambda state: Distilled(state["images"], jnp.arange(3)))

    return Recipe(bind, identity=("needy", rate), stages=lambda spec: (stage,))


@pytest.mark.endurance
def test_a_stage_that_two_runs_need_is_made_once_and_serves_both(data, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))
    rates, devices = (0.1, 0.2), jax.devices()[:2]
    found = together(
        *(
            lambda rate=rate, device=device: run(needy(rate), data, devices=[device], workdir=tmp_path / str(rate))
            for rate, device in zip(rates, devices, strict=True)
        )
    )
    (made,) = (tmp_path / "cache" / "stages").iterdir()
    assert made.name.startswith("slow-")
    for rate, result in zip(rates, found, strict=True):
        assert_same(result.state, run(needy(rate), data).state)


@pytest.mark.endurance
def test_devices_do_not_drop_each_others_programs(data, monkeypatch):
    monkeypatch.setattr(chunk, "_COMPILED_AT_MOST", 1)
    chunk._COMPILED.clear()
    devices = jax.devices()[:3]

    def programs():
        together(*(lambda device=device: run(class_means(), data, steps=2, devices=[device]) for device in devices))
        return {mesh: known[2] for mesh, kept in chunk._COMPILED.items() for known in kept.values()}

    first = programs()
    assert len(first) == 3 and all(programs()[mesh] is program for mesh, program in first.items())
    run(class_means(0.7), data, steps=2)
    assert [len(kept) for kept in chunk._COMPILED.values()] == [1, 1, 1]
    assert sum(kept[next(iter(kept))][2] is first[mesh] for mesh, kept in chunk._COMPILED.items()) == 2


@pytest.mark.endurance
def test_runs_that_save_all_the_time_keep_their_checkpoints_apart(data, tmp_path):
    def at_work(device, steps, resume=False):
        return run(
            class_means(),
            data,
            devices=[device],
            steps=steps,
            log_every=1,
            workdir=tmp_path / str(device.id),
            checkpoint_seconds=0.0,
            resume=resume,
        )

    devices = jax.devices()[:3]
    together(*(lambda device=device: at_work(device, 6) for device in devices))
    whole = run(class_means(), data, steps=9)
    for result in together(*(lambda device=device: at_work(device, 9, resume=True) for device in devices)):
        assert result.resumed_from == 6
        assert_same(result.state, whole.state)
