"""The settings whose cost is foretold; what `jaxdd plan` makes of them is tested there."""

from jaxdd import workflows


def test_the_fastest_setting_that_fits_is_the_last_one_that_was_tried(config):
    whole = workflows.plan(config("kip"), budget=2**30)
    (setting,) = whole.settings
    assert setting.options == {"block": None} and setting.name == "block=None"
    named = {**config("kip"), "execution": {"block": "auto"}}
    less = workflows.plan(named, budget=setting.plan.peak_bytes - 1)
    assert [each.fits for each in less.settings] == [False] * (len(less.settings) - 1) + [True]
    chosen = less.chosen.options["block"]
    assert less.chosen is less.settings[-1] and less.flags == (f"--config.execution.block={chosen}",)
    assert (
        workflows.plan({**named, "execution": {"block": chosen}}, budget=2**30).settings[0].options["block"] == chosen
    )


def test_a_plan_is_plain_and_writes_nothing(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = workflows.plan(config("kip"), budget=2**30)
    told = planned.as_dict()
    assert told["title"] == "kip on tiny" and told["steps"] == 6 and told["chosen"] == 0
    assert planned.advice() == "The config fits as it is." and not list(tmp_path.iterdir())
