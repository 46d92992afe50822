"""The settings whose cost is foretold; what `jaxdd plan` makes of them is tested there."""

import jax
import pytest

from jaxdd import workflows
from jaxdd.workflows.cost import _candidates


@pytest.mark.parametrize(
    ("backend", "own", "expected"),
    [
        ("cpu", {}, [{}]),
        ("cpu", {"remat": "sqrt"}, [{"remat": "step"}, {"remat": "sqrt"}]),
        ("cpu", {"remat": "none"}, [{"remat": "step"}, {"remat": "sqrt"}, {"remat": "none"}]),
        ("gpu", {"remat": "step"}, [{"remat": "none"}, {"remat": "step"}, {"remat": "sqrt"}]),
        ("cpu", {"networks_per_batch": None}, [{"networks_per_batch": n} for n in (1, None)]),
        ("cpu", {"networks_per_batch": None, "networks": 8}, [{"networks_per_batch": n} for n in (1, 8)]),
        ("gpu", {"networks_per_batch": 1}, [{"networks_per_batch": n} for n in (None, 1)]),
        ("gpu", {"networks_per_batch": 6, "networks": 16}, [{"networks_per_batch": n} for n in (16, 6, 4, 1)]),
        ("gpu", {"networks_per_batch": 1, "networks": 2}, [{"networks_per_batch": n} for n in (2, 1)]),
    ],
)
def test_settings_from_the_fastest_to_the_leanest(monkeypatch, backend, own, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert _candidates(own) == expected


def test_a_plan_is_plain_and_writes_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = workflows.plan(config("kip"), budget=2**30)
    told = planned.as_dict()
    assert told["title"] == "kip on tiny" and told["steps"] == 6 and told["chosen"] == 0
    assert planned.advice() == "The config fits as it is." and not list(tmp_path.iterdir())
