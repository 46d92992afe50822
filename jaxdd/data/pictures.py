"""Pictures: PNG and JPEG files of one size, read a few at a time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np

from jaxdd.data.streaming import refusing
from jaxdd.data.transforms import block_rows
from jaxdd.errors import JaxddError, printable

_THREADS = 8  # that decode files: enough for any step, few enough for a shared machine
_FILES_PER_TASK = 16  # a task for each small file would cost as much as the file
_LOOKED_AT = 16  # files with an alpha channel, for what is in it

_LOG = logging.getLogger("jaxdd")
_PNG = b"\x89PNG\r\n\x1a\n"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Embedded(Protocol):
    """A PNG or JPEG file within another one; its text is what sentences call it."""

    def open(self) -> BinaryIO: ...

    @property
    def within(self) -> tuple[Path, int, int]:
        """The other file, where in it, and of how many bytes."""
        ...


Place = str | Embedded
"""Where the bytes of a picture are: in a file of this path, or within one."""


@dataclasses.dataclass(frozen=True, eq=False)
class FileSource:
    """PNG or JPEG files of one size: uint8, three channels, or one if all are grey; an alpha channel is dropped.

    Images stand upright, as their EXIF orientation says.

    Attributes:
      files: their paths; or what lies elsewhere than in a file of its own.
      image_shape: `(height, width, channels)`.
    """

    files: Sequence[Place]
    image_shape: tuple[int, int, int]

    @classmethod
    def of(cls, files: Sequence[Place]) -> FileSource:
        """Read the header of each file.

        Raises:
          JaxddError: a file is no readable PNG or JPEG file, has more than 8 bits a channel, or another size; or the
            images are in the alpha channels.
        """
        first, channels, with_alpha = None, 1, []
        for file, (height, width, depth, alpha) in zip(files, in_threads(_header, files), strict=True):
            first = first or (height, width)
            if (height, width) != first:
                raise JaxddError(
                    f"{file} is {height}x{width} (height x width) but {files[0]} is {first[0]}x{first[1]}; "
                    "all images must have one size, resize them first"
                )
            channels = max(channels, depth)
            if alpha:
                with_alpha.append(file)
        _check_alpha(with_alpha, len(files))
        assert first is not None  # no class folder is empty
        return cls(files, (*first, channels))

    def part(self, start: int, count: int) -> FileSource:
        """Some of them in a row."""
        return FileSource(self.files[start : start + count], self.image_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.image_shape), np.uint8)
        self.fill(rows, images)
        return images

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        def put(k: int) -> None:
            out[k] = self._decoded(self.files[rows[k]])

        for _ in in_threads(put, range(len(rows))):
            pass

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """One block ahead of whoever takes them: files are decoded while the block before is looked at."""
        coming: list[tuple[slice, concurrent.futures.Future[np.ndarray]]] = []
        with concurrent.futures.ThreadPoolExecutor(1, "jaxdd-ahead") as ahead:
            for rows in block_rows(self.shape):
                coming.append((rows, ahead.submit(self.read, np.arange(rows.start, rows.stop))))
                if len(coming) > 1:
                    before, block = coming.pop(0)
                    yield before, block.result()
            for before, block in coming:
                yield before, block.result()

    def _decoded(self, file: Place) -> np.ndarray:
        with _opened(file) as opened:
            array = np.asarray(opened.upright())
        array = array if array.ndim == 3 else array[..., None]
        expected = self.image_shape
        if array.shape[:2] != expected[:2] or array.shape[2] > expected[2]:
            is_now, was = ("x".join(map(str, shape)) for shape in (array.shape, expected))
            raise JaxddError(f"{file} is {is_now} (height x width x channels), but was {was} when the data were loaded")
        return array  # a grey one among coloured ones is repeated where it is stored


class _Opened(NamedTuple):
    """A PNG or JPEG file whose header is read.

    Attributes:
      image: of Pillow.
      mode: its pixels are taken in, "L" or "RGB".
      orientation: of EXIF, 1 to 8, 1 for upright.
      alpha: whether it has a channel that is dropped.
    """

    image: Any
    mode: str
    orientation: int
    alpha: bool

    def size(self) -> tuple[int, int]:
        """Height and width, upright."""
        width, height = self.image.size
        return (width, height) if self.orientation > 4 else (height, width)

    def upright(self) -> Any:
        from PIL.Image import Transpose

        turns = {
            2: Transpose.FLIP_LEFT_RIGHT,
            3: Transpose.ROTATE_180,
            4: Transpose.FLIP_TOP_BOTTOM,
            5: Transpose.TRANSPOSE,
            6: Transpose.ROTATE_270,
            7: Transpose.TRANSVERSE,
            8: Transpose.ROTATE_90,
        }
        image = self.image if self.image.mode == self.mode else self.image.convert(self.mode)
        return image.transpose(turns[self.orientation]) if self.orientation in turns else image


@contextlib.contextmanager
def _opened(file: Place) -> Iterator[_Opened]:
    from PIL import Image

    with refusing(f"{file} is not a readable PNG or JPEG file"), contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(_bytes_of(file))
        except FileNotFoundError as error:
            raise JaxddError(f"{file} has vanished since the folder was read") from error
        is_png = stream.read(len(_PNG)) == _PNG
        depth, late_exif = _png_facts(stream) if is_png else (0, False)
        image = stack.enter_context(Image.open(stream, formats=("PNG", "JPEG")))
        # Pillow gives PNG files of 16 bits a channel as 8 without a word, but for grey ones.
        if depth > 8 or image.mode.startswith(("I", "F")):
            raise JaxddError(
                f"{file} has more than 8 bits a channel, and files are read at 8; convert the files to 8 bits, or give "
                "an .npz"
            )
        orientation = _orientation(image, late_exif)
        if "transparency" in image.info:
            yield _Opened(image.convert("RGBA"), "RGB", orientation, True)
        else:
            mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
            yield _Opened(image, mode, orientation, image.mode in ("LA", "PA", "RGBA"))


def _bytes_of(file: Place) -> BinaryIO:
    if isinstance(file, str):
        return open(file, "rb")
    return file.open()


def _png_facts(stream: BinaryIO) -> tuple[int, bool]:
    """Bits a channel as the header of a PNG file says, read up to its signature; whether EXIF is behind the pixels."""
    start = stream.read(17)  # the first chunk's length and name, width, height, depth
    depth = start[16] if start[4:8] == b"IHDR" and len(start) == 17 else 0
    stream.seek(len(_PNG))
    seen = []
    while len(head := stream.read(8)) == 8:
        seen.append(head[4:])
        stream.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    stream.seek(0)
    return depth, b"eXIf" in seen and b"IDAT" in seen[: seen.index(b"eXIf")]


def _orientation(image: Any, late_exif: bool) -> int:
    """What EXIF says of an image that is opened: 1 to 8; damaged EXIF says nothing."""
    from PIL import Image

    try:
        # The method of PNG images decodes their pixels to get at EXIF behind them.
        found = image.getexif() if late_exif else Image.Image.getexif(image)
        orientation = found.get(0x0112, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _header(file: Place) -> tuple[int, int, int, bool]:
    with _opened(file) as opened:
        return *opened.size(), len(opened.mode), opened.alpha


def _check_alpha(files: list[Place], count: int) -> None:
    """Refuse images that are in their alpha channels, which are dropped; warn if a few are. A few files tell.

    Args:
      files: that have an alpha channel, of `count`.
    """
    some = [files[k] for k in np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).astype(int)]
    lost = [file for file, is_lost in zip(some, in_threads(_is_in_alpha, some), strict=True) if is_lost]
    if not lost:
        return
    sentence = (
        f"{lost[0]} has a single colour and its shape in the alpha channel, which is dropped; paste such files onto a "
        "background"
    )
    if 2 * len(lost) * len(files) >= len(some) * count:
        raise JaxddError(sentence)
    _LOG.warning("%s (so do %d of %d files looked at).", printable(sentence), len(lost), len(some))


def _is_in_alpha(file: Place) -> bool:
    with _opened(file) as opened:
        pixels = np.asarray(opened.image.convert("RGBA")).reshape(-1, 4)
    low, high = pixels.min(0), pixels.max(0)
    return bool((low == high)[:3].all() and low[3] < high[3])


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "jaxdd-images")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], per_task: int = _FILES_PER_TASK
) -> Iterator[Result]:
    """`map` in order, over several threads, each of which takes so many items at once."""
    tasks = (items[start : start + per_task] for start in range(0, len(items), per_task))
    for results in _pool().map(lambda task: [function(item) for item in task], tasks):
        yield from results
