"""The settings whose cost is foretold; what `jaxdd plan` makes of them is tested there."""

import pytest

from jaxdd import workflows
from jaxdd.errors import JaxddError


@pytest.fixture(scope="module")
def whole(config, tiny):
    """A plan of KIP's config, which fits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDD_DATA_DIR", str(tiny))
        patch.chdir(tiny)
        before = set(tiny.iterdir())
        planned = workflows.plan(config("kip"), budget=2**30)
        assert set(tiny.iterdir()) == before
    return planned


def test_leaner_and_leaner_settings_are_tried_until_one_fits(config, whole):
    assert [setting.options for setting in whole.settings] == [{"block": None}]
    assert whole.chosen is whole.settings[0] and whole.chosen.name == "block=None"
    least = workflows.plan({**config(), "execution": {"block": 16}}, budget=1)
    assert [setting.options["block"] for setting in least.settings] == [16, 4, 1]
    assert least.chosen is None and not any(setting.fits for setting in least.settings)
    with pytest.raises(JaxddError, match=r"the leanest, block=\d+, needs"):
        least.advice()


def test_a_plan_is_plain_and_writes_nothing(whole):
    told = whole.as_dict()
    assert told["title"] == "kip on tiny" and told["steps"] == 6 and told["chosen"] == 0
    assert whole.advice() == "The config fits as it is."
