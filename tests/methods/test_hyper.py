"""Hyper-parameters: their types and ranges, for the methods and for one's own."""

import dataclasses
import inspect
import pydoc

import numpy as np
import pytest

from jaxdd import methods, models
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import (
    HyperParameters,
    accepted_by,
    at_least,
    between,
    elements,
    field,
    method,
    more_than,
    one_of,
    positive,
    require,
)
from jaxdd.types import Network, Recipe


@dataclasses.dataclass(frozen=True)
class Own(HyperParameters):
    """Hyper-parameters of one's own."""

    betas: tuple[float, float] = field((0.9, 0.999), elements(at_least(0, under=1)))
    sizes: tuple[int, ...] = ()
    clip: float | None = field(None, more_than(1))
    optimizer: str = field("adam", one_of(("adam", "sgd")))
    rate: float = field(0.1, positive)
    share: float = field(0.5, between(0, 1))
    steps: int = field(4, at_least(1))
    augment: str = field("none", accepted_by(augmentation.named))
    model: str | Network = "mlp"
    flip: bool = False

    def check(self):
        require(self, steps=(self.steps >= len(self.sizes), f"at least as many as sizes, {len(self.sizes)}"))


@dataclasses.dataclass(frozen=True)
class Heir(Own):
    """Another default keeps the range, another field has its own, and a field without one has none."""

    rate: float = 0.2
    steps: int = field(4, at_least(3))
    share: float = field(2.0)


@dataclasses.dataclass(frozen=True)
class Plain:
    """Without a base, and with a field that has no default."""

    steps: int
    rate: float = field(0.1, positive)


@method(Plain)
def plain(config: Plain) -> Recipe:
    """Only to be built."""
    return Recipe(lambda spec: None)


WRONG = [
    ({"betas": (0.5, 1.0)}, "betas of Own must be at least 0 and under 1 in every element, got (0.5, 1.0)."),
    ({"betas": (0.5,)}, "betas of Own must be tuple[float, float], got (0.5,)."),
    ({"betas": 0.5}, "betas of Own must be tuple[float, float], got 0.5."),
    ({"sizes": (3, 0.5)}, "sizes of Own must be tuple[int, ...], got (3, 0.5)."),
    ({"clip": 1}, "clip of Own must be more than 1 or None, got 1."),
    ({"clip": "a"}, "clip of Own must be float or None, got 'a'."),
    ({"optimizer": "lamb"}, "optimizer of Own must be one of adam, sgd, got 'lamb'."),
    ({"rate": 0}, "rate of Own must be positive and finite, got 0."),
    ({"rate": float("inf")}, "rate of Own must be positive and finite, got inf."),
    ({"rate": float("nan")}, "rate of Own must be positive and finite, got nan."),
    ({"rate": True}, "rate of Own must be float, got True."),
    ({"rate": None}, "rate of Own must be float, got None."),
    ({"share": 1.5}, "share of Own must be between 0 and 1, got 1.5."),
    ({"steps": 0}, "steps of Own must be at least 1, got 0."),
    ({"steps": 4.0}, "steps of Own must be int, got 4.0."),
    ({"steps": False}, "steps of Own must be int, got False."),
    ({"flip": 1}, "flip of Own must be bool, got 1."),
    ({"model": 5}, "model of Own must be str or Network, got 5."),
    ({"augment": "colour_crop"}, "did you mean 'color'"),
    ({"sizes": (1,) * 5}, "steps of Own must be at least as many as sizes, 5, got 4."),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_what_is_wrong_is_said_when_it_is_made(options, sentence):
    with pytest.raises(JaxddError) as error:
        Own(**options)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_what_is_right_is_left_as_it_is():
    given = {"betas": (0, 0.5), "sizes": (1, 2), "clip": 2, "rate": 1, "share": 1.0, "flip": True}
    made = Own(**given)
    assert {name: getattr(made, name) for name in given} == given and type(made.rate) is int
    assert Own(model=models.build("mlp", (4, 4, 1), 2)).model is not None


def test_ends_of_ranges():
    for allowed, inside, outside in (
        (at_least(1), (1, float("inf")), (0.999, float("nan"))),
        (at_least(0, under=1), (0, 0.999), (-0.001, 1)),
        (at_least(0, under=float("inf")), (0, 1e300), (float("inf"),)),
        (more_than(1), (1.001, float("inf")), (1, float("nan"))),
        (more_than(1, under=2), (1.001, 1.999), (1, 2)),
        (between(0, 1), (0, 1), (-0.001, 1.001)),
    ):
        assert all(map(allowed.holds, inside)) and not any(map(allowed.holds, outside)), allowed.expected


def test_a_subclass_keeps_ranges_and_changes_them():
    assert Heir().rate == 0.2 and Heir(share=7.0).share == 7.0
    for options, sentence in (
        ({"rate": 0.0}, "rate of Heir must be positive"),
        ({"steps": 2}, "steps of Heir must be at least 3"),
        ({"clip": 0.5}, "clip of Heir must be more than 1 or None"),
        ({"sizes": (1,) * 5}, "steps of Heir must be at least as many as sizes"),
    ):
        with pytest.raises(JaxddError, match=sentence):
            Heir(**options)
    with pytest.raises(JaxddError, match="learning_rate of DSA must be positive"):
        methods.DSA(learning_rate=0.0)


def test_a_dataclass_without_the_base_is_checked_by_its_method():
    assert plain(steps=1) == plain(Plain(1)) != plain(steps=2)
    for build in (lambda: plain(steps=1, rate=-1.0), lambda: plain(Plain(1, rate=-1.0))):
        with pytest.raises(JaxddError, match="rate of Plain must be positive"):
            build()
    with pytest.raises(JaxddError, match="option 'steps' of Plain is missing"):
        plain(rate=1.0)
    with pytest.raises(JaxddError, match="unknown option of Plain 'step'; did you mean 'steps'"):
        plain(step=1)


def test_they_are_plain_dataclasses_to_whoever_looks():
    assert [each.default for each in inspect.signature(Own).parameters.values()] == list(vars(Own()).values())
    assert dataclasses.replace(Own(), steps=7).steps == 7 and Own.steps == 4
    assert "rate: float = 0.1" in pydoc.render_doc(Own, renderer=pydoc.plaintext)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Own().steps = 3


@pytest.mark.parametrize("name", methods.available())
def test_methods_check_themselves_in_one_way(name):
    hyper = getattr(methods, name).hyper
    assert issubclass(hyper, HyperParameters) and hyper.__post_init__ is HyperParameters.__post_init__
    size = "ipc" if "ipc" in methods.fields(name) else "images"
    with pytest.raises(JaxddError, match=f"{size} of {hyper.__name__} must be at least 1"):
        methods.build(name, **{size: 0})


TRAJECTORY = ("ast", "att", "datm", "ftd", "mct", "mtt", "pad", "tesla")
BY_CLASS = sorted((*TRAJECTORY, "at_bptt", "bptt", "dd", "frepo", "kip", "rat_bptt", "rcig", "rfad", "soft_label_dd"))


@pytest.mark.parametrize("name", [name for name in methods.available() if "ipc" in methods.fields(name)])
def test_images_by_class_are_taken_or_it_is_said_who_takes_them(name):
    if name in BY_CLASS:
        assert methods.build(name, ipc=[20, 10]) == methods.build(name, ipc=(np.int64(20), 10))
        with pytest.raises(JaxddError, match="ipc by class must be at least 1 for every class, got 0 for class 1"):
            methods.build(name, ipc=(10, 0))
        with pytest.raises(JaxddError, match="must be int, or a tuple of one for each class, got"):
            methods.build(name, ipc=(10, 1.5))
        return
    with pytest.raises(JaxddError, match=rf"one whole number \(numbers by class are for {', '.join(BY_CLASS)}\), got"):
        methods.build(name, ipc=(10, 10))


def test_what_goes_with_images_by_class():
    for name in ("at_bptt", "bptt", "rat_bptt"):
        with pytest.raises(JaxddError, match=r"per_class of .* must be None, all images at each step, where ipc is by"):
            methods.build(name, ipc=(2, 1), per_class=1)
    with pytest.raises(JaxddError, match=r"steps of DD must be a divisor of ipc, \(4, 3\), got 2"):
        methods.build("dd", ipc=(4, 3), steps=2)
