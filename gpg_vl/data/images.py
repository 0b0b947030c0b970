"""Images on their way into a prepared data set: opened lazily, checked, and brought into one form.

Stored images are 8-bit RGB or grey, upright, without transparency, in JPEG or PNG.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from gpg_vl.errors import RowError

UNREADABLE = "unreadable image"
MISSING = "missing image"
BOMB = "decompression bomb"
_MAX_ASPECT = 200
"""Of the longer side to the shorter one; Qwen2-VL's processor refuses images beyond."""

# What Pillow raises for broken files, found by damaging files of each format.
_BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)
_LOSSY = ("JPEG", "MPO")
_STRIP = 256
"""Rows of an image that are converted at a time, where the way leads over many bytes a pixel."""
_LYING = (5, 6, 7, 8)
"""EXIF's orientations that swap width and height."""
_FULL_SCALE = {"I": (65535.0,), "F": (1.0, 255.0)}
"""What counts as white where values alone do not say: the first that no value exceeds, else the largest."""


@dataclass(frozen=True)
class StoredImage:
    """An image as a prepared data set holds it."""

    data: bytes
    """The file: JPEG or PNG."""
    size: tuple[int, int]
    """Width and height in pixels, as shown."""
    pixel_hash: str
    """`pixel_hash` of the image as it is stored."""


def inside(root: Path, relative: str, where: str) -> Path:
    """The file `relative` below `root`; Windows' separators are understood.

    Raises RowError if it leads out of the folder, be it by `..`, as an absolute path or through a symbolic
    link.
    """
    if not isinstance(relative, str) or not relative.strip():
        raise RowError("unusable path", f"{where}: expected the path of an image, got {relative!r}")
    try:
        path = (root / relative.replace("\\", "/")).resolve()
        inner = path.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, links in a circle
        raise RowError("unusable path", f"{where}: {relative[:80]!r}: {error}") from error
    if not inner:
        raise RowError("path outside the folder", f"{where}: {relative!r} leads out of {root.name!r}")
    return path


def image_bytes(cell: object, where: str) -> bytes:
    """The image file in a cell: its bytes, or `{"bytes": …, "path": …}`. Raises RowError if there is none."""
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes) or not data:
        raise RowError("missing image", f"{where}: the row holds no image")
    return data


def file_cluster(data: bytes) -> str:
    """What groups the rows that share an image file of these bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def open_image(source: Path | bytes, where: str) -> Image.Image:
    """An image whose header is read and whose pixels are not; the writer decodes and checks them.

    `where` names the row in the message. Raises RowError if there is no file, no image in it, or one with
    more pixels than Pillow's `MAX_IMAGE_PIXELS`.
    """
    try:
        if isinstance(source, Path) and not source.is_file():
            raise RowError(MISSING, f"{where}: no file {source.name!r} in {str(source.parent)!r}")
        data = source.read_bytes() if isinstance(source, Path) else source  # no file stays open
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError(BOMB, f"{where}: {error}") from error
    except UnidentifiedImageError as error:
        raise RowError(UNREADABLE, f"{where}: no image, or of an unknown format") from error
    except _BROKEN as error:
        if isinstance(error, RowError):
            raise
        raise RowError(UNREADABLE, f"{where}: {error}") from error
    _check_size(image, where)
    return image


def store(image: Image.Image, where: str) -> StoredImage:
    """Decode an image and bring it into the stored form.

    A JPEG or PNG file that is in that form already is kept byte for byte. Otherwise EXIF rotation is
    applied, the first frame of an animation taken, palettes and CMYK converted, 16-bit and floating-point
    values scaled to 8 bits, transparency laid on white; a JPEG is then written anew in quality 95, all else
    as PNG.
    `where` names the image in the message. Raises RowError for what cannot be decoded.
    """
    file = image_file(image)
    opened = image if file is None else open_image(file, where)
    shown = normalised(opened, where)
    if file is None or shown is not opened or opened.format not in ("JPEG", "PNG"):
        lossy = file is not None and opened.format in _LOSSY
        file = _written(shown, lossy=lossy)
        shown = Image.open(io.BytesIO(file)) if lossy else shown
    return StoredImage(file, shown.size, pixel_hash(shown))


def normalised(image: Image.Image, where: str) -> Image.Image:
    """The image decoded, in the form of `store` but for the file: 8-bit RGB or grey, upright, opaque.

    It is `image` itself if that is so already and has one frame. Raises RowError for what cannot be decoded.
    """
    try:
        image.load()
        shown = _normalised(image)
    except (*_BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RowError(UNREADABLE, f"{where}: {error}") from error
    _check_size(shown, where)
    return shown


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once `store` has turned it, which is how annotators saw it; `image` stays as it is."""
    file = image_file(image)
    # Not of `image` itself: PNG's orientation may stand behind the pixels, and decoded it has no file left.
    opened = image if file is None else Image.open(io.BytesIO(file))
    width, height = image.size
    turns_itself = image.format == "TIFF"  # Pillow gives its upright size from the start
    lying = not turns_itself and _orientation(opened) in _LYING
    return (height, width) if lying else (width, height)


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of the size and the RGB pixels: equal for the same picture in other file formats."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def image_file(image: Image.Image) -> bytes | None:
    """The bytes of the file that the image is; None once it was decoded, for it may be changed since."""
    source = getattr(image, "fp", None)
    if image.format is None or source is None or source.closed:
        return None
    source.seek(0)
    data: bytes = source.read()
    return data


def _check_size(image: Image.Image, where: str) -> None:
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise RowError(BOMB, f"{where}: {width}×{height} pixels; the limit is {Image.MAX_IMAGE_PIXELS:,}")
    if not width or not height or max(width, height) > _MAX_ASPECT * min(width, height):
        raise RowError("extreme aspect ratio", f"{where}: {width}×{height}; the limit is {_MAX_ASPECT}:1")


def _normalised(image: Image.Image) -> Image.Image:
    """8-bit RGB or grey, upright, opaque; `image` itself if it is that already and has one frame."""
    upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    if upright.mode.startswith("I;16") or upright.mode in _FULL_SCALE:
        return _scaled(upright).convert("RGB")
    if upright.has_transparency_data:
        return _on_white(upright)
    if upright.mode not in ("RGB", "L"):
        return upright.convert("RGB")
    return upright.copy() if getattr(upright, "is_animated", False) else upright


def _on_white(image: Image.Image) -> Image.Image:
    """Without transparency."""
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        opaque.paste(
            Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top)
        )
    return opaque


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it is absent or broken, as viewers do."""
    try:
        value = image.getexif().get(Base.Orientation, 1)
    except _BROKEN:
        return 1
    return value if value in range(2, 9) else 1


def _scaled(image: Image.Image) -> Image.Image:
    """More than 8 bits a pixel to 8, linearly; Pillow itself would clip 16 bits to white."""
    values = np.asarray(image)
    strips = [slice(top, top + _STRIP) for top in range(0, image.height, _STRIP)]
    low = min(0.0, *(_finite(values[strip]).min() for strip in strips))
    high = max(_finite(values[strip]).max() for strip in strips)
    white = next((top for top in _FULL_SCALE.get(image.mode, (65535.0,)) if high <= top), high)
    scaled = np.empty(values.shape, np.uint8)
    for strip in strips:
        scaled[strip] = np.rint((_finite(values[strip]) - low) * (255.0 / max(white - low, 1e-12)))
    return Image.fromarray(scaled)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def _written(image: Image.Image, *, lossy: bool) -> bytes:
    buffer = io.BytesIO()
    if lossy:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, "PNG", icc_profile=None)  # a CMYK profile would outlive the conversion
    return buffer.getvalue()
