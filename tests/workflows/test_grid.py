"""Which points a grid has, and what their directories are called."""

import pytest

from jaxdd.workflows.grid import points_of

CONFIG = {"seed": 3, "method": {"name": "kip"}}


def directories(grid, seeds=1):
    return [point.directory for point in points_of(CONFIG, grid, seeds)]


def test_every_combination_with_every_seed():
    points = points_of(CONFIG, {"method.ipc": [1, 10], "run.steps": (5,)}, 2)
    assert [point.directory for point in points] == [
        f"ipc={ipc}/steps=5/seed={seed}" for ipc in (1, 10) for seed in (3, 4)
    ]
    assert points[3].config == {"seed": 4, "method": {"name": "kip", "ipc": 10}, "run": {"steps": 5}}
    assert CONFIG == {"seed": 3, "method": {"name": "kip"}}
    assert len({point.program for point in points}) == 2
    assert directories({}, [7, 0]) == ["seed=7", "seed=0"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0.01, "x=0.01"),
        (1e-05, "x=1e-05"),
        ((0, 1), "x=(0,1)"),
        (None, "x=None"),
        (True, "x=True"),
        ("convnet(width=32, norm='none')", "x=convnet(width=32, norm='none')"),
        ("~/data/a%b.npz", "x=~%2Fdata%2Fa%25b.npz"),
        ("zwölf\n", "x=zw%C3%B6lf%0A"),
    ],
)
def test_directories_are_readable_and_can_be_made(value, name, tmp_path):
    assert directories({"method.x": [value]}) == [f"{name}/seed=3"]
    (tmp_path / name).mkdir()


def test_long_names_are_cut_and_stay_different(tmp_path):
    names = [name.partition("/")[0] for name in directories({"method.model": ["a" * 400 + end for end in "xy"]})]
    assert len(set(names)) == 2 and all(len(name) < 255 for name in names)


def test_fields_of_one_name_keep_their_sections():
    assert directories({"data.name": ["a"], "method.name": ["b"]}) == ["data.name=a/method.name=b/seed=3"]


def test_points_of_the_same_data_follow_each_other():
    points = points_of(CONFIG, {"method.ipc": [1, 2], "data.name": ["a", "b"]}, 2)
    assert [point.config["data"]["name"] for point in points] == ["a"] * 4 + ["b"] * 4
    assert [point.config["method"]["ipc"] for point in points] == [1, 1, 2, 2] * 2
