"""Pixels of uploads, decoded in a process of its own: what a file costs is known only afterwards."""

import tempfile
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from pebble import ProcessExpired, ProcessPool
from PIL import Image

from gpg_vl.data.images import normalised, open_image
from gpg_vl.errors import DataError
from gpg_vl.runtime.shutdown import ignore_stop_signals

_DEADLINE = 20.0
"""Seconds that decoding may take; a photograph of 40 million pixels takes one."""


def decoded(file: Path, name: str, deadline: float = _DEADLINE) -> Image.Image:
    """The image: upright, 8 bits, RGB or grey. One is decoded at a time, whoever asks.

    `name` begins the message of the DataError for one that cannot be decoded, or not in `deadline` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels"
        task = _worker().schedule(_decode, args=(file, name, pixels), timeout=deadline)
        try:
            problem = task.result()
        except TimeoutError as error:
            raise DataError(f"{name} takes more than {deadline:g} s to decode: save it anew") from error
        except ProcessExpired as error:
            raise DataError(f"{name} takes too much memory to decode: make it smaller") from error
        if problem:
            raise DataError(problem)
        image = Image.open(pixels)
        image.load()  # here: two models read it at the same time, and Pillow decodes on the first look
        return image


@cache
def _worker() -> ProcessPool:
    """Started with the first upload; it ends with this process. Spawned: this one has threads."""
    return ProcessPool(max_workers=1, initializer=ignore_stop_signals, context=get_context("spawn"))


def _decode(file: Path, name: str, pixels: Path) -> str:
    """In the worker: write the pixels as they are; returns what is wrong, as a RowError cannot be sent."""
    try:
        normalised(open_image(file, name), name).save(pixels, "PPM")
    except DataError as error:
        return str(error)
    return ""
