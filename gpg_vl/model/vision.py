"""The vision tower's pass: images of equal size in one attention call, and no wait for the device.

transformers works out positions and lengths on the device, reads the lengths back in every layer, and calls
attention once per image (or window) and layer. Here they are worked out on the CPU from the images' grids,
and so is what a table of position embeddings is interpolated by; patches that read each other stand in runs
of equal length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.vision_utils import (
    get_vision_cu_seqlens,
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
    get_vision_window_index,
)

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


# Lengths are other ones with every batch, and compiled code would depend on them.
ALL_ATTENTION_FUNCTIONS.register(VISION_ATTENTION, torch.compiler.disable(equal_lengths_attention))


@dataclass(frozen=True)
class ImageFeatures:
    """What the vision tower says of images, in their order."""

    tokens: Tensor
    """(image tokens, H)"""
    layers: tuple[Tensor, ...] = ()
    """DeepStack: (image tokens, H) each, from inner layers of the tower, to be added to the images' hidden
    states behind the first text layers; empty for towers without."""


def image_features(model: Any, pixels: Tensor, grid: Tensor) -> ImageFeatures:
    """Features of images, in their order.

    model: transformers' base model; pixels: (patches, patch size); grid: (images, 3) on the CPU.
    """
    tower, device = model.visual, pixels.device
    rows: list[Grid] = [tuple(row) for row in grid.tolist()]
    order = list(range(len(rows)))
    if tower.config._attn_implementation != VISION_ATTENTION:
        given = _places(tower, rows, device) | _ragged(tower, grid, device)
        return _features(model, pixels, grid, given, order)
    by_size = sorted(order, key=lambda image: rows[image][1] * rows[image][2])
    stand = [rows[image] for image in by_size]
    given = _places(tower, stand, device) | _in_runs(tower, stand, device)
    if by_size == order:
        return _features(model, pixels, grid, given, order)
    parts = pixels.split([t * h * w for t, h, w in rows])
    pixels = torch.cat([parts[image] for image in by_size])
    return _features(model, pixels, grid[by_size], given, sorted(order, key=by_size.__getitem__))


def _features(
    model: Any, pixels: Tensor, grid: Tensor, given: dict[str, Any], order: Sequence[int]
) -> ImageFeatures:
    """The tower's features of images, brought into another order."""
    tokens = (grid.prod(-1) // model.visual.spatial_merge_size**2).tolist()

    def arranged(features: Tensor | Sequence[Tensor]) -> Tensor:
        # transformers splits them by image, but those of inner layers only since 5.20
        parts = features.split(tokens) if isinstance(features, Tensor) else features
        return torch.cat([parts[image] for image in order])

    seen = model.get_image_features(pixels, grid, return_dict=True, **given)
    deep = getattr(seen, "deepstack_features", None) or ()
    return ImageFeatures(arranged(seen.pooler_output), tuple(arranged(layer) for layer in deep))


def _places(tower: Any, rows: Sequence[Grid], device: torch.device) -> dict[str, Any]:
    """What the tower takes for where patches are: rotary positions, and those in a table it may have."""
    merge = tower.spatial_merge_size
    given = {"position_ids": send(torch.cat([_positions(row, merge) for row in rows]), device)}
    if not hasattr(tower, "num_grid_per_side"):
        return given
    table = (tower.num_grid_per_side, tower.interpolation_mode, tower.interpolation_align_corners)
    found = [_interpolation(row, merge, table) for row in rows]
    given["interp_indices"] = send(torch.cat([indices for indices, _ in found]), device)
    return given | {"interp_weights": send(torch.cat([weights for _, weights in found]), device)}


def _in_runs(tower: Any, rows: Sequence[Grid], device: torch.device) -> dict[str, Any]:
    """What attention here takes for images sorted by size: to transformers they are one segment."""
    merge = tower.spatial_merge_size
    images = Runs.of([h * w for t, h, w in rows for _ in range(t)])
    one = torch.tensor([0, sum(t * h * w for t, h, w in rows)], dtype=torch.int32)
    if not hasattr(tower, "window_size"):
        return {"cu_seqlens": one, "segments": Segments(images)}
    order, windows = _windows(rows, (merge, tower.window_size, tower.patch_size))
    if len(images.sizes) > 1 or images.sizes[0][0] > 1:  # one image is read in any order
        back = (order[:, None] * merge**2 + torch.arange(merge**2)).flatten()
        images = Runs(images.sizes, send(back.argsort(), device), send(back, device))
    given = {"window_index": send(order, device), "cu_seqlens": one, "cu_window_seqlens": one}
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


@lru_cache(maxsize=1024)
def _interpolation(row: Grid, merge: int, table: tuple[int, str, bool]) -> tuple[Tensor, Tensor]:
    """Entries of a square table that each patch of an image reads, and their weights: (patches, taps) both.

    table: its side, the mode of interpolation, and whether the image's corners are the table's.
    """
    side, mode, corners = table
    indices, weights = get_vision_interpolation_indices_and_weights(
        torch.tensor([row]), side, mode=mode, align_corners=corners, spatial_merge_size=merge
    )
    return indices.int(), weights  # int32: they are kept


def _ragged(tower: Any, grid: Tensor, device: torch.device) -> dict[str, Any]:
    """What attention that reads lengths on the device takes: flash_attention_2."""
    ends = get_vision_cu_seqlens(grid)
    given: dict[str, Any] = {"cu_seqlens": send(ends, device), "max_seqlen": int(ends.diff().max())}
    if not hasattr(tower, "window_size"):
        return given
    sides = (tower.spatial_merge_size, tower.window_size, tower.patch_size)
    order, ends = get_vision_window_index(grid, *sides)
    given |= {"window_index": send(order, device), "cu_window_seqlens": send(ends, device)}
    return given | {"max_window_seqlen": int(ends.diff().max())}
