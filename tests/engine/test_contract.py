"""What is no method, no data or no update is said in a sentence, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import class_means

import jaxdd
from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.types import Recipe

MEANS = class_means()


def updating(change):
    """Class means whose update makes something else of `(state, metrics)`."""
    return MEANS._replace(update=lambda key, state, batch: change(*MEANS.update(key, state, batch)))


def resized(state, metrics):
    return state._replace(params={**state.params, "size": jnp.zeros(2)}), metrics


def cast(state, metrics):
    return state._replace(params={**state.params, "size": state.params["size"].astype(jnp.int32)}), metrics


def failing(spec):
    raise RuntimeError("of its own")


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("kip", r"got the name 'kip': methods.build\('kip'\)"),
        (methods.kip, "got the function kip: call it"),
        (methods.KIP(), r"got the hyper-parameters KIP: .* as methods.kip\(ipc=1\)"),
        (object(), "must be a Method or a Recipe, got a object"),
        (Recipe(failing), r"cannot be bound to these data: RuntimeError: of its own \(.*test_contract.py:\d+\)"),
        (updating(lambda state, metrics: state), r"must return \(state, metrics\), .*got a MeanState"),
        (updating(lambda state, metrics: (state, metrics["loss"])), "got a state and a ShapeDtypeStruct"),
        (updating(lambda state, metrics: (state, metrics, 1)), "got 3 things"),
        (
            updating(lambda state, metrics: (state, {"loss": jnp.zeros(3)})),
            r"metric 'loss' .* one number, got shape \(3,\)",
        ),
        (updating(lambda state, metrics: (state.params, metrics)), "a state of the same structure"),
        (updating(resized), r"params.size is float32\[\] before and float32\[2\] after"),
        (updating(cast), r"params.size is float32\[\] before and int32\[\] after"),
        (MEANS._replace(sample=lambda key, labels: None), "sample must return .* of 'examples' it returns a NoneType"),
        (
            MEANS._replace(sample=lambda key, labels: jnp.zeros(3)),
            "got float32 of shape",
        ),
    ],
)
def test_what_is_no_method(method, sentence, digits, monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *args, **kwargs: pytest.fail("compiled"))
    with pytest.raises(JaxddError, match=sentence):
        jaxdd.run(method, digits, steps=1, progress=False)


def test_what_are_no_data(mnist):
    for data in (mnist.dataset, mnist.dataset.train, (mnist.train.images, mnist.train.labels)):
        with pytest.raises(JaxddError, match=f"must be a RealData, got a {type(data).__name__}: data.real_data"):
            jaxdd.run(MEANS, data, steps=1, progress=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": True}, "steps must be an integer of at least 1, got True"),
        ({"steps": 2.0}, "steps must be an integer of at least 1, got 2.0"),
        ({"seed": 1.7}, r"seed must be an integer from 0 to 2\*\*32 - 1, got 1.7"),
        ({"seed": None}, r"seed must be an integer from 0 to 2\*\*32 - 1, got None"),
        ({"seed": np.zeros(2, np.uint32)}, "seed must be an integer"),
        ({"log_every": True}, "log_every must be an integer"),
        ({"config": {"a": {"b": np.zeros(3)}}}, r"config.a.b is an array of shape \(3,\); a config holds numbers"),
        ({"config": {"a": [1, print]}}, r"config.a\[1\] is a builtin_function_or_method"),
    ],
)
def test_what_are_no_settings(options, sentence, digits):
    with pytest.raises(JaxddError, match=sentence):
        jaxdd.run(MEANS, digits, **{"steps": 1, "progress": False, **options})


def test_numpys_scalars_are_numbers(digits, tmp_path):
    """And paths are texts: the run is the same, and so is its identity."""
    for name, options in {
        "plain": {"steps": 2, "seed": 3, "config": {"rate": 0.5, "data": "/x"}},
        "scalars": {
            "steps": np.int64(2),
            "seed": np.uint8(3),
            "config": {"rate": np.float64(0.5), "data": np.str_("/x")},
        },
    }.items():
        jaxdd.run(MEANS, digits, workdir=tmp_path / name, progress=False, **options)
    files = [(tmp_path / name / "run.json").read_bytes() for name in ("plain", "scalars")]
    assert files[0] == files[1]
    assert methods.KIP(ipc=np.int64(2)) == methods.KIP(ipc=2) and type(methods.KIP(ipc=np.int64(2)).ipc) is int


def test_keys_are_of_one_kind_and_what_jax_was_told_is_part_of_a_run(digits, tmp_path):
    def run(**options):
        return jaxdd.run(MEANS, digits, steps=2, workdir=tmp_path / "run", progress=False, **options).distilled.images

    first = run()
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(run(resume=True), first)
    with (
        jax.threefry_partitionable(False),
        pytest.raises(JaxddError, match="JAX_THREEFRY_PARTITIONABLE is 'absent' there"),
    ):
        run(resume=True)
    with jax.enable_x64(True), pytest.raises(JaxddError, match="JAX_ENABLE_X64 is 'absent' there and True here"):
        run(resume=True)


@pytest.mark.endurance
def test_a_method_can_be_looked_into(digits):
    """Where nothing is compiled every value is there to be printed, and the run is the same but for rounding."""
    seen = []

    def look(key, state, batch):
        state, metrics = MEANS.update(key, state, batch)
        if not isinstance(metrics["loss"], jax.core.Tracer):
            seen.append(float(metrics["loss"]))
        return state, metrics

    def run():
        done = jaxdd.run(MEANS._replace(update=look), digits, steps=2, log_every=1, progress=False)
        return [row["loss"] for row in done.history]

    expected = run()
    assert not seen
    with jax.disable_jit():
        np.testing.assert_allclose(run(), expected, rtol=1e-5)
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
