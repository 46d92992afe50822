"""The settings whose cost is foretold; what `jaxdd plan` makes of them is tested there."""

import pytest

from jaxdd import workflows
from jaxdd.errors import JaxddError


def test_leaner_and_leaner_settings_are_tried_until_one_fits(config):
    whole = workflows.plan(config("kip"), budget=2**30)
    assert [setting.options for setting in whole.settings] == [{"block": None}]
    assert whole.chosen is whole.settings[0] and whole.chosen.name == "block=None"
    least = workflows.plan({**config("kip"), "execution": {"block": 16}}, budget=1)
    assert [setting.options["block"] for setting in least.settings] == [16, 4, 1]
    assert least.chosen is None and not any(setting.fits for setting in least.settings)
    with pytest.raises(JaxddError, match=r"the leanest, block=\d+, needs"):
        least.advice()


def test_a_plan_is_plain_and_writes_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = workflows.plan(config("kip"), budget=2**30)
    told = planned.as_dict()
    assert told["title"] == "kip on tiny" and told["steps"] == 6 and told["chosen"] == 0
    assert planned.advice() == "The config fits as it is." and not list(tmp_path.iterdir())
