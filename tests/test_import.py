"""What importing loads, checked in fresh interpreters."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

import jaxdd

PACKAGE = pathlib.Path(jaxdd.__file__).parent
# Rooms by floor: each imports from lower floors only, never from a neighbour on its own. Files beside the rooms are the
# ground that all stand on.
FLOORS = (
    ("losses", "kernels", "models"),
    ("data",),
    ("selection",),
    ("synthetic",),
    ("inner",),
    ("training",),
    ("methods", "evaluation", "engine"),
    ("audit", "quantize", "sets"),
    ("report",),
    ("workflows",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_jaxdd_is_light():
    loaded = python("import sys, jaxdd; print(*sys.modules)").split()
    for heavy in ("tensorflow", "tensorflow_datasets", "matplotlib", "orbax", "flax", "pandas", "PIL"):
        assert heavy not in loaded


def test_import_jaxdd_and_its_methods_loads_no_method():
    loaded = python("import sys, jaxdd.methods, jaxdd.cli; print(*sys.modules)").split()
    assert {name for name in loaded if name.startswith("jaxdd.methods.")} == {
        "jaxdd.methods._hyper",
        "jaxdd.methods._registry",
    }


def test_touching_every_room_loads_no_tensorflow_tfds_matplotlib_or_orbax():
    loaded = python("import sys, jaxdd; [getattr(jaxdd, n) for n in jaxdd.__all__]; print(*sys.modules)").split()
    for heavy in ("tensorflow", "tensorflow_datasets", "matplotlib", "orbax"):
        assert heavy not in loaded


@pytest.mark.parametrize("room", ["losses", "kernels", "types"])
def test_losses_and_kernels_need_jax_and_optax_alone(room):
    """A stranger has neither flax nor the rest: everything of ours that is installed beside them is hidden."""
    assert (
        python(f"""
import sys
hidden = {{"flax", "orbax", "tensorflow_datasets", "jaxtyping", "ml_collections", "safetensors", "tqdm", "rich",
          "jinja2", "PIL", "threadpoolctl"}}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ImportError(name)
sys.meta_path.insert(0, Hide())
import jaxdd.{room}
print("jaxdd.{room}" in sys.modules)
""").strip()
        == "True"
    )


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no_such"):
        _ = jaxdd.no_such
    assert "run" in dir(jaxdd)


def test_what_jax_keeps_for_itself_is_imported_in_one_place():
    """Its names move from release to release."""
    package = pathlib.Path(jaxdd.__file__).parent
    rooms = "core|extend|_src|interpreters"
    fenced = re.compile(rf"\bjax(lib)?\.({rooms})\b|from jax import .*\b({rooms})\b")
    users = {str(file.relative_to(package)) for file in package.rglob("*.py") if fenced.search(file.read_text())}
    assert users == {"_jax.py"}


def rooms_in(source: str, package: tuple[str, ...]) -> dict[str, int]:
    """The rooms that a module of this package imports anywhere, also inside functions, and a line of each."""
    found: dict[tuple[str, ...], int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            names = [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):  # jaxdd.data, of `import jaxdd`
            names = [(node.value.id, node.attr)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+", node.value):
            names = [tuple(node.value.split("."))]  # of importlib.import_module
        else:
            continue
        found |= dict.fromkeys(names, node.lineno)
    return {name[1]: line for name, line in found.items() if name[0] == "jaxdd" and name[1:2] and name[1] in FLOOR}


def climbing(source: str, package: tuple[str, ...]) -> list[str]:
    """Imports of a higher floor or of a neighbour, as sentences."""
    here = package[1]
    return [
        f"line {line}: {here} imports {room}"
        for room, line in rooms_in(source, package).items()
        if room != here and FLOOR[room] >= FLOOR.get(here, 0)
    ]


def test_no_import_climbs_or_goes_sideways():
    found = {}
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE)
        if str(inside) in ("__init__.py", "__main__.py") or inside.parts[0] == "configs":  # the face, which shows all
            continue
        package = ("jaxdd", inside.parts[0]) if len(inside.parts) > 1 else ("jaxdd", inside.stem)
        package += inside.parts[1:-1]
        if climbs := climbing(file.read_text(), package):
            found[str(inside)] = climbs
    assert not found


def test_every_room_has_a_floor():
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(FLOOR) and {"workflows", "cli", "losses"} <= rooms


@pytest.mark.parametrize(
    ("line", "package", "rooms"),
    [
        ("from jaxdd import workflows", "jaxdd.engine", ["workflows"]),
        ("from jaxdd.cli.config import read", "jaxdd.workflows", ["cli"]),
        ("from jaxdd import engine, kernels", "jaxdd.evaluation", ["engine"]),
        ("def f():\n    import jaxdd.models.zoo", "jaxdd.losses", ["models"]),
        ("def f():\n    from ..methods import kip", "jaxdd.inner", ["methods"]),
        ("from ..conv import dense\nfrom . import zoo", "jaxdd.models.conv", []),
        ("import jaxdd\nnames = jaxdd.report.describe", "jaxdd.methods", ["report"]),
        ("importlib.import_module('jaxdd.methods.kip')", "jaxdd.engine", ["methods"]),
        ("from jaxdd import data", "jaxdd.types", ["data"]),
        ("from jaxdd import cli, data, jaxdd\nfrom jaxdd.types import data", "jaxdd.cli", []),
    ],
)
def test_the_test_of_floors_sees(line, package, rooms):
    assert [climb.split()[-1] for climb in climbing(line, tuple(package.split(".")))] == rooms


def test_what_scripts_import_is_there():
    """They are run by hand, so that a name which has moved would be missed."""
    for path in sorted((pathlib.Path(__file__).parents[1] / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jaxdd":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                    assert there, f"{path.name} imports {alias.name} of {node.module}"
