import dataclasses
import math

import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.training import Protocol, protocols, schedule_of


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


def test_steps_by_size():
    protocol = Protocol("p", "", (0.1,), steps=((10, 7), (20, 5)))
    assert [protocol.num_steps(n) for n in (1, 10, 11, 20, 1000)] == [7, 7, 5, 5, 5]
    published = {10: 1000, 100: 2000, 200: 20_000, 400: 5000, 500: 5000, 1000: 10_000, 2000: 40_000, 5000: 40_000}
    assert {n: protocols.get("frepo").num_steps(n) for n in published} == published


def test_all_else_is_as_published():
    """Rates and lengths have tests of their own."""
    fields = ("optimizer", "momentum", "weight_decay", "batch_size", "loss", "augmentation", "cutmix")
    published = {
        "dc": ("sgd", 0.9, 5e-4, 256, "auto", "none", 0.0),
        "dsa": ("sgd", 0.9, 5e-4, 256, "auto", "dsa", 0.0),
        "idc": ("sgd", 0.9, 5e-4, 64, "auto", "idc", 0.5),
        "ncfm": ("adam", 0.0, 0.01, 128, "auto", "idc", 0.5),
        "frepo": ("adam", 0.0, 0.0, 500, "squared_error", "frepo", 0.0),
        "rcig": ("adam", 0.0, 0.0, 256, "squared_error", "frepo", 0.0),
        "linba": ("sgd", 0.9, 0.0, 256, "auto", "none", 0.0),
        "rat": ("adam", 0.0, 0.0, 100, "auto", "flip_rotate", 0.0),
    }
    for name, expected in published.items():
        protocol = protocols.get(name)
        assert tuple(getattr(protocol, field) for field in fields) == expected, name


def published_rates(name, epochs):
    """The rate of each epoch by the loops of the originals, written out."""
    rates, rate = [], {"dc": 0.01, "cafe": 0.01, "dsa": 0.01, "idc": 0.01, "ncfm": 1e-3}[name]
    if name in ("dc", "cafe", "dsa"):
        for epoch in range(epochs + 1):
            rates.append(rate)
            if epoch == epochs // 2 + 1:
                rate *= 0.1
    elif name == "idc":
        for epoch in range(1, epochs + 1):
            rates.append(rate)
            if epoch in (2 * epochs // 3, 5 * epochs // 6):
                rate *= 0.2
    else:
        for epoch in range(1, epochs + 1):
            rates.append(rate)
            if epoch in [i * epochs // 5 for i in range(1, 5)]:
                rate *= 0.5
    return rates


@pytest.mark.parametrize("size", [10, 700])
@pytest.mark.parametrize(("name", "epochs"), [("dc", 300), ("cafe", 600), ("dsa", 1000), ("idc", 1000), ("ncfm", 2000)])
def test_rates_of_each_epoch_are_the_published(name, epochs, size):
    protocol = protocols.get(name)
    batches = max(1, size // protocol.batch_size)
    wanted = np.repeat(published_rates(name, epochs), batches)
    assert protocol.num_steps(size) == len(wanted)
    schedule = schedule_of(protocol, size)
    near = {t for m in protocol.milestone_steps(size) for t in (m - 1, m, m + 1)} | {0, len(wanted) - 1}
    for t in sorted(near):
        np.testing.assert_allclose(protocol.learning_rates[0] * float(schedule(t)), wanted[t], rtol=1e-5)


@pytest.mark.parametrize(("name", "rate", "steps"), [("frepo", 3e-4, 2000), ("rcig", 1e-4, 2000)])
def test_rates_of_warm_up_and_cosine(name, rate, steps):
    protocol = protocols.get(name)
    assert (protocol.learning_rates, protocol.num_steps(100)) == ((rate,), steps)
    schedule = schedule_of(protocol, 100)
    for t, share in ((0, 0), (250, 0.5), (500, 1), (1250, 0.505), (2000, 0.01)):
        np.testing.assert_allclose(float(schedule(t)), share, atol=1e-6)


def test_milestones_keep_apart_from_length_and_warm_up():
    protocol = Protocol("p", "", (1.0,), steps=4, schedule="multistep", milestones=(0.6, 0.7), factor=0.5, warmup=1)
    assert [float(schedule_of(protocol, 3)(t)) for t in range(4)] == [0, 1, 0.25, 0.25], "both round down to step 2"
    halved = dataclasses.replace(protocols.get("dsa"), epochs=500)
    assert halved.milestone_steps(10) == (250,)


def test_digits_are_not_mirrored():
    for name in ("dsa", "idc", "ncfm", "frepo", "rcig"):
        one, other = (dataclasses.asdict(protocols.get(n)) for n in (name, f"{name}-digits"))
        assert {field for field in one if one[field] != other[field]} == {"name", "description", "augmentation"}


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
        ({"steps": True}, "either steps or epochs"),
        ({"steps": None, "epochs": 2.5}, "either steps or epochs"),
        ({"batch_size": 0}, "the batch size of protocol 'quick' must be an integer of at least 1"),
        ({"batch_size": True}, "batch size"),
        ({"selection_networks": 0}, "selection networks"),
        ({"steps": ()}, "increasing sizes"),
        ({"steps": ((20, 5), (10, 5))}, "increasing sizes"),
        ({"steps": ((10, 5), (20, 0))}, "either steps or epochs"),
        ({"schedule": "multistep"}, "milestones between 0 and 1"),
        ({"milestones": (0.5,)}, "none with another, got"),
        ({"schedule": "multistep", "milestones": (0.5, 1.0)}, "milestones between 0 and 1"),
        ({"factor": 0.0}, "positive factor"),
        ({"final": 1.5}, "final share"),
        ({"cutmix": -0.1}, "probability of CutMix"),
        ({"teacher_share": 1.1}, "teacher's share within 0..1"),
        ({"label_weight": -0.1}, "finite weight of labels of at least 0"),
        ({"augmentation": "dsb"}, "unknown augmentation 'dsb'; did you mean 'dsa'"),
        ({"augmentation": "flip_crp"}, "unknown operation of augmentation 'crp'"),
    ],
)
def test_impossible_protocols(changes, sentence):
    with pytest.raises(JaxddError, match=sentence):
        dataclasses.replace(protocols.get("quick"), **changes)


def test_a_stretched_cosine_is_the_begin_of_a_longer_one():
    protocol = Protocol("half", "", (0.1,), steps=10, stretch=2.0)
    rates = [float(schedule_of(protocol, 100)(step)) for step in range(11)]
    np.testing.assert_allclose(rates, [0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(11)], atol=1e-6)
    assert protocols.get("rded").stretch == 2 and protocols.get("sre2l").stretch == 1


def test_parts_and_stretches_that_are_none():
    for fields in ({"stretch": 0.5}, {"batch_size": 16, "sub_batches": 3}):
        with pytest.raises(JaxddError, match="needs a stretch of at least 1, and parts that divide a batch"):
            Protocol("p", "", (0.1,), steps=1, **fields)
