"""Checkpoints: what is restored is what was saved, to the bit, or it is said why not and nothing is lost."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, class_means, run

from jaxdd.engine import checkpoints
from jaxdd.engine.checkpoints import Checkpoints, check, claim, held_execution
from jaxdd.engine.placement import make_mesh, replicated
from jaxdd.errors import JaxddError
from jaxdd.types import Labels, RealData

PLACE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def state_of(step):
    """Every kind of leaf; most of its bytes lie in a file of their own."""
    images = np.random.default_rng(step).normal(size=(4, 14, 14, 1))
    return {
        "images": jnp.asarray(images, jnp.float32),
        "half": jnp.arange(3, dtype=jnp.bfloat16) + step,
        "key": jax.random.split(jax.random.key(step)),
        "step": jnp.int32(step),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the states of steps 5 and 10."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    store = Checkpoints(folder, keep=2)
    for step in (0, 5, 10):
        store.save(step, state_of(step), score=step / 3)
    store.close()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def newest(folder, like=None, **options):
    store = Checkpoints(folder, keep=2)
    try:
        return store.restore_newest(state_of(0) if like is None else like, PLACE, **options)
    finally:
        store.close()


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def delete(path, rng):
    path.unlink()


def test_the_newest_is_restored_and_older_ones_are_gone(saved):
    state, step = newest(saved)
    assert step == 10 and sorted(path.name for path in saved.iterdir()) == ["10", "5"]
    assert_same(state, state_of(10))


def test_on_another_number_of_devices(tmp_path):
    def place(count):
        return replicated(make_mesh(jax.devices()[:count]))

    store = Checkpoints(tmp_path, keep=2)
    store.save(3, jax.device_put(state_of(3), place(4)))
    store.wait()
    for count in (4, 2, 1):
        state, step = store.restore_newest(state_of(0), place(count))
        assert step == 3 and all(len(leaf.devices()) == count for leaf in jax.tree.leaves(state))
        assert_same(state, state_of(3))
    store.close()


def test_none_where_nothing_was_saved(tmp_path):
    assert newest(tmp_path / "empty") is None


@pytest.mark.parametrize(
    "damage", [flip, *(pytest.param(each, marks=pytest.mark.endurance) for each in (truncate, delete))]
)
def test_a_damaged_file_is_noticed_or_does_not_matter(saved, tmp_path, rng, caplog, damage):
    noticed = 0
    for path in sorted(path for path in (saved / "10").rglob("*") if path.is_file()):
        folder = shutil.copytree(saved, tmp_path / "checkpoints")
        damage(folder / path.relative_to(saved), rng)
        caplog.clear()
        state, step = newest(folder)
        assert_same(state, state_of(step))
        assert (folder / "damaged-10").is_dir() == (step == 5)
        if step == 5:
            noticed += 1
            (said,) = (record.message for record in caplog.records if record.name == "jaxdd")
            assert said.startswith(f"{folder / '10'}: this checkpoint is damaged (")
            assert said.endswith("and now called damaged-10; going on from step 5.") and "\n" not in said
        shutil.rmtree(folder)
    assert noticed >= 4


def test_flipped_bits_of_the_arrays_are_noticed(copy, rng):
    """Also where orbax itself does not: in the largest file, which holds the images."""
    largest = max((path for path in (copy / "10").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content, noticed = largest.read_bytes(), 0
    for _ in range(8):
        flip(largest, rng)
        state, step = newest(copy)
        assert_same(state, state_of(step))  # a frame of zstd has a few bits that mean nothing
        if step == 5:
            noticed += 1
            (copy / "damaged-10").rename(copy / "10")
        largest.write_bytes(content)
    assert noticed >= 6


def test_what_was_set_aside_before_is_kept(copy, rng):
    shutil.copytree(copy / "10", copy / "damaged-10")
    truncate(copy / "10" / "meta" / "metadata", rng)
    assert newest(copy)[1] == 5
    assert {path.name for path in copy.iterdir()} == {"5", "damaged-10", "damaged-10-1"}


@pytest.mark.endurance
def test_all_damaged_is_an_error_that_changes_nothing(copy, rng):
    for path in copy.glob("*/meta/metadata"):
        truncate(path, rng)
    for _ in range(2):
        with pytest.raises(JaxddError, match=r"no checkpoint in it is whole \(step 10: .*; step 5: .*nothing was chan"):
            newest(copy)
        assert {path.name for path in copy.iterdir()} == {"5", "10"}
    assert newest(copy, needed=False) is None  # of the best iterate, which is found anew
    assert {path.name for path in copy.iterdir()} == {"damaged-5", "damaged-10"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": jnp.zeros((4, 3, 3, 1))}, r"images'\] is 'float32\[4, 14, 14, 1\]' there and 'float32\[4, 3, 3, 1"),
        ({"half": jnp.zeros(3)}, r"half'\] is 'bfloat16\[3\]' there and 'float32\[3\]' here"),
        ({"more": jnp.zeros(3)}, r"more'\] is 'absent' there"),
        ({"key": jnp.zeros((2, 2), jnp.uint32)}, r"key'\] is 'key<fry>\[2\]' there"),
    ],
)
def test_another_structure_is_no_damage(copy, change, message):
    with pytest.raises(JaxddError, match=message):
        newest(copy, {**state_of(0), **change})
    assert {path.name for path in copy.iterdir()} == {"5", "10"}


def test_a_newer_format_is_refused(copy):
    path = copy / "10" / "meta" / "metadata"
    record = json.loads(path.read_text()) | {"format_version": 2}
    del record["seal"]
    path.write_text(json.dumps({**record, "seal": checkpoints._seal(record)}))
    with pytest.raises(JaxddError, match=r"10 was written by a newer jaxdd \(format 2, .* update jaxdd"):
        newest(copy)
    assert {path.name for path in copy.iterdir()} == {"5", "10"}


def test_checkpoints_from_before_there_were_checksums_are_read(copy):
    for path in copy.glob("*/meta/metadata"):
        path.write_text('{"score": 0.5}')
    state, step = newest(copy)
    assert step == 10
    assert_same(state, state_of(10))


def test_what_the_machine_cannot_do_now_is_no_damage(copy, monkeypatch):
    store = Checkpoints(copy, keep=2)

    def restore(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(store._manager, "restore", restore)
    with pytest.raises(JaxddError, match="cannot be read now"):
        store.restore_newest(state_of(0), PLACE)
    monkeypatch.undo()
    store.close()
    assert newest(copy)[1] == 10


def test_score_and_a_step_by_name(copy, rng):
    store = Checkpoints(copy, keep=2)
    assert store.score(5) == 5 / 3
    assert_same(store.restore(5, state_of(0), PLACE), state_of(5))
    truncate(copy / "5" / "meta" / "metadata", rng)
    for read in (lambda: store.score(5), lambda: store.restore(5, state_of(0), PLACE)):
        with pytest.raises(JaxddError, match=r"5: this checkpoint is damaged"):
            read()
    store.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"[1]", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format_version": "x"}', "damaged"),
        (b'{"format_version": 2, "seed": 0}', "newer jaxdd .* update jaxdd"),
        (b'{"format_version": 1, "seed": 1}', "seed is 1 there and 0 here; choose another"),
        (b'{"seed": 0}', "already holds this run"),  # as the first directories were
    ],
)
def test_run_json(content, message, tmp_path):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(JaxddError, match=message):
        check(tmp_path, {"seed": 0}, resume=False)
    assert (tmp_path / "run.json").read_bytes() == content


def test_a_claimed_directory_says_its_format_and_hides_no_error(tmp_path):
    with pytest.raises(FileNotFoundError), claim(tmp_path, {"seed": 0}, {"side": 2}, resume=False):
        assert json.loads((tmp_path / "run.json").read_text()) == {"format_version": 1, "seed": 0}
        raise FileNotFoundError("of the run's own")
    check(tmp_path, {"seed": 0}, resume=True)
    assert held_execution(tmp_path) == {"side": 2}


@pytest.fixture(scope="module")
def data():
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).normal(size=(60, 4, 4, 1)).astype(np.float32)
    return RealData.of(jnp.array(images), Labels.index(labels))


def score(distilled):
    return {"score": -jnp.abs(distilled.images).mean()}


def test_a_run_falls_back_and_gives_the_bits_of_an_uninterrupted_one(data, tmp_path, rng, caplog):
    options = {"checkpoint_seconds": 0.0, "log_every": 1, "validate": score, "validate_every": 2}
    whole = run(class_means(), data, steps=8)
    first = run(class_means(), data, workdir=tmp_path, steps=6, **options)
    assert first.best[1] == 2
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert steps == [5, 6]
    truncate(tmp_path / "checkpoints" / "6" / "meta" / "metadata", rng)
    truncate(tmp_path / "best" / "2" / "meta" / "metadata", rng)
    with caplog.at_level(logging.WARNING, "jaxdd"):
        resumed = run(class_means(), data, workdir=tmp_path, steps=8, resume=True, **options)
    assert resumed.resumed_from == 5
    assert_same(resumed.state, whole.state)
    said = [record.message for record in caplog.records if record.name == "jaxdd"]
    assert [what.rpartition("; ")[2] for what in said] == ["going on from step 5.", "going on without it."]
    assert resumed.best[1] == 6
