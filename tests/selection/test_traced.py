"""Rules over classes while everything is traced."""

import jax
import numpy as np

from jaxdd.selection import choose, of_every_class
from jaxdd.types import Labels


def test_each_class_is_chosen_from_as_if_it_were_alone(key):
    values = np.random.default_rng(1).permutation(np.repeat(np.arange(3), (12, 9, 5)))
    points = np.random.default_rng(2).normal(size=(len(values), 3)).astype(np.float32)
    labels = Labels.index(values, 3)

    def rule(points, mask, own):
        herded = choose.herding(points, 4, mask=mask)
        return jax.numpy.concatenate([herded, jax.random.randint(own, (2,), 0, 5)])

    rows = jax.jit(lambda points, labels: of_every_class(rule, points, labels, key))(points, labels)
    expected = []
    for c, own in enumerate(jax.random.split(key, 3)):
        members = np.flatnonzero(values == c)
        places = [*choose.herding(points[members], 4), *jax.random.randint(own, (2,), 0, 5)]
        expected.append(members[np.array(places)])
    np.testing.assert_array_equal(rows, np.concatenate(expected))
