"""What importing loads, checked in fresh interpreters."""

import pathlib
import re
import subprocess
import sys

import pytest

import jaxdd


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
