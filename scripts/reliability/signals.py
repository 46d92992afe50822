"""Faults of processes: SIGTERM, and SIGKILL while a file is being written."""

from __future__ import annotations

import subprocess
import sys
import time

from jaxdd.cli.main import main as command_line
from jaxdd.engine.log import read_metrics
from reliability.bench import FILE, ROOT, Bench, Lost, ends, require


def sigterm(bench: Bench) -> tuple[str, str]:
    """SIGTERM, and SIGKILL 10 seconds later"""
    workdir = bench.folder / "run"
    process = bench.start(*bench.command("dm", workdir, steps=10**6, checkpoint_seconds=1000))
    while not (workdir / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(2)
    said = _terminate(process)
    (step,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())
    done = read_metrics(workdir / "metrics.jsonl")[-1]["step"]
    require(done == step, f"step {done} was done, step {step} is saved")
    bench.finish(*bench.command("dm", workdir, steps=step + 5))
    bench.finish(*bench.command("dm", bench.folder / "whole", steps=step + 5))
    require(ends(workdir)[:2] == ends(bench.folder / "whole")[:2], "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing, not one step"


def sigterm_during_compilation(bench: Bench) -> tuple[str, str]:
    """SIGTERM while the step is being compiled"""
    workdir = bench.folder / "run"
    arguments = bench.command("rat_bptt", workdir, steps=5)
    process = bench.start(*arguments, JAX_ENABLE_COMPILATION_CACHE="false", JAX_LOG_COMPILES="1")
    assert process.stderr is not None
    for line in process.stderr:
        if "Compiling jit(chunk)" in line:
            break
    said = _terminate(process)
    require(not workdir.exists(), "it had begun")
    bench.finish(*arguments)
    return said, "nothing: no step had been done"


def killed_while_writing(bench: Bench) -> tuple[str, str]:
    """50 SIGKILLs while `distilled.safetensors` is being written over another one"""
    workdir, path, rng = bench.folder / "run", bench.folder / FILE, bench.rng("writing")
    contents = []
    for ipc in (20, 30):
        arguments = bench.command("kip", workdir / str(ipc), steps=1)
        require(command_line([*arguments, "--resume", f"--config.method.ipc={ipc}"]) == 0, "the run failed")
        contents.append(workdir / str(ipc) / FILE)
    program = (
        "import pathlib, sys; from jaxdd._files import write_atomically\n"
        "contents = [pathlib.Path(name).read_bytes() for name in sys.argv[2:]]; print(flush=True)\n"
        "while True: [write_atomically(sys.argv[1], content) for content in contents]\n"
    )
    command = [sys.executable, "-c", program, str(path), *map(str, contents)]
    whole, left = {each.read_bytes() for each in contents}, 0
    for _ in range(50):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.1 * rng.random())
            process.kill()
        require(not path.exists() or path.read_bytes() in whole, "half a file")
        left = len(list(bench.folder.glob(f".{FILE}.*")))
    happened = f"each time the old file or the new one, whole; {left} kills left a hidden file of the writing beside it"
    return happened, "nothing"


def _terminate(process: subprocess.Popen) -> str:
    """What became of a process after SIGTERM."""
    process.terminate()
    began = time.monotonic()
    try:
        _, said = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Lost("it took more than 10 seconds") from None
    seconds, sentence = time.monotonic() - began, said.strip().splitlines()[-1]
    require(process.returncode > 128 and sentence.startswith("jaxdd: "), f"status {process.returncode}: {said}")
    return f"status {process.returncode} after {seconds:.1f} s: “{sentence}”"
