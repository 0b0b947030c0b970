"""The vision tower's pass: images of equal size in one attention call, and no wait for the device.

transformers works out positions and lengths on the device, reads the lengths back in every layer, and calls
attention once per image (or window) and layer. Here they are worked out on the CPU from the images' grids,
and patches that read each other stand in runs of equal length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids, get_vision_window_index

from gpg_vl.runtime.devices import send

VISION_ATTENTION = "gpg_vl_equal_lengths"
"""Registered with transformers for the vision tower, in place of its `sdpa`."""

Grid = tuple[int, int, int]
"""Frames, and patches down and across, of one image."""


class PatchProjection(nn.Conv3d):
    """A convolution whose kernel covers its whole input: one matrix product, which is faster, and which on a
    GPU is no TF32 where fp32 is asked for."""

    def forward(self, patches: Tensor) -> Tensor:
        """(N, channels, frames, side, side) to (N, width, 1, 1, 1)."""
        features = linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return features[:, :, None, None, None]


def prepare_tower(tower: Any) -> None:
    """Make the patches' embedding a matrix product, and tell each layer whether it reads windows only."""
    for module in tower.patch_embed.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = PatchProjection  # weights keep names and shapes
    whole = getattr(tower, "fullatt_block_indexes", None)  # Qwen2.5-VL's; else all
    for number, block in enumerate(tower.blocks):
        block.attn.reads_windows = whole is not None and number not in whole


@dataclass(frozen=True)
class Runs:
    """Patches that read each other, as runs of equally long segments."""

    sizes: Sequence[tuple[int, int]]
    """Segments of each run, and the patches of one."""
    order: Tensor | None = None
    """(patches,) brings patches into the runs; None where they stand so."""
    back: Tensor | None = None
    """(patches,) undoes it."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Runs":
        """For segments of so many patches, one behind the other."""
        sizes: list[tuple[int, int]] = []
        for length in lengths:
            if sizes and sizes[-1][1] == length:
                sizes[-1] = (sizes[-1][0] + 1, length)
            else:
                sizes.append((1, length))
        return cls(sizes)


@dataclass(frozen=True)
class Segments:
    """What each kind of layer reads."""

    images: Runs
    windows: Runs | None = None


def equal_lengths_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    segments: Segments | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention function in transformers' interface: query, key, value (1, heads, patches, D) to
    (1, patches, heads, D). Without `segments`, all patches read each other."""
    every = Runs.of([query.shape[2]])
    runs = every if segments is None else segments.windows if module.reads_windows else segments.images
    assert runs is not None, "a tower with windows was given none"
    inputs = [query, key, value]
    if runs.order is not None:
        inputs = [tensor.index_select(2, runs.order) for tensor in inputs]
    outputs, start = [], 0
    for count, length in runs.sizes:
        parts = (one.narrow(2, start, count * length).unflatten(2, (count, length)) for one in inputs)
        queries, keys, values = (part[0].transpose(0, 1) for part in parts)  # (count, heads, length, D)
        read = scaled_dot_product_attention(queries, keys, values, scale=scaling)
        outputs.append(read.transpose(1, 2).flatten(0, 1))  # (count·length, heads, D)
        start += count * length
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return (joined if runs.back is None else joined.index_select(0, runs.back))[None], None


ALL_ATTENTION_FUNCTIONS.register(VISION_ATTENTION, equal_lengths_attention)


@dataclass(frozen=True)
class ImageFeatures:
    """What a vision tower makes of images."""

    tokens: Tensor
    """(image tokens, H) in the images' order."""
    layers: tuple[Tensor, ...] = ()
    """DeepStack: the same of inner layers, for the first text layers; empty elsewhere."""


def image_features(model: Any, pixels: Tensor, grid: Tensor) -> ImageFeatures:
    """Features of images, in their order.

    model: transformers' base model; pixels: (patches, patch size); grid: (images, 3) on the CPU.
    """
    tower, device = model.visual, pixels.device
    if tower.config._attn_implementation != VISION_ATTENTION:
        return ImageFeatures(_features(model, pixels, grid, _ragged(tower, grid, device)))
    rows: list[Grid] = [tuple(row) for row in grid.tolist()]
    order = sorted(range(len(rows)), key=lambda image: rows[image][1] * rows[image][2])
    given = _in_runs(tower, [rows[image] for image in order], device)
    if order == list(range(len(rows))):
        return ImageFeatures(_features(model, pixels, grid, given))
    patches = [t * h * w for t, h, w in rows]
    features = _features(model, _arranged(pixels, patches, order), grid[order], given)
    tokens = [patches[image] // tower.spatial_merge_size**2 for image in order]
    return ImageFeatures(_arranged(features, tokens, sorted(range(len(order)), key=order.__getitem__)))


def _features(model: Any, pixels: Tensor, grid: Tensor, given: dict[str, Any]) -> Tensor:
    seen = model.get_image_features(pixels, grid, return_dict=True, **given)
    return torch.cat(list(seen.pooler_output))


def _arranged(stacked: Tensor, lengths: Sequence[int], order: Sequence[int]) -> Tensor:
    """Parts of so many rows each, in another order."""
    parts = stacked.split(list(lengths))
    return torch.cat([parts[place] for place in order])


def _in_runs(tower: Any, rows: Sequence[Grid], device: torch.device) -> dict[str, Any]:
    """What the tower takes for images sorted by size: to transformers they are one segment."""
    merge = tower.spatial_merge_size
    images = Runs.of([h * w for t, h, w in rows for _ in range(t)])
    one = torch.tensor([0, sum(t * h * w for t, h, w in rows)], dtype=torch.int32)
    positions = torch.cat([_positions(row, merge) for row in rows])
    given = {"position_ids": send(positions, device), "cu_seqlens": one}
    if not hasattr(tower, "window_size"):
        return given | {"segments": Segments(images)}
    order, windows = _windows(rows, (merge, tower.window_size, tower.patch_size))
    if len(images.sizes) > 1 or images.sizes[0][0] > 1:  # one image is read in any order
        back = (order[:, None] * merge**2 + torch.arange(merge**2)).flatten()
        images = Runs(images.sizes, send(back.argsort(), device), send(back, device))
    given |= {"window_index": send(order, device), "cu_window_seqlens": one}
    return given | {"segments": Segments(images, windows)}


def _windows(rows: Sequence[Grid], sides: tuple[int, int, int]) -> tuple[Tensor, Runs]:
    """The windows of all images, those of equal length together: their image tokens (tokens,), and runs."""
    merge = sides[0]
    found: dict[int, list[Tensor]] = {}
    start = 0
    for row in rows:
        for length, tokens in _windows_of(row, sides).items():
            found.setdefault(length, []).append(tokens + start)
        start += row[0] * row[1] * row[2] // merge**2
    joined = {length: torch.cat(parts) for length, parts in found.items()}
    sizes = [(len(tokens) * merge**2 // length, length) for length, tokens in joined.items()]
    return torch.cat(list(joined.values())), Runs(sizes)


@lru_cache(maxsize=1024)
def _windows_of(row: Grid, sides: tuple[int, int, int]) -> dict[int, Tensor]:
    """An image's tokens by the length of their windows in patches; those of a window together."""
    tokens, ends = get_vision_window_index(torch.tensor([row]), *sides)
    lengths = ends.diff().tolist()
    parts = tokens.split([length // sides[0] ** 2 for length in lengths])
    pairs = list(zip(lengths, parts, strict=True))
    return {size: torch.cat([part for length, part in pairs if length == size]) for size in set(lengths)}


@lru_cache(maxsize=1024)
def _positions(row: Grid, merge: int) -> Tensor:
    """(patches, 2) of one image."""
    positions: Tensor = get_vision_position_ids(torch.tensor([row]), merge)
    return positions


def _ragged(tower: Any, grid: Tensor, device: torch.device) -> dict[str, Any]:
    """What the tower takes for attention that reads lengths on the device: flash_attention_2."""
    merge, ends = tower.spatial_merge_size, get_vision_cu_seqlens(grid)
    given: dict[str, Any] = {"position_ids": send(get_vision_position_ids(grid, merge), device)}
    given |= {"cu_seqlens": send(ends, device), "max_seqlen": int(ends.diff().max())}
    if not hasattr(tower, "window_size"):
        return given
    order, ends = get_vision_window_index(grid, merge, tower.window_size, tower.patch_size)
    given |= {"window_index": send(order, device), "cu_window_seqlens": send(ends, device)}
    return given | {"max_window_seqlen": int(ends.diff().max())}
