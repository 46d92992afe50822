"""What a report says of a set, in sentences."""

import types

from jaxdd.report.facts import selection


def test_which_weights_were_measured_is_said():
    dataset = types.SimpleNamespace(header={})

    def said(*protocols):
        return " ".join(selection(dataset, [{"protocol": name} for name in protocols], {"steps": 7}))

    assert "measured at their last step, too. Protocol 'dc': SGD" in said("dc", "dc", "my own")
    assert "last step, too, by 'frepo' with the moving average of their weights. Protocol 'frepo'" in said("frepo")
    assert "measured" not in said(None)
