"""Eight virtual CPU devices, strict broadcasting, and one compilation cache for all test processes."""

import ctypes
import gc
import os
import pathlib
import tempfile
from importlib import metadata

os.environ.setdefault("MPLBACKEND", "agg")
# Most of a test is compilation; here that takes a quarter of the time without the compiler's own optimisations and by
# the older, plainer way of writing fused loops, where there still is that way.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
        *(["--xla_cpu_use_fusion_emitters=false"] if metadata.version("jaxlib").startswith("0.10.") else []),
    ]
).strip()

import jax
import numpy as np
import pytest
from toys import MNIST, few

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads where operations come from
gc.collect()
gc.freeze()
gc.set_threshold(400_000, 50, 1000)  # tracing makes many small objects, of which few are garbage
_CACHE = os.environ.get("JAXDD_TESTS_CACHE") or str(pathlib.Path(tempfile.gettempdir()) / "jaxdd-tests-xla")
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)  # writing a smaller one costs as much


def _resident_bytes() -> float:
    """Of this process; without Linux's files infinite, so that nothing is kept."""
    statistics = pathlib.Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statistics.exists() else float("inf")


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped():
    """After the file that has made them too many, so that memory does not grow with the number of files."""
    yield
    if _resident_bytes() > 1000 * 2**20:
        jax.clear_caches()
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps what was freed otherwise
            libc.malloc_trim(0)


@pytest.fixture(autouse=True, scope="session")
def stages_in_a_folder_of_their_own(tmp_path_factory):
    """What stages leave serves all tests of a process, and no run of anybody's own."""
    os.environ["JAXDD_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="session")
def x64():
    """Double precision, for finite differences."""
    return lambda: jax.enable_x64(True)


@pytest.fixture(scope="session")
def mnist() -> MNIST:
    """The 5,000 embedded digits, standardised, by split."""
    return MNIST.load()


@pytest.fixture(scope="session")
def digits(mnist):
    """480 digits of four classes at half their size, for methods."""
    return few(mnist.train)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
