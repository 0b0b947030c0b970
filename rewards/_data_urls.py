"""Images as data URLs, for servers that look at them."""

import asyncio
import base64
import io
import math
import weakref
from concurrent.futures import Future
from functools import cache

from PIL import Image

from gpg_vl.runtime.threads import SerialThread
from gpg_vl.types import Sample

_DRAWN = 4096
"""Colours up to which an image is taken for a drawing: small as PNG, which JPEG would blur."""
_QUALITY = 90
_begun: dict[tuple[int, int], "Future[list[str]]"] = {}
"""By the sample's identity and the size asked for, as long as the sample lives."""


async def data_urls(sample: Sample, max_pixels: int) -> list[str]:
    """The sample's images, each of at most `max_pixels` pixels.

    They are written once for all answers to it, in a thread.
    """
    key = (id(sample), max_pixels)
    if key not in _begun:
        _begun[key] = _thread().submit(_data_urls, sample.images, max_pixels)
        weakref.finalize(sample, _begun.pop, key, None).atexit = False
    # Shielded: an answer that is given up takes the images from no other one.
    return await asyncio.shield(asyncio.wrap_future(_begun[key]))


@cache
def _thread() -> SerialThread:
    return SerialThread("data URLs")


def _data_urls(images: tuple[Image.Image, ...], max_pixels: int) -> list[str]:
    return [data_url(image, max_pixels) for image in images]


def data_url(image: Image.Image, max_pixels: int) -> str:
    """PNG of a drawing, JPEG of a photograph; larger images are shrunk to `max_pixels` pixels."""
    shown = image if image.mode in ("RGB", "L") else image.convert("RGB")
    if shown.width * shown.height > max_pixels:
        shown = shown.resize(_shrunk(*shown.size, max_pixels), Image.Resampling.LANCZOS)
    drawn = shown.getcolors(_DRAWN) is not None
    buffer = io.BytesIO()
    if drawn:
        shown.save(buffer, "PNG")
    else:
        shown.save(buffer, "JPEG", quality=_QUALITY)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{'png' if drawn else 'jpeg'};base64,{text}"


def _shrunk(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Of the same shape, as far as whole pixels allow."""
    ratio = math.sqrt(max_pixels / (width * height))
    tall = max(1, int(height * ratio))
    wide = max(1, min(int(width * ratio), max_pixels // tall))
    return wide, min(tall, max_pixels // wide)
