import dataclasses
import math

import pytest

from jaxdd.errors import JaxddError
from jaxdd.evaluation import Protocol, protocols


def test_lookup():
    for name, description in protocols.available().items():
        assert description
        assert protocols.get(name).name == name
    own = Protocol("own", "", (0.1,), steps=1)
    assert protocols.get(own) is own
    with pytest.raises(JaxddError, match="unknown protocol 'quik'; did you mean 'quick'"):
        protocols.get("quik")


def test_length_in_epochs_counts_whole_batches():
    protocol = Protocol("p", "", (0.1,), epochs=3, batch_size=4)
    assert [protocol.num_steps(n) for n in (2, 4, 7, 8)] == [3, 3, 3, 6]
    assert Protocol("p", "", (0.1,), steps=5, batch_size=4).num_steps(100) == 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": "adan"}, "unknown optimizer 'adan'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"loss": "mse"}, "unknown loss 'mse'"),
        ({"learning_rates": ()}, "needs positive, finite learning rates"),
        ({"learning_rates": (0.1, -1.0)}, "needs positive, finite learning rates"),
        ({"learning_rates": (0.1, math.nan)}, "needs positive, finite learning rates"),
        ({"learning_rates": (math.inf,)}, "needs positive, finite learning rates"),
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 3}, "either steps or epochs"),
        ({"steps": 0}, "either steps or epochs"),
        ({"batch_size": 0}, "batch size"),
        ({"selection_networks": 0}, "selection networks"),
    ],
)
def test_impossible_protocols(changes, sentence):
    with pytest.raises(JaxddError, match=sentence):
        dataclasses.replace(protocols.get("quick"), **changes)
