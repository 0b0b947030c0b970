"""Pixels of uploads, decoded in a process of its own: what a file costs shows only afterwards."""

import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pebble import ProcessExpired
from PIL import Image

from gpg_vl.data.images import normalised, open_image
from gpg_vl.errors import DataError
from gpg_vl.runtime.shutdown import ignore_stop_signals
from gpg_vl.runtime.worker_pool import WorkerPool

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF")
"""What browsers and cameras write; Pillow knows more, some of them programs."""
_DEADLINE = 10.0
"""Seconds that decoding may take; 40 million pixels take one to three."""
_START = 1 << 18
"""Bytes of a file that are looked at before its turn: a header of a million blocks takes seconds to read."""
_TIFF = (b"II", b"MM")
"""How TIFF begins, whose header may stand anywhere, and name one long block a thousand times."""


def look(file: Path, name: str, max_pixels: int) -> int:
    """Refuse early what the start of a file gives away; `decoded` checks all of it.

    Returns its pixels, `max_pixels` where the start does not say. Raises DataError as `decoded` does.
    """
    with file.open("rb") as opened:
        start = opened.read(_START)
        whole = not opened.read(1)
    if start.startswith(_TIFF):
        return max_pixels
    return _pixels(start, whole, name, max_pixels)


def decoded(file: Path, name: str, max_pixels: int, deadline: float = _DEADLINE) -> Image.Image:
    """The image: upright, 8 bits, RGB or grey. One is decoded at a time, whoever asks.

    Raises DataError, whose message begins with `name`, for what is no image, is of another format than
    FORMATS, has more than `max_pixels`, or takes more than `deadline` seconds. The header is read first.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels"
        try:
            task = _worker.schedule(_decode, file, name, max_pixels, pixels, timeout=deadline)
            problem = task.result()
        except TimeoutError as error:
            raise DataError(f"{name} takes more than {deadline:g} s to decode: save it anew") from error
        except ProcessExpired as error:
            raise DataError(f"{name} takes too much memory to decode: make it smaller") from error
        except BrokenProcessPool as error:  # the process was killed before
            raise DataError(f"{name} could not be decoded just now: try again") from error
        if problem:
            raise DataError(problem)
        image = Image.open(pixels)
        image.load()  # here: two models read it at the same time, and Pillow decodes on the first look
        return image


_worker = WorkerPool(1, ignore_stop_signals)
"""Started with the first upload."""


def _decode(file: Path, name: str, max_pixels: int, pixels: Path) -> str:
    """In the worker: write the pixels as they are; returns what is wrong, as a RowError cannot be sent."""
    try:
        opened = _checked(open_image(file, name), name, max_pixels)
        normalised(opened, name).save(pixels, "PPM")
    except DataError as error:
        return str(error)
    return ""


def _pixels(start: bytes, whole: bool, name: str, max_pixels: int) -> int:
    try:
        opened = open_image(start, name)
    except DataError:
        if whole:
            raise
        return max_pixels  # its header goes on behind the start
    width, height = _checked(opened, name, max_pixels).size
    return width * height


def _checked(opened: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """The same image. Raises DataError for another format and too many pixels."""
    if opened.format not in FORMATS:
        raise DataError(f"{name} is {opened.format}; choose one of {', '.join(FORMATS)}")
    width, height = opened.size
    if width * height > max_pixels:
        raise DataError(
            f"{name} has {width}×{height} pixels, {width * height / 1e6:.1f} million; the limit is "
            f"{max_pixels / 1e6:g} million: make it smaller"
        )
    return opened
