"""The handler under sanitizers, its errors, its threads, and its installation."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

native = pytest.importorskip("jaxdd_onednn", reason="pip install ./native")
FOLDER = pathlib.Path(__file__).resolve().parents[1]
CONV, INPUT_GRAD, WEIGHT_GRAD = range(3)


def call(operation, a, b, shape, geometry, bfloat16=False):
    """The handler, as `jaxdd.models.conv.onednn` calls it."""
    target = native.register(1)
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(shape, jnp.float32))(
        a, b, operation=np.int64(operation), bfloat16=bfloat16, geometry=np.array(geometry, np.int64)
    )


PLAIN = (1, 1, 1, 1, 0, 0, 0, 0, 1)  # strides, dilation, padding, groups
IMAGES, KERNEL, MAPS = (1, 2, 8, 8, 3), (1, 3, 3, 3, 4), (1, 2, 6, 6, 4)


def convolve(images=IMAGES, kernel=KERNEL, maps=MAPS, geometry=PLAIN, operation=CONV, dtype="float32"):
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in (images, kernel))
    return a, b, call(operation, a, b, maps, geometry)


def python(code: str, **environment: str) -> str:
    """What a new process, which has `call` and friends, prints."""
    code = f"import sys; sys.path.insert(0, {str(FOLDER / 'tests')!r}); from test_native import *\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Correctness


def folder_of(distribution: str, file: str) -> pathlib.Path:
    """As setup.py finds it, which cannot be imported without building."""
    try:
        files = importlib.metadata.files(distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"pip install {distribution}")
    return (
        next(pathlib.Path(str(entry.locate())) for entry in files if entry.as_posix().endswith(file)).resolve().parent
    )


@pytest.mark.endurance
def test_ten_thousand_calls_under_sanitizers(tmp_path):
    compiler = os.environ.get("CXX", "").strip() or "g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    headers = folder_of("onednn-devel-cpu-gomp", "include/dnnl.hpp")
    library = folder_of("onednn-cpu-gomp", "libdnnl.so")
    jaxlib = importlib.util.find_spec("jaxlib").origin
    (tmp_path / "empty.cpp").write_text("int main() {}")
    sanitized = [compiler, "-std=c++17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run([*sanitized, str(tmp_path / "empty.cpp"), "-o", str(tmp_path / "empty")]).returncode:
        pytest.skip(f"{compiler} has no sanitizers")
    program = str(tmp_path / "stress")
    includes = ["-isystem", str(headers), "-isystem", str(pathlib.Path(jaxlib).parent / "include")]
    libraries = [f"-L{library}", f"-Wl,-rpath,{library}", "-ldnnl", "-lgomp"]
    warnings = ["-fopenmp", "-Wall", "-Werror"]
    source = str(FOLDER / "tests" / "stress.cpp")
    subprocess.run([*sanitized, *warnings, *includes, source, "-o", program, *libraries], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, done.stderr


def test_operations_are_those_of_xla():
    x, w, y = convolve()

    def reference(x, w):
        return jax.lax.conv_general_dilated(x[0], w[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[
            None
        ]

    expected, transposed = jax.vjp(reference, x, w)
    for ours, theirs in zip(
        (y, call(INPUT_GRAD, y, w, IMAGES, PLAIN), call(WEIGHT_GRAD, x, y, KERNEL, PLAIN)),
        (expected, *transposed(expected)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


# Errors


def test_register_tells_what_does_not_fit():
    with pytest.raises(ImportError, match="this jaxdd do not fit each other: install both anew"):
        native.register(-1)


@pytest.mark.parametrize("installed", [False, True])
def test_register_tells_that_onednn_is_missing(monkeypatch, installed):
    def files(distribution):
        if not installed:
            raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(ImportError, match=r"libdnnl\.so\.3 is missing: pip install onednn-cpu-gomp"):
        native.register(1)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"operation": 3}, "unknown operation or geometry"),
        ({"operation": -1}, "unknown operation or geometry"),
        ({"geometry": PLAIN[:-1]}, "unknown operation or geometry"),
        ({"images": IMAGES[1:]}, "must have 5 axes"),
        ({"maps": (1, 2, 7, 6, 4)}, "do not fit each other"),
        ({"maps": (1, 3, 6, 6, 4)}, "do not fit each other"),
        ({"kernel": (1, 9, 9, 3, 4)}, "do not fit each other"),
        ({"kernel": (2, 3, 3, 3, 4)}, "do not fit each other"),
        ({"operation": WEIGHT_GRAD}, "do not fit each other"),
        ({"geometry": (0, 1, 1, 1, 0, 0, 0, 0, 1)}, "do not fit each other"),
        ({"geometry": (1, 1, 0, 1, 0, 0, 0, 0, 1)}, "do not fit each other"),
        ({"geometry": (1, 1, 1, 1, -1, 1, 0, 0, 1)}, "do not fit each other"),
        ({"geometry": (1, 1, 1, 1, 0, 0, 0, 0, 0)}, "do not fit each other"),
        ({"geometry": (1, 1, 1, 1, 0, 0, 0, 0, 3)}, "do not fit each other"),
        ({"geometry": (2**27, 1, 1, 1, 2**29, 2**29, 0, 0, 1), "maps": (1, 2, 9, 6, 4)}, "or are too large"),
        ({"geometry": (1, 1, 2**62, 1, 2**62, 2**62, 0, 0, 1)}, r"is 2\^31 or more"),
        ({"images": (1, 0, 8, 8, 3), "maps": (1, 0, 6, 6, 4)}, None),
        ({"dtype": "bfloat16"}, "expected F32"),
    ],
    ids=str,
)
def test_errors_are_exceptions(changed, sentence):
    if sentence is None:  # XLA itself leaves out what has no elements
        assert convolve(**changed)[2].size == 0
    else:
        with pytest.raises(Exception, match=sentence):
            convolve(**changed)[2].block_until_ready()
    assert np.isfinite(convolve()[2]).all()


def test_without_compiler_setup_says_so(tmp_path):
    pytest.importorskip("setuptools")
    shutil.copytree(FOLDER, tmp_path / "native", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    environment = {**os.environ, "CXX": str(tmp_path / "none")}
    command = [sys.executable, "setup.py", "build_ext"]
    done = subprocess.run(
        command, cwd=tmp_path / "native", env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert f"needs a C++17 compiler with OpenMP, and there is no `{tmp_path / 'none'}`: install g++" in done.stderr
    assert "Traceback" not in done.stderr


# The process it is in

WEIGHT_SUM = """
import hashlib
rng = np.random.default_rng(0)
x, y = (jnp.asarray(rng.standard_normal(s), "float32") for s in ((1, 16, 32, 32, 16), (1, 16, 30, 30, 16)))
print(hashlib.sha256(np.asarray(call(WEIGHT_GRAD, x, y, (1, 3, 3, 16, 16), PLAIN, bfloat16=BF16))).hexdigest())
"""


def test_omp_num_threads_is_honoured():
    # Threads show in the last bits: each sums its own images. One processor means a pool of one thread.
    code = WEIGHT_SUM.replace("BF16", "False")
    alone = python("os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n" + code)
    assert python(code, OMP_NUM_THREADS="1") == alone


def test_bfloat16_is_float32_on_processors_without_it():
    def of(bfloat16):
        return python(WEIGHT_SUM.replace("BF16", str(bfloat16)), ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")

    assert of(True) == of(False)


def test_many_threads_and_devices_at_once():
    code = """
from concurrent.futures import ThreadPoolExecutor
import itertools
rng = np.random.default_rng(0)
devices = jax.devices()
assert len(devices) == 4
def job(n, operation, networks, device):
    shapes = (networks, n, 16, 16, 8), (networks, 3, 3, 8, 16), (networks, n, 14, 14, 16)
    roles = ((0, 1, 2), (2, 1, 0), (0, 2, 1))[operation]
    a, b = (jax.device_put(np.sin(np.arange(np.prod(shapes[i])), dtype="f").reshape(shapes[i]), device)
            for i in roles[:2])
    return lambda: np.asarray(call(operation, a, b, shapes[roles[2]], PLAIN)).tobytes()
jobs = [job(*of) for of in itertools.product((1, 7, 40), range(3), (1, 3), devices)]
one_by_one = [job() for job in jobs]
with ThreadPoolExecutor(12) as pool:
    for _ in range(5):
        assert list(pool.map(lambda job: job(), jobs)) == one_by_one
print("same")
"""
    assert python(code, XLA_FLAGS="--xla_force_host_platform_device_count=4") == "same"


def test_onednn_is_not_shown_to_other_libraries():
    native.register(1)
    assert not hasattr(ctypes.CDLL(None), "dnnl_version")
