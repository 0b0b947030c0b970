"""A group as one packed row: the prompt once, the answers behind it.

Each answer attends to the prompt and to itself (a tree mask), and its M-RoPE positions restart after the
prompt, so that the row equals G separate ones. An answer's last token is predicted but never read, so it
is left out of the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpg_vl.encode import EncodedPrompt

Packing = Literal["auto", "group", "none"]


@dataclass(frozen=True)
class Row:
    """A prompt and the answers behind it, as token ids, with each answer's index in the step."""

    prompt: EncodedPrompt
    answers: tuple[tuple[int, ...], ...]
    indices: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.prompt.length + sum(len(answer) - 1 for answer in self.answers)


@dataclass(frozen=True)
class PackedBatch:
    """R rows as tensors, ready for one forward pass."""

    token_ids: Tensor
    """(R, S) int64, right-padded."""
    position_ids: Tensor
    """(3, R, S) int64."""
    mask: Tensor
    """(R, 1, S, S) bool: query may read key."""
    image_slots: Tensor
    """(image tokens,) int64 into R·S, row by row."""
    image_features: Tensor
    """(image tokens,) int64 into the features of `pixel_values`: rows of one prompt share them."""
    pixel_values: Tensor | None
    """(patches, patch size), each distinct prompt's images once."""
    grid: Tensor
    """(images, 3) int64."""
    predictors: Tensor
    """(M,) int64 into R·S: the token whose hidden state predicts the target."""
    targets: Tensor
    """(M,) int64: the sampled answer tokens."""
    answer_index: Tensor
    """(M,) int64: which answer of the step each target belongs to."""

    def to(self, device: torch.device) -> "PackedBatch":
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return PackedBatch(**moved)


def pack(
    prompt: EncodedPrompt,
    answers: Sequence[Sequence[int]],
    first_index: int,
    *,
    packing: Packing,
    max_tokens: int,
    token_cost: float,
) -> list[Row]:
    """Rows for one group's answers (token ids), numbered from `first_index`.

    A group longer than `max_tokens` is split over rows that repeat the prompt. `auto` packs where that
    costs less by `packed_cost`; `token_cost` is the work per token in units of one query-key pair.
    """
    numbered = [(first_index + i, tuple(answer)) for i, answer in enumerate(answers)]
    if packing == "none" or (packing == "auto" and not packing_pays(prompt.length, answers, token_cost)):
        return [Row(prompt, (answer,), (index,)) for index, answer in numbered]
    rows: list[list[tuple[int, tuple[int, ...]]]] = [[]]
    used = prompt.length
    for index, answer in numbered:
        if rows[-1] and used + len(answer) - 1 > max_tokens:
            rows.append([])
            used = prompt.length
        rows[-1].append((index, answer))
        used += len(answer) - 1
    return [Row(prompt, tuple(a for _, a in row), tuple(i for i, _ in row)) for row in rows]


def packing_pays(prompt: int, answers: Sequence[Sequence[int]], token_cost: float) -> bool:
    """Whether one packed row is cheaper than one row per answer.

    A row of S tokens costs S·token_cost for the layers and S² pairs for dense masked attention: a short
    prompt with long answers is cheaper apart.
    """
    lengths = [len(answer) - 1 for answer in answers]
    packed = prompt + sum(lengths)
    apart = [prompt + length for length in lengths]
    return packed * token_cost + packed**2 <= sum(s * token_cost + s**2 for s in apart)


def cut(rows: Iterable[Row], max_tokens: int) -> list[list[Row]]:
    """Micro-batches of at most `max_tokens` tokens, padding included; a longer row stands alone.

    Rows are sorted by length first, so that little is padded.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.length):
        if batches and (len(batches[-1]) + 1) * row.length <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def collate(rows: Sequence[Row]) -> PackedBatch:
    """Stack rows into one batch; images of a prompt that several rows repeat are kept once."""
    size = max(row.length for row in rows)
    token_ids = torch.zeros(len(rows), size, dtype=torch.long)
    positions = torch.zeros(3, len(rows), size, dtype=torch.long)
    branch = torch.full((len(rows), size), -1)  # 0 prompt, 1..G answers, -1 padding
    predictors: list[int] = []
    targets: list[int] = []
    answer_index: list[int] = []
    for r, row in enumerate(rows):
        end = row.prompt.length
        token_ids[r, :end] = row.prompt.token_ids
        positions[:, r, :end] = row.prompt.position_ids
        branch[r, :end] = 0
        for b, (answer, index) in enumerate(zip(row.answers, row.indices, strict=True), start=1):
            start, end = end, end + len(answer) - 1
            token_ids[r, start:end] = torch.tensor(answer[:-1], dtype=torch.long)
            positions[:, r, start:end] = row.prompt.next_position + torch.arange(end - start)
            branch[r, start:end] = b
            predictors += [
                r * size + row.prompt.length - 1,
                *range(r * size + start, r * size + end),
            ]
            targets += answer
            answer_index += [index] * len(answer)
    slots, features, pixels, grid = _images(rows, size)
    return PackedBatch(
        token_ids=token_ids,
        position_ids=positions,
        mask=tree_mask(branch),
        image_slots=slots,
        image_features=features,
        pixel_values=pixels,
        grid=grid,
        predictors=torch.tensor(predictors, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        answer_index=torch.tensor(answer_index, dtype=torch.long),
    )


def tree_mask(branch: Tensor) -> Tensor:
    """branch: (R, S), 0 prompt, 1..G answers, -1 padding. Returns (R, 1, S, S) bool.

    A token reads earlier tokens of the prompt and of its own branch. Padding reads padding only: a row
    that reads nothing would be NaN.
    """
    query, key = branch[:, :, None], branch[:, None, :]
    causal = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool).tril()
    allowed = causal & ((key == query) | ((key == 0) & (query > 0)))
    return allowed[:, None]


def _images(rows: Sequence[Row], size: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Slots, feature indices, pixels and grids of the distinct prompts' images."""
    first_feature: dict[int, int] = {}
    slots, features, pixels, grids = [], [], [], []
    count = 0
    for r, row in enumerate(rows):
        prompt = row.prompt
        own = prompt.image_mask.nonzero().flatten()
        if id(prompt) not in first_feature:
            first_feature[id(prompt)] = count
            count += len(own)
            grids.append(prompt.grid)
            if prompt.pixel_values is not None:
                pixels.append(prompt.pixel_values)
        slots.append(r * size + own)
        features.append(first_feature[id(prompt)] + torch.arange(len(own)))
    return (
        torch.cat(slots),
        torch.cat(features),
        torch.cat(pixels) if pixels else None,
        torch.cat(grids),
    )
