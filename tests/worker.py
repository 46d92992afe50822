"""One process of a run of several: `worker.py COUNT INDEX PORT WORKDIR STEPS RESULT METHOD [READS]`. Started by tests.

METHOD is "class_means", "blocks" or "committee", of `toys`. With READS the last process cannot read its data any more
after so many times.
"""

import pathlib
import sys
import time

import numpy as np
from toys import blocks, class_means, committee, run

from jaxdd import engine
from jaxdd.engine import feed
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.types import HostArray, Labels, RealData

count, index, port, workdir, steps, result, method, *reads = sys.argv[1:]
feed._WINDOW_STEPS = 8


def main() -> int:
    engine.connect(f"localhost:{port},{count},{index}")
    whole = method == "class_means"
    rng, labels, read = np.random.default_rng(0), np.arange(60) % 3, []
    images = rng.normal(size=(60, 4, 4, 1)).astype(np.float32)

    def rows(rows):
        if reads and len(read) == int(reads[0]) and index == "1":
            raise JaxddError("7.png: there is no such file.")
        read.append(rows.size)
        return images[rows]

    def note(step, metrics, state):
        (pathlib.Path(result) / f"step.{index}").write_text(str(step))
        time.sleep(0.05)  # so that there is time to kill it

    data = RealData.of(HostArray(images.shape, images.dtype, rows, "0" * 64), Labels.index(labels))
    done = run(
        {"class_means": class_means, "blocks": blocks, "committee": committee}[method](),
        data,
        steps=int(steps),
        workdir=workdir,
        resume=True,
        devices=None,
        log_every=1,
        checkpoint_seconds=0.2,
        callback=note,
        validate=(lambda distilled: {"score": -float(abs(distilled.images).mean())}) if whole else None,
    )
    best = done.best[0].images if done.best else ()
    np.savez(pathlib.Path(result) / f"{index}.npz", images=done.distilled.images, best=best, read=read)
    return 0


try:
    sys.exit(main())
except JaxddError as error:
    print(error)
    sys.exit(2)
except RunInterrupted as error:
    print(error)
    sys.exit(3)
