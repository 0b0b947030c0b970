"""A sample's images in another process: sizes alone, or pixels that are written once for all answers."""

import os
import pickle
import tempfile
import weakref
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image

from gpg_vl.errors import ConfigurationError
from gpg_vl.types import Sample


class SizeOnly(Image.Image):
    """An image of which size and mode are known: what a reward gets that says `images=False`.

    Raises ConfigurationError where its pixels are read.
    """

    def __init__(self, size: tuple[int, int], mode: str) -> None:
        super().__init__()
        self._size, self._mode = size, mode

    def load(self) -> None:
        """Whatever reads pixels calls this first."""
        raise ConfigurationError(
            "it reads an image's pixels, and gets only the size in another process, since it is registered "
            "with images=False: leave that out"
        )

    def __reduce__(self) -> tuple[type["SizeOnly"], tuple[tuple[int, int], str]]:
        return SizeOnly, (self.size, self.mode)


def without_pixels(sample: Sample) -> Sample:
    """The sample with its images' sizes, which cost a few bytes to send."""
    return replace(sample, images=tuple(SizeOnly(image.size, image.mode) for image in sample.images))


@dataclass(frozen=True)
class SharedImages:
    """Images in a file, for any process of this machine."""

    path: str

    def read(self) -> tuple[Image.Image, ...]:
        """The images anew."""
        images: tuple[Image.Image, ...] = pickle.loads(Path(self.path).read_bytes())
        return images

    def remove(self) -> None:
        """Delete the file, if it is there."""
        Path(self.path).unlink(missing_ok=True)


def share(images: tuple[Image.Image, ...]) -> SharedImages:
    """Write images where other processes can read them, until somebody removes them or forgets the result.

    A file, not shared memory: containers often have 64 MB of that, and end a process that takes more.
    """
    handle, path = tempfile.mkstemp(prefix="gpg_vl_images_")
    shared = SharedImages(path)
    weakref.finalize(shared, SharedImages(path).remove)
    with os.fdopen(handle, "wb") as file:
        pickle.dump(images, file, pickle.HIGHEST_PROTOCOL)
    return shared


@lru_cache(maxsize=1)
def read_once(shared: SharedImages) -> tuple[Image.Image, ...]:
    """The images, read once for the answers of a group that follow one another."""
    return shared.read()
