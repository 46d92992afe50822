"""Compiles the one C++ file; everything else is in pyproject.toml."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shlex
import shutil

from setuptools import Extension, setup


def folder_of(distribution: str, file: str) -> pathlib.Path:
    """The folder of an installed distribution's file."""
    for entry in importlib.metadata.files(distribution) or ():
        if entry.as_posix().endswith(file):
            return pathlib.Path(entry.locate()).resolve().parent
    raise SystemExit(f"{distribution} has no {file}: the releases named in pyproject.toml are needed.")


if platform.system() != "Linux" or platform.machine() != "x86_64":
    raise SystemExit("jaxdd-onednn is for Linux on x86-64; elsewhere jaxdd does without it.")
compiler = os.environ.get("CXX", "").strip() or "g++"
if shutil.which(shlex.split(compiler)[0]) is None:
    raise SystemExit(
        f"jaxdd-onednn needs a C++17 compiler with OpenMP, and there is no `{compiler}`: install g++ (Debian and "
        "Ubuntu: apt install g++) or name another in CXX. jaxdd itself does without it, only slower."
    )
os.environ.setdefault("CC", compiler)
os.environ["CXX"] = compiler
setup(
    ext_modules=[
        Extension(
            "jaxdd_onednn._convolution",
            ["jaxdd_onednn/convolution.cpp"],
            include_dirs=[
                str(pathlib.Path(importlib.util.find_spec("jaxlib").origin).parent / "include"),
                str(folder_of("onednn-devel-cpu-gomp", "include/dnnl.hpp")),
            ],
            # Where oneDNN will be is not known here: jaxdd_onednn loads it first, and the loader goes by its name.
            library_dirs=[str(folder_of("onednn-cpu-gomp", "libdnnl.so"))],
            libraries=["dnnl", "gomp"],
            extra_compile_args=["-std=c++17", "-O3", "-fopenmp", "-fvisibility=hidden", "-Wall"],
            language="c++",
        )
    ]
)
