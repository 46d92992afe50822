"""What is compiled is kept on disk, by JAX's own cache, so that a command that is given again starts in seconds.

The folder is `compiled` in JAXDD_CACHE_DIR, one in it for each processor and JAX; it is held below a bound. Whoever has
named a folder to JAX (JAX_COMPILATION_CACHE_DIR) keeps theirs, and JAX_ENABLE_COMPILATION_CACHE=false turns it off.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import pathlib

from jaxdd._files import cache_folder, digest_of_facts
from jaxdd._system import cpuinfo, hardware

_BOUND = 2 * 2**30  # bytes
_LEAST_SECONDS = 0.2  # what compiles faster is not worth a file


def keep() -> None:
    """From now on, in this process. Nothing that goes wrong here stops a run."""
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    folder = cache_folder() / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_room(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder / _machine()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def make_room(folder: pathlib.Path, bound: float = _BOUND) -> None:
    """Delete what was used longest ago, until there are at most so many bytes."""
    there = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process makes room, too
            if path.is_file():
                facts = path.stat()
                there.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
    used = sum(size for _, size, _ in there)
    for _, size, path in sorted(there):
        if used <= bound:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            used -= size


def _machine() -> str:
    """A processor runs no other's programs, and a JAX reads no other's."""
    import jax

    instructions = cpuinfo("flags", "Features") or ""
    libraries = [jax.__version__, importlib.metadata.version("jaxlib")]
    facts = [hardware()["processor"], sorted(instructions.split()), libraries]
    return f"{jax.default_backend()}-{digest_of_facts(facts)[:16]}"
