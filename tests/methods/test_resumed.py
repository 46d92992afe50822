"""Runs that stopped and went on: one method of each family of states."""

import pytest
import toys

MLP = {"model": "mlp(width=8, depth=1)", "target_batch": 20}
METHODS = {
    # A network that is kept, moments, and rates that fall; a pool of which one network soon is old; a moving average.
    "dd": {**MLP, "ipc": 1, "steps": 1, "epochs": 2, "initialisation": "fixed", "decay_every": 2},
    "frepo": {**MLP, "pool": 2, "max_age": 2, "block": None},
    "kip": {"target_batch": 20},
    # A mask of patches beside a network.
    "dq": {"ipc": 2, "by": "pixels", "bins": 2, "patch": 7, "drop": 0.0, "inpainter_batch": 20},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.endurance] if name == "dq" else []) for name in METHODS]
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, digits, tmp_path):
    method = toys.build(name, **METHODS[name])
    whole = toys.run(method, digits, steps=4)
    toys.run(method, digits, steps=2, workdir=tmp_path)
    resumed = toys.run(method, digits, steps=4, workdir=tmp_path, resume=True)
    assert resumed.resumed_from == 2
    toys.assert_same(resumed.state, whole.state)
