"""Which test files a source file's mutants are run against."""

from __future__ import annotations

import pathlib
import re

# Beside a file's own tests (`tests/ROOM/test_NAME.py` or `tests/ROOM/test_ROOM_NAME.py`), in this order.
_ALSO: dict[str, tuple[str, ...]] = {
    "methods/_matching": tuple(f"methods/test_{name}" for name in ("dc", "dm", "idc", "cafe", "ncfm")),
    "methods/_bilevel": tuple(
        f"methods/test_{name}" for name in ("bptt", "dd", "rat_bptt", "at_bptt", "soft_label_dd")
    ),
    "methods/_long_unroll": ("methods/test_bptt",),
    "methods/_windowed": ("methods/test_rat_bptt", "methods/test_at_bptt"),
    "methods/linba": ("methods/test_bptt",),
    "methods/dd": ("methods/test_soft_label_dd",),
    "methods/soft_label_dd": ("methods/test_dd",),
    "methods/_registry": ("methods/test_hyper", "methods/test_bilevel", "methods/test_matching", "methods/test_kip"),
    "training/fit": ("training/test_fit_average", "training/test_fit_taught", "evaluation/test_score"),
    "training/protocols": ("training/test_fit",),
    "training/schedules": ("training/test_protocols", "training/test_fit"),
    "training/step": ("training/test_fit", "methods/test_mtt"),
    "training/supervised": ("training/test_dynamics", "methods/test_mtt", "methods/test_ncfm"),
    "training/fitted": ("synthetic/test_neural_fields", "methods/test_mtt"),
    "training/inpainting": ("methods/test_dq",),
    "synthetic/patches": ("methods/test_dq",),
    "synthetic/pairs": ("methods/test_krr_st",),
    "selection/saliency": ("selection/test_patches",),
    "losses/invariance": ("losses/test_barlow_twins",),
    "data/resizing": ("evaluation/test_transfer",),
    "inner/axes": ("inner/test_networks", "inner/test_gradients"),
    "inner/feeds": ("inner/test_unroll", "inner/test_pool"),
    "inner/optimizers": ("inner/test_unroll",),
    "inner/windows": ("methods/test_at_bptt",),
    "inner/plans": ("inner/test_unroll", "inner/test_gradients"),
    "inner/sources": ("inner/test_unroll", "inner/test_pool", "inner/test_feeds"),
    "synthetic/labels": ("synthetic/test_labels_and_rates", "synthetic/test_composition"),
    "synthetic/rates": ("synthetic/test_labels_and_rates", "synthetic/test_composition"),
    "synthetic/parameterisation": ("synthetic/test_composition", "synthetic/test_pixels"),
    "synthetic/resizing": ("synthetic/test_bases", "synthetic/test_multi_formation"),
    "synthetic/bases": ("synthetic/test_composition",),
    "synthetic/frequencies": ("synthetic/test_composition",),
    "synthetic/multi_formation": ("synthetic/test_composition",),
    "synthetic/neural_fields": ("synthetic/test_composition",),
    "synthetic/budget": ("synthetic/test_named", "cli/test_configs"),
    "synthetic/fitted": ("synthetic/test_neural_fields", "synthetic/test_named"),
    "synthetic/pixels": ("synthetic/test_composition",),
    "evaluation/arrays": ("evaluation/test_score", "evaluation/test_streamed"),
    "evaluation/baselines": ("evaluation/test_streamed", "training/test_as_distilled"),
    "evaluation/comparison": ("evaluation/test_baselines", "evaluation/test_measurable"),
    "evaluation/kernel": ("evaluation/test_score", "evaluation/test_baselines"),
    "evaluation/score": ("evaluation/test_baselines",),
    "evaluation/accuracy": ("evaluation/test_score", "training/test_fit_average"),
    "evaluation/verification": ("evaluation/test_baselines",),
    "engine/chunk": ("engine/test_run", "engine/test_feed", "engine/test_plan"),
    "engine/execute": ("engine/test_run", "engine/test_stages", "engine/test_processes"),
    "engine/log": ("engine/test_run",),
    "engine/placement": ("engine/test_feed", "engine/test_run"),
    "engine/processes": ("engine/test_run", "engine/test_checkpoints"),
    "engine/run": ("engine/test_feed",),
    "engine/store": ("engine/test_run", "engine/test_checkpoints"),
    "data/dataset": ("data/test_data_arrays",),
    "data/streaming": ("data/test_data_sources",),
    "data/pictures": ("data/test_data_folders", "data/test_data_sources", "data/test_data_streaming"),
    "losses/label": ("test_labels",),
    "losses/distribution": ("test_labels",),
    "kernels/ridge": ("test_labels",),
    "losses/_numerics": ("losses/test_attention", "losses/test_characteristic", "losses/test_distribution"),
    "kernels/blocked": ("kernels/test_convolutional", "kernels/test_empirical"),
    "kernels/expectations": ("kernels/test_fully_connected",),
    "kernels/spec": ("kernels/test_convolutional", "methods/test_kip"),
}


# Whatever the file.
_OF_OPERATORS = {
    "reuse_key": "tests/test_keys.py",
    **dict.fromkeys(("scale_default", "swap_constants", "flip_flag"), "tests/test_defaults.py"),
}


def _blocks(source: pathlib.Path) -> list[str]:
    """What a method shares with others of its family: the files of its folder that it imports."""
    return re.findall(r"^from jaxdd\.methods\.\w+\._?(\w+) import", source.read_text(), re.MULTILINE)


def tests_of(path: str, root: pathlib.Path, operator: str = "") -> tuple[str, ...]:
    """The test files for a source file, the most specific first; all of its room where it has none that exist.

    Args:
      path: `jaxdd/ROOM/NAME.py`, or in a folder of the room; tests have none.
      root: of the tree.
      operator: that made the mutant.
    """
    _, room, *_, name = path.removesuffix(".py").split("/")
    own = name.lstrip("_")
    first = [f"{room}/test_{own}", f"{room}/test_{room}_{own}"]
    shared = [f"methods/test_{block}" for block in _blocks(root / path)] if room == "methods" else []
    files = [f"tests/{each}.py" for each in dict.fromkeys([*first, *_ALSO.get(f"{room}/{name}", ()), *shared])]
    found = [file for file in files if (root / file).exists()]
    if not found:
        found = [file.relative_to(root).as_posix() for file in sorted((root / "tests" / room).glob("test_*.py"))]
    if operator in _OF_OPERATORS and (root / _OF_OPERATORS[operator]).exists():
        found.append(_OF_OPERATORS[operator])
    return tuple(found)
