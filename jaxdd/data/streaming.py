"""Images that stay in their files and are read when a step needs them, and the one scan that checks them all."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np

from jaxdd._files import Digest
from jaxdd.data.plausible import Pixels
from jaxdd.data.transforms import block_rows
from jaxdd.errors import JaxddError, printable
from jaxdd.types import HostArray

_THREADS = 8  # that decode files: enough for any step, few enough for a shared machine
_FILES_PER_TASK = 16  # a task for each small file would cost as much as the file
_LOOKED_AT = 16  # files with an alpha channel, for what is in it

_LOG = logging.getLogger("jaxdd")
_PNG = b"\x89PNG\r\n\x1a\n"

Item = TypeVar("Item")
Result = TypeVar("Result")


class RowReader(Protocol):
    """Images, uint8 or float32, that are read by rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of some rows, integers `(b,)`; raises a JaxddError that names what cannot be read."""
        ...

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All images in order, some at a time, with their rows; raises a JaxddError if any are not as they must be."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """An array of any numeric type that is never copied as a whole.

    Attributes:
      what: it is called in messages.
      array: `(n, h, w, c)`, integers or floats.
      file: that it is mapped from, and its size in bytes: who reads beyond the end of a file that was cut is killed.
    """

    what: str
    array: np.ndarray
    file: tuple[str, int] | None = None

    @classmethod
    def of(cls, what: str, array: np.ndarray, mapped: Any) -> ArraySource:
        """`array`, a view of `mapped` if that is a `np.memmap`."""
        name = getattr(mapped, "filename", None)
        if name is None or not os.path.exists(name):
            return cls(what, array)
        return cls(what, array, (str(name), os.path.getsize(name)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32 if self.array.dtype.kind == "f" else np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        self._check_file()
        raw = self.array[rows]
        images = self.converted(raw)
        floats = self.dtype == np.float32
        good = (np.isfinite(images) if floats else images == raw).all(axis=(1, 2, 3))
        if not good.all():
            kind = "a NaN or infinite pixel" if floats else "a pixel outside 0..255"
            raise JaxddError(
                f"image {rows[np.argmin(good)]} of {self.what} has {kind}, which it had not when the data were loaded"
            )
        return images

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        low = high = int(self.array[0].flat[0]) if self.array.dtype.kind in "iu" else 0
        pixels = bad = first = 0
        for rows in block_rows(self.shape):
            raw = self.array[rows]
            images = self.converted(raw)
            if self.dtype == np.float32:
                finite = np.isfinite(images)
                wrong = np.flatnonzero(~finite.all(axis=(1, 2, 3)))
                if len(wrong):
                    first = first if bad else rows.start + int(wrong[0])
                    pixels, bad = pixels + int((~finite[wrong]).sum()), bad + len(wrong)
            elif raw.dtype != np.uint8:
                low, high = min(low, int(raw.min())), max(high, int(raw.max()))
            yield rows, images
        if bad:
            raise JaxddError(
                f"{self.what} has {pixels} NaN or infinite {'pixel' if pixels == 1 else 'pixels'} in {bad} of "
                f"{len(self.array)} images, first in image {first}"
            )
        if low < 0 or high > 255:
            raise JaxddError(
                f"{self.what} has {self.array.dtype} pixels from {low} to {high}; integers must lie in 0..255, "
                "or convert them to float32"
            )

    def converted(self, raw: np.ndarray) -> np.ndarray:
        """Some of the array as uint8 or float32, without a copy where it is that already."""
        with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is counted
            return np.ascontiguousarray(raw, self.dtype)

    def _check_file(self) -> None:
        if self.file is None:
            return
        name, size = self.file
        try:
            now = os.path.getsize(name)
        except OSError as error:
            raise JaxddError(f"{name} has vanished since the data were loaded") from error
        if now != size:
            raise JaxddError(f"{name} has {now} bytes, but had {size} when the data were loaded")


@dataclasses.dataclass(frozen=True, eq=False)
class FileSource:
    """PNG or JPEG files of one size: uint8, three channels, or one if all are grey; an alpha channel is dropped.

    Images stand upright, as their EXIF orientation says.

    Attributes:
      files: their paths.
      image_shape: `(height, width, channels)`.
    """

    files: list[str]
    image_shape: tuple[int, int, int]

    @classmethod
    def of(cls, files: list[str]) -> FileSource:
        """Read the header of each file.

        Raises:
          JaxddError: a file is no readable PNG or JPEG file, has more than 8 bits a channel, or another size; or the
            images are in the alpha channels.
        """
        first, channels, with_alpha = None, 1, []
        for file, (height, width, depth, alpha) in zip(files, _in_threads(_header, files), strict=True):
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

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.image_shape), np.uint8)

        def put(k: int) -> None:
            images[k] = self._decoded(self.files[rows[k]])

        for _ in _in_threads(put, range(len(rows))):
            pass
        return images

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for rows in block_rows(self.shape):
            yield rows, self.read(np.arange(rows.start, rows.stop))

    def _decoded(self, file: str) -> np.ndarray:
        with _opened(file) as opened:
            array = np.asarray(opened.upright())
        array = array if array.ndim == 3 else array[..., None]
        expected = self.image_shape
        if array.shape[:2] != expected[:2] or array.shape[2] > expected[2]:
            is_now, was = ("x".join(map(str, shape)) for shape in (array.shape, expected))
            raise JaxddError(f"{file} is {is_now} (height x width x channels), but was {was} when the data were loaded")
        return array  # a grey one among coloured ones is repeated where it is stored


def scan(
    source: Sequence[tuple[RowReader, np.ndarray]],
    parts: Sequence[tuple[int, np.ndarray]],
    pixels: Sequence[Pixels],
) -> tuple[str, list[HostArray]]:
    """Read everything once, a block at a time: check and hash it, and cut it into parts that are read on demand.

    Args:
      source: images and labels.
      parts: for each the number of its source, and the rows in it, ascending.
      pixels: for each source, told of all its images.

    Returns:
      The `digest` of all arrays in order, as of data in memory, and the images of each part.
    """
    whole = Digest()
    digests = [Digest().begin(source[k][0].dtype, (len(rows), *source[k][0].shape[1:])) for k, rows in parts]
    for number, (images, labels) in enumerate(source):
        whole.begin(images.dtype, images.shape)
        here = [(_mask(rows, len(labels)), one) for (k, rows), one in zip(parts, digests, strict=True) if k == number]
        for rows, block in images.blocks():
            whole.add(block)
            pixels[number].add(block)
            for mask, one in here:
                one.add(block[mask[rows]])
        whole.begin(labels.dtype, labels.shape).add(labels)
    return whole.hexdigest(), [
        _part(source[k][0], rows, one.hexdigest()) for (k, rows), one in zip(parts, digests, strict=True)
    ]


def _part(source: RowReader, rows: np.ndarray, fingerprint: str) -> HostArray:
    height, width, channels = source.shape[1:]
    return HostArray(
        shape=(len(rows), height, width, channels),
        stored=source.dtype,
        read=lambda chosen: source.read(rows[chosen]),
        fingerprint=fingerprint,
    )


def _mask(rows: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


@contextlib.contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Foreign and damaged files make their readers raise anything; people get one sentence."""
    try:
        yield
    except (JaxddError, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise JaxddError(f"{sentence}: {detail}") from error


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
        image = self.image.convert(self.mode)
        return image.transpose(turns[self.orientation]) if self.orientation in turns else image


@contextlib.contextmanager
def _opened(file: str) -> Iterator[_Opened]:
    from PIL import Image

    with refusing(f"{file} is not a readable PNG or JPEG file"), contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open(file, "rb"))
        except FileNotFoundError as error:
            raise JaxddError(f"{file} has vanished since the folder was read") from error
        depth, late_exif = _png_facts(stream)
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


def _png_facts(stream: BinaryIO) -> tuple[int, bool]:
    """Bits a channel as the header says, 0 for another file, and whether EXIF stands behind the pixels."""
    start = stream.read(25)  # the signature, the first chunk's length and name, width, height, depth
    is_png = start.startswith(_PNG)
    depth = start[24] if is_png and start[12:16] == b"IHDR" and len(start) == 25 else 0
    stream.seek(8)
    seen = []
    while is_png and len(head := stream.read(8)) == 8:
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


def _header(file: str) -> tuple[int, int, int, bool]:
    with _opened(file) as opened:
        return *opened.size(), len(opened.mode), opened.alpha


def _check_alpha(files: list[str], count: int) -> None:
    """Refuse images that are in their alpha channels, which are dropped; warn if a few are. A few files tell.

    Args:
      files: that have an alpha channel, of `count`.
    """
    some = [files[k] for k in np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).astype(int)]
    lost = [file for file, is_lost in zip(some, _in_threads(_is_in_alpha, some), strict=True) if is_lost]
    if not lost:
        return
    sentence = (
        f"{lost[0]} has a single colour and its shape in the alpha channel, which is dropped; paste such files onto a "
        "background"
    )
    if 2 * len(lost) * len(files) >= len(some) * count:
        raise JaxddError(sentence)
    _LOG.warning("%s (so do %d of %d files looked at).", printable(sentence), len(lost), len(some))


def _is_in_alpha(file: str) -> bool:
    with _opened(file) as opened:
        pixels = np.asarray(opened.image.convert("RGBA")).reshape(-1, 4)
    low, high = pixels.min(0), pixels.max(0)
    return bool((low == high)[:3].all() and low[3] < high[3])


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "jaxdd-images")


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map` in order, over several threads."""
    tasks = (items[start : start + _FILES_PER_TASK] for start in range(0, len(items), _FILES_PER_TASK))
    for results in _pool().map(lambda task: [function(item) for item in task], tasks):
        yield from results
