"""FTD: experts in flat places, and the average of what is learned."""

import numpy as np
import pytest
import toys
from walking_by_hand import OPTIONS

from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.types import Spec


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.ftd(**OPTIONS, radius=0.05, surrogate=0.5, decay=0.6), digits, 2)


def test_a_run_leaves_the_moving_average(done):
    average = np.asarray(done[0].before.params["images"])
    for update in done:
        average = 0.6 * average + 0.4 * np.asarray(update.after.params["images"])
        np.testing.assert_allclose(update.after.average["images"], average, rtol=1e-5, atol=1e-6)


def test_the_last_iterate_is_left_without_a_decay(digits):
    assert methods.ftd(**OPTIONS, decay=0.0).bind(Spec.of(digits)).product is not None


def test_published_settings(digits):
    assert {"radius": 0.01, "surrogate": 0.3, "decay": 0.9995, "steps": 30}.items() <= methods.fields("ftd").items()
    (stage,) = methods.ftd(**OPTIONS).stages(Spec.of(digits))
    assert stage.config["flat"] == [0.01, 0.3]
    with pytest.raises(JaxddError, match="decay of FTD must be at least 0 and under 1"):
        methods.ftd(decay=1.0)
