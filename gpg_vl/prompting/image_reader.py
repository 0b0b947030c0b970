"""How images become pixels and tokens: what a family's processor does, and how long that makes a prompt."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from qwen_vl_utils.vision_process import to_rgb
from torch import Tensor

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.image_size import resized, seen_size

Size = tuple[int, int]
"""Width and height in pixels."""
NO_GRID = torch.zeros(0, 3, dtype=torch.long)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as a processor reads it; fields as in `EncodedPrompt`."""

    token_ids: Tensor
    pixel_values: Tensor | None = None
    grid: Tensor = NO_GRID
    pixel_mask: Tensor | None = None


class ImageReader(ABC):
    """A family's processor, with limits to the pixels of an image where the family has such."""

    keeps_limits: ClassVar[bool] = False
    """Whether `model.min_pixels` and `model.max_pixels` decide how many tokens an image has."""
    manner: ClassVar[str]
    """What becomes of an image, in a few words."""

    def __init__(self, processor: Any, *, min_pixels: int, max_pixels: int) -> None:
        """Raises ConfigurationError for limits that no image can keep."""
        self.processor = processor
        self.min_pixels, self.max_pixels = min_pixels, max_pixels

    @property
    def mark(self) -> str:
        """What stands for an image in a prompt as the chat template writes it."""
        return str(self.processor.image_token)

    @property
    def slot(self) -> str:
        """The token in whose places an image's features stand."""
        return self.mark

    def seen(self, size: Size) -> Size:
        """The size that an image of `size` has for the model; boxes of the space `resized` are in its pixels.

        Raises ValueError for an image that the family cannot read.
        """
        return size

    @abstractmethod
    def expansion(self, size: Size) -> str:
        """The text that takes the place of the mark of an image of `size`, with a `slot` for each feature."""

    @abstractmethod
    def read(
        self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]], *, special: bool
    ) -> list[ReadPrompt]:
        """Prompts with a mark for each of their images, as the model takes them.

        `special`: whether the tokenizer adds its first token, which a chat template writes itself.
        """

    def pictures(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Images as `read` gives them to the processor: for one elsewhere, which is to do the same."""
        return [to_rgb(image) for image in images]

    def grid(self, sizes: Sequence[Size]) -> Tensor:
        """The grid (images, 3) of images of these sizes; empty where they are tiles."""
        return NO_GRID

    def positions(self, image_mask: Tensor, grid: Tensor) -> Tensor:
        """Positions (3, P) of a prompt's tokens: plain ones, unless the family gives images their own."""
        return torch.arange(len(image_mask)).expand(3, -1)

    def expanded(self, text: str, sizes: Sequence[Size]) -> str:
        """A prompt with each mark's expansion in its place, in the order of the images."""
        parts = text.split(self.mark)
        expansions = [*(self.expansion(size) for size in sizes), ""]
        return "".join(part + expansion for part, expansion in zip(parts, expansions, strict=True))

    def image_tokens(self, size: Size) -> int:
        """Features of an image of `size`."""
        return self.expansion(size).count(self.slot)

    def shortened(self, text: str) -> tuple[str, int]:
        """An expanded prompt with one slot in the place of each run of them, and how many that leaves out."""
        short = re.sub(f"(?:{re.escape(self.slot)})+", self.slot, text)
        return short, (len(text) - len(short)) // len(self.slot)


class GridReader(ImageReader):
    """Qwen-VL's: an image keeps its shape, within limits, and is cut into a grid of patches.

    Its tokens have M-RoPE positions in time, height and width.
    """

    keeps_limits = True
    manner = "patches, model.max_pixels"

    def __init__(self, processor: Any, *, min_pixels: int, max_pixels: int) -> None:
        super().__init__(processor, min_pixels=min_pixels, max_pixels=max_pixels)
        self.patch_size: int = processor.image_processor.patch_size
        self.merge_size: int = processor.image_processor.merge_size
        self.factor = self.patch_size * self.merge_size
        """Pixels along a side of an image token."""
        if max_pixels < self.factor**2:
            raise ConfigurationError(
                f"model.max_pixels {max_pixels} holds no token: one has {self.factor}×{self.factor} = "
                f"{self.factor**2} pixels"
            )

    def seen(self, size: Size) -> Size:
        limits = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return seen_size(*size, factor=self.factor, **limits)

    def pictures(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        return [resized(image, self.seen(image.size)) for image in images]

    def expansion(self, size: Size) -> str:
        width, height = self.seen(size)
        return self.slot * (width * height // self.factor**2)

    def grid(self, sizes: Sequence[Size]) -> Tensor:
        seen = [self.seen(size) for size in sizes]
        patches = [[1, height // self.patch_size, width // self.patch_size] for width, height in seen]
        return torch.tensor(patches) if patches else NO_GRID

    def read(
        self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]], *, special: bool
    ) -> list[ReadPrompt]:
        """In one call of the processor."""
        every = [image for own in images for image in self.pictures(own)]
        outputs = self.processor(
            text=list(texts),
            images=every or None,
            do_resize=False,  # each has its size already; twice would blur
            add_special_tokens=special,
        )
        grids = torch.as_tensor(outputs["image_grid_thw"]) if every else NO_GRID
        parts = grids.split([len(own) for own in images])
        patches = [int(grid.prod(dim=1).sum()) for grid in parts]
        pixels = torch.as_tensor(outputs["pixel_values"]).split(patches) if every else [None] * len(texts)
        return [
            ReadPrompt(torch.tensor(ids), own if len(grid) else None, grid)
            for ids, own, grid in zip(outputs["input_ids"], pixels, parts, strict=True)
        ]

    def positions(self, image_mask: Tensor, grid: Tensor) -> Tensor:
        return mrope_positions(image_mask, grid, self.merge_size)


class TileReader(ImageReader):
    """An image is brought to one size, or cut into tiles of it, each of as many tokens; the processor knows.

    Pixel limits mean nothing to it: how many tiles there are is set in the processor's own configuration.
    """

    manner = "tiles, by the processor"

    def read(
        self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]], *, special: bool
    ) -> list[ReadPrompt]:
        """One by one."""
        return [self._read(text, own, special) for text, own in zip(texts, images, strict=True)]

    def _read(self, text: str, images: Sequence[Image.Image], special: bool) -> ReadPrompt:
        nested = [self.pictures(images)] if images else None
        outputs = self.processor(text=[text], images=nested, return_tensors="pt", add_special_tokens=special)
        pixels, mask = outputs.get("pixel_values"), outputs.get("pixel_attention_mask")
        if pixels is not None and pixels.dim() > _TILE_AXES:  # one text's, in a batch of texts
            pixels, mask = pixels[0], None if mask is None else mask[0]
        return ReadPrompt(outputs["input_ids"][0], pixels, pixel_mask=mask)


_TILE_AXES = 4
"""Of a stack of tiles: which, colour, height, width."""


def mrope_positions(image_mask: Tensor, grid: Tensor, merge_size: int) -> Tensor:
    """M-RoPE positions of a prompt with images.

    image_mask: (P,) bool; grid: (images, 3) patches. Returns (3, P) int64. Text advances all three axes
    by one; an image spans its merged height and width from a common start, and the text after it
    continues at start + max(height, width). Source: Qwen2-VL, arXiv 2409.12191, section 2.1.
    """
    positions = torch.zeros(3, len(image_mask), dtype=torch.long)
    index, position = 0, 0
    starts = _image_starts(image_mask, grid, merge_size)
    for start, (time, height, width) in zip(starts, grid.tolist(), strict=True):
        text = start - index
        positions[:, index:start] = position + torch.arange(text)
        position += text
        height, width = height // merge_size, width // merge_size
        axes = torch.meshgrid(torch.arange(time), torch.arange(height), torch.arange(width), indexing="ij")
        index = start + time * height * width
        positions[:, start:index] = position + torch.stack([axis.flatten() for axis in axes])
        position += max(height, width)
    positions[:, index:] = position + torch.arange(len(image_mask) - index)
    return positions


def _image_starts(image_mask: Tensor, grid: Tensor, merge_size: int) -> list[int]:
    """Index of each image's first token; images may stand next to each other."""
    slots = image_mask.nonzero().flatten().tolist()
    sizes = (grid.prod(dim=1) // merge_size**2).tolist()
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slots[first] for first in firsts]
