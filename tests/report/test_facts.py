"""What a report says of a set, in sentences."""

import types

from jaxdd.report.facts import provenance, selection


def test_which_weights_were_measured_is_said():
    dataset = types.SimpleNamespace(selected=False, header={})

    def said(*protocols):
        return " ".join(selection(dataset, [{"protocol": name} for name in protocols], {"steps": 7}))

    assert "measured at their last step, too. Protocol 'dc': SGD" in said("dc", "dc", "my own")
    assert "last step, too, by 'frepo' with the moving average of their weights. Protocol 'frepo'" in said("frepo")
    assert "measured" not in said(None)


def test_a_validation_split_of_the_sources_own_is_no_cut():
    def said(**data):
        return dict(provenance(types.SimpleNamespace(selected=False, header={"data": {"validation": 0.1, **data}})))

    assert said() == {"validation, cut from train": "10.0\N{NO-BREAK SPACE}%"}
    assert said(own_validation=True) == {"validation": "the split of the source's own"}
