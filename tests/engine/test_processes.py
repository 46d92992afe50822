"""One run in two processes of two devices each."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import blocks, class_means, committee, run

from jaxdd.engine import connect, processes
from jaxdd.errors import JaxddError
from jaxdd.types import Labels, RealData

TESTS = pathlib.Path(__file__).parents[1]
STEPS = 60


@contextlib.contextmanager
def job(workdir, result, *reads, method="class_means", steps=STEPS):
    """Two processes of a run, at work."""
    result.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    environment |= {"JAX_NUM_CPU_DEVICES": "2", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    members = []
    for index in range(2):
        arguments = map(str, (2, index, port, workdir, steps, result, method, *reads))
        command = [sys.executable, str(TESTS / "worker.py"), *arguments]
        members.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        yield members
    finally:
        for member in members:
            member.kill()
            member.communicate()


def ended(members):
    """Exit statuses and outputs, once all have ended."""
    outputs = [member.communicate(timeout=120)[0] for member in members]
    return [member.returncode for member in members], outputs


def wait_for(step, members, result, index=1):
    """Until that process has done so many steps."""
    path = result / f"step.{index}"
    until = time.monotonic() + 120
    while not (path.exists() and int(path.read_text() or 0) >= step):
        assert time.monotonic() < until and all(member.poll() is None for member in members)
        time.sleep(0.02)


@pytest.mark.endurance
def test_two_processes_equal_one_and_go_on_after_any_interruption(tmp_path, rng):
    with job(tmp_path / "whole", tmp_path / "result") as members:
        statuses, outputs = ended(members)
        assert statuses == [0, 0], outputs
    whole = [np.load(tmp_path / "result" / f"{index}.npz") for index in range(2)]
    np.testing.assert_array_equal(whole[0]["images"], whole[1]["images"])
    np.testing.assert_array_equal(whole[0]["best"], whole[1]["best"])
    assert set(whole[1]["read"]) == {16 // 4}  # what its own devices get of a window, and no more

    images, labels = rng.normal(size=(60, 4, 4, 1)).astype(np.float32), np.arange(60) % 3
    data = RealData.of(jnp.asarray(images), Labels.index(labels))
    alone = run(class_means(), data, steps=STEPS, devices=jax.devices()[:4])
    np.testing.assert_allclose(whole[0]["images"], alone.distilled.images, rtol=2e-6, atol=1e-6)

    result, workdir = tmp_path / "interrupted", tmp_path / "run"
    with job(workdir, result, 2 * 8 * 2) as members:  # after two windows, for each of its two devices
        statuses, outputs = ended(members)
        assert statuses == [2, 2], outputs
    assert "another process cannot go on; stopped at step 16 of 60, step 16 is saved" in outputs[0]
    assert "7.png: there is no such file; stopped at step 16 of 60, step 16 is saved" in outputs[1]
    with job(workdir, result) as members:
        wait_for(20, members, result)
        members[1].send_signal(signal.SIGTERM)  # one of them is told, both stop
        statuses, outputs = ended(members)
        assert statuses == [3, 3], outputs
        assert all("the same command with --resume goes on" in output for output in outputs)
    newest = max(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    for path in (workdir / "checkpoints" / str(newest) / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[::-1])
    (result / "step.1").unlink()
    with job(workdir, result) as members:
        wait_for(30, members, result)
        members[1].kill()  # lost with its host; whoever started the job then ends the rest of it
    assert (workdir / "checkpoints" / f"damaged-{newest}").is_dir()  # and the run had gone on from the one before
    with job(workdir, result) as members:
        statuses, outputs = ended(members)
        assert statuses == [0, 0], outputs
    for index in range(2):
        part = np.load(result / f"{index}.npz")
        np.testing.assert_array_equal(part["images"], whole[0]["images"])
        np.testing.assert_array_equal(part["best"], whole[0]["best"])


@pytest.mark.endurance
@pytest.mark.parametrize("recipe", [blocks, committee], ids=lambda recipe: recipe.__name__)
def test_two_processes_share_the_parts_of_a_run_and_make_what_one_makes(recipe, tmp_path, rng, request):
    """Three blocks on four devices of two processes; killed and gone on with. A committee's stages are shared, too."""
    method = request.node.callspec.id
    images, labels = rng.normal(size=(60, 4, 4, 1)).astype(np.float32), np.arange(60) % 3
    alone = run(recipe(), RealData.of(jnp.asarray(images), Labels.index(labels)), steps=30)
    with job(tmp_path / "whole", tmp_path / "result", method=method, steps=30) as members:
        statuses, outputs = ended(members)
        assert statuses == [0, 0], outputs
    whole = [np.load(tmp_path / "result" / f"{index}.npz")["images"] for index in range(2)]
    np.testing.assert_array_equal(whole[0], whole[1])
    np.testing.assert_allclose(whole[0], alone.distilled.images, rtol=2e-6, atol=1e-5)
    with job(tmp_path / "run", tmp_path / "again", method=method, steps=30) as members:
        wait_for(10, members, tmp_path / "again")
        members[0].kill()
    with job(tmp_path / "run", tmp_path / "again", method=method, steps=30) as members:
        statuses, outputs = ended(members)
        assert statuses == [0, 0], outputs
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "1.npz")["images"], whole[0])


def test_one_process_agrees_with_itself():
    assert processes.is_first()
    np.testing.assert_array_equal(processes.gather([3, 0, 15]), [[3, 0, 15]])
    assert processes.on_first(lambda: {"a": 1}) == {"a": 1}
    with pytest.raises(JaxddError, match="no"):
        processes.on_first(lambda: (_ for _ in ()).throw(JaxddError("no")))


def test_full_memory_is_said_with_what_helps_and_other_failures_as_they_are():
    error = jax.errors.JaxRuntimeError
    with pytest.raises(JaxddError, match="allocating 5 bytes: jaxdd plan says what a run needs"), processes.together():
        raise error("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes.\nMore of it.")
    with pytest.raises(error, match="INTERNAL"), processes.together():
        raise error("INTERNAL: something else.")


@pytest.mark.parametrize("address", ["", "host:1", "host:1,2", "host,2,0", "host:1,2,2", "host:1,two,0", "host:1,2,-1"])
def test_a_malformed_address_is_refused(address):
    with pytest.raises(JaxddError, match="HOST:PORT,COUNT,INDEX"):
        connect(address)
