"""Devices that are there for the compiler alone. Everything private to JAX is here."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import Any

PLATFORMS = ("gpu", "t4", "tpu")
BACKEND = {"gpu": "gpu", "t4": "gpu", "tpu": "tpu"}
"""As JAX calls it."""
MEMORY = {"gpu": 80e9, "t4": 11e9, "tpu": 16e9}
"""Bytes of the devices; of a T4's 15 GB JAX takes three quarters unless it is told otherwise."""

_SAME = """
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  driver_version: "12.9.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0"
"""
_OWN = {
    "gpu": """
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 threads_per_core_limit: 2048
  shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448 l2_cache_size: 52428800
  memory_bandwidth: 3352320000000 clock_rate_ghz: 1.98 device_memory_size: 84942979072
""",
    "t4": """
  cuda_compute_capability { major: 7 minor: 5 } core_count: 40 fpus_per_core: 64 threads_per_core_limit: 1024
  shared_memory_per_core: 65536 shared_memory_per_block_optin: 65536 l2_cache_size: 4194304
  memory_bandwidth: 320064000000 clock_rate_ghz: 1.59 device_memory_size: 15828320256
""",
}
_NAMES = {"gpu": "NVIDIA H100 80GB HBM3", "t4": "Tesla T4"}


def described(platform: str) -> str:
    """What XLA's compiler knows of a GPU that is not there, a GpuTargetConfigProto."""
    return (
        f"gpu_device_info {{ {_SAME} {_OWN[platform]} }}\n"
        f'platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{_NAMES[platform]}"'
    )


def folder(package: str) -> pathlib.Path:
    """Where an installed package lies.

    Raises:
      SystemExit: if it is not installed.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"accelerators.py needs {package}: pip install 'jaxdd[aot]'")
    return pathlib.Path(next(iter(spec.submodule_search_locations)))


def environment(platform: str, dump: pathlib.Path) -> dict[str, str]:
    """What has to be set before JAX is imported.

    Args:
      dump: a folder for what a GPU's compiler says beside the program.
    """
    if BACKEND[platform] == "gpu":
        compiler = folder("nvidia.cuda_nvcc")
        flags = f"--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false --xla_dump_to={dump}"
        return {
            "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags} --xla_gpu_cuda_data_dir={compiler}",
            "PATH": f"{compiler / 'bin'}:{os.environ['PATH']}",
        }
    return {
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_LIBRARY_PATH": str(folder("libtpu") / "libtpu.so"),
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "JAX_PLATFORMS": "",
    }


def device(platform: str) -> Any:
    """One of that platform, which programs can be compiled for."""
    if platform == "tpu":
        from jax.experimental import topologies

        return topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
    from jax._src import xla_bridge
    from jaxlib import xla_client

    registered, capsules = xla_bridge.register_plugin, []

    def register(name: str, *args: Any, **options: Any) -> Any:
        capsules.append(registered(name, *args, **options))
        return capsules[-1]

    xla_bridge.register_plugin = register  # JAX finds the plugin by itself, and keeps what its library is called by
    try:
        xla_bridge.backends()
    finally:
        xla_bridge.register_plugin = registered
    if not capsules:
        raise SystemExit("accelerators.py found no CUDA plugin of JAX: pip install 'jaxdd[aot]'")
    with contextlib.suppress(Exception):  # there is no driver, which compiling does not need
        xla_client.initialize_pjrt_plugin("cuda")
    topology = xla_client.make_c_api_device_topology(
        capsules[0], "", target_config=described(platform), topology="1x1x1"
    )
    return topology._make_compile_only_devices()[0]


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """While a program is traced, JAX's backend is that platform, and what would lie on its devices is abstract."""
    import jax

    from jaxdd.engine import chunk, feed

    def place(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (jax, "default_backend", lambda: BACKEND[platform]),
            (feed, "place", place),
            (chunk, "place", place),
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield
