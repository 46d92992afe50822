"""Methods by name: what a file makes known, and what asking for one imports."""

import pathlib
import subprocess
import sys

import pytest

from jaxdd import methods
from jaxdd.methods import _registry

FOLDER = pathlib.Path(methods.__file__).parent
FILES = [file for file in sorted(FOLDER.glob("*/*.py")) if not file.name.startswith("_")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_of_a_family_is_a_method(file):
    builder = getattr(methods, file.stem)
    assert builder.__module__ == f"jaxdd.methods.{file.parent.name}.{file.stem}"
    hyper = builder.hyper
    assert hyper.__module__ == builder.__module__ and hyper.__name__.lower() == file.stem.replace("_", "")
    assert getattr(methods, hyper.__name__) is hyper
    assert methods.build(file.stem) == builder() == builder(hyper())
    assert {file.stem, hyper.__name__} <= set(dir(methods))


def test_names_are_those_of_the_files_once():
    assert list(methods.available()) == sorted(file.stem for file in FILES)
    folders = {file.parent.name for file in FILES}
    assert folders.isdisjoint(dir(methods))  # a folder would hide a function of its name once it is imported
    assert set(methods.__all__) <= set(dir(methods))


@pytest.mark.parametrize("name", ["Kip", "KIPP", "__wrapped__", "_kip", ""])
def test_other_names_are_no_attributes(name):
    assert not hasattr(methods, name)


UNKNOWN = """
from jaxdd import methods
try: methods.build('kipp')
except methods._registry.JaxddError as e: assert "did you mean 'kip'" in str(e), e
"""
PARTS = {
    "import jaxdd.methods": set(),
    "from jaxdd import methods; methods.build('kip')": {"kernel", "kernel.kip"},
    "from jaxdd.methods import KIP, kip": {"kernel", "kernel.kip"},
    "from jaxdd import methods; methods.fields('dm')": {"match", "match._matching", "match.dm"},
    "from jaxdd.methods import bilevel": {"unrolled", "unrolled._bilevel"},
    "from jaxdd import methods; methods.RaTBPTT": {
        *("unrolled", "unrolled._bilevel", "unrolled._windowed", "unrolled.rat_bptt")
    },
    UNKNOWN: set(),  # told the nearest without an import
}
# Each in an interpreter that has of jaxdd only what nobody asks for by a method's name: a fork of a fresh one.
FORKED = """
import os, sys, warnings
import jaxdd.types, jaxdd.models, jaxdd.inner, jaxdd.losses, jaxdd.kernels, jaxdd.training, jaxdd.synthetic
assert not any(name.startswith("jaxdd.methods") for name in sys.modules)
warnings.simplefilter("ignore")  # JAX warns of forks; it has computed nothing yet
for code in sys.argv[1:]:
    if os.fork() == 0:
        exec(code, {})
        print(*(name for name in sys.modules if name.startswith("jaxdd.methods.")), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, code
"""


@pytest.fixture(scope="module")
def loaded():
    """By code, the parts of `jaxdd.methods` that an interpreter has after it."""
    out = subprocess.run([sys.executable, "-c", FORKED, *PARTS], capture_output=True, text=True, check=True).stdout
    parts = [{name.removeprefix("jaxdd.methods.") for name in line.split()} for line in out.splitlines()]
    return dict(zip(PARTS, parts, strict=True))


@pytest.mark.parametrize("code", PARTS)
def test_what_is_asked_for_is_imported_alone(code, loaded):
    assert loaded[code] - {"_registry", "_hyper", "_ipc"} == PARTS[code]


def test_a_new_file_is_enough(tmp_path):
    """Beside those that there are, in a family of its own, with files that are no methods."""
    package = tmp_path / "methods"
    package.mkdir()
    for part in FOLDER.iterdir():
        (package / part.name).symlink_to(part)
    (package / "novel").mkdir()
    (package / "novel" / "__init__.py").write_text("")
    (package / "novel" / "_shared.py").write_text("raise AssertionError\n")
    (package / "novel" / "new_one.py").write_text(
        "import dataclasses\n"
        "from jaxdd.methods import HyperParameters, at_least, field, kip, method\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class NewOne(HyperParameters):\n"
        "    ipc: int = field(3, at_least(1))\n"
        "@method(NewOne)\n"
        "def new_one(config):\n"
        "    'Quite new.'\n"
        "    return kip(ipc=config.ipc)\n"
    )
    code = (
        "import jaxdd, sys, importlib.util as util\n"
        f"spec = util.spec_from_file_location('jaxdd.methods', {str(package / '__init__.py')!r},"
        f" submodule_search_locations=[{str(package)!r}])\n"
        "methods = sys.modules['jaxdd.methods'] = util.module_from_spec(spec)\n"
        "spec.loader.exec_module(methods)\n"
        "assert methods.build('new_one', ipc=2) == methods.new_one(methods.NewOne(ipc=2))\n"
        "assert methods.available()['new_one'] == 'Quite new.' and 'NewOne' in dir(methods)\n"
        "assert '_shared' not in methods.available()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_has_a_home_without_an_import():
    assert _registry.home("RaTBPTT") == "jaxdd.methods.unrolled.rat_bptt"
