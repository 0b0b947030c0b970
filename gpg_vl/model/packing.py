"""A group as one packed row: the prompt once, the answers behind it.

Each answer attends to the prompt and to itself (a tree mask), and its M-RoPE positions restart after the
prompt, so that the row equals G separate ones. Supervised rows may share a sequence in the same way. An
answer's last token is predicted but never read, so it is left out of the row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.runtime.devices import send
from gpg_vl.types import Packing


@dataclass(frozen=True)
class Segment:
    """A prompt and the answers behind it, as token ids, with each answer's index in the step."""

    prompt: EncodedPrompt
    answers: tuple[tuple[int, ...], ...]
    indices: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.prompt.length + sum(len(answer) - 1 for answer in self.answers)


@dataclass(frozen=True)
class Row:
    """One sequence of the batch: one segment, or several that do not see each other."""

    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        return sum(segment.length for segment in self.segments)

    @property
    def targets(self) -> int:
        """Answer tokens to predict."""
        return sum(len(answer) for segment in self.segments for answer in segment.answers)

    @property
    def indices(self) -> tuple[int, ...]:
        """The answers' indices in the step, in the order of the row."""
        return tuple(index for segment in self.segments for index in segment.indices)


@dataclass(frozen=True)
class Fork:
    """Where the texts of packed rows stand, for layers that carry a state from a prompt to its answers."""

    prompts: Tensor
    """(Q, P) int64 into R·S, padded on the left, where a state is still zero. R·S itself is padding."""
    answers: Tensor
    """(N, T) int64 into R·S, padded on the right; those of a single token are never read."""
    owners: Tensor
    """(N,) int64: the prompt of each answer."""

    @classmethod
    def of(cls, rows: Sequence[Row], size: int) -> "Fork":
        """Of rows that are padded to `size` tokens."""
        prompts, answers, owners = [], [], []
        for r, _, start, segment in _placed(rows):
            end = r * size + start + segment.prompt.length
            prompts.append(torch.arange(r * size + start, end))
            for answer in segment.answers:
                if len(answer) > 1:
                    answers.append(torch.arange(end, end + len(answer) - 1))
                    owners.append(len(prompts) - 1)
                    end += len(answer) - 1
        nothing, longest = len(rows) * size, max(map(len, prompts))
        # one token alone would be taken for a step of decoding, which changes states in place
        most = max([_LEAST_FORKED, *map(len, answers)])
        padded = [pad(one, (0, most - len(one)), value=nothing) for one in answers]
        return cls(
            torch.stack([pad(one, (longest - len(one), 0), value=nothing) for one in prompts]),
            torch.stack(padded) if padded else torch.zeros(0, most, dtype=torch.long),
            torch.tensor(owners, dtype=torch.long),
        )

    def to(self, device: torch.device) -> "Fork":
        return Fork(*(send(tensor, device) for tensor in (self.prompts, self.answers, self.owners)))


_LEAST_FORKED = 2
"""Tokens of the longest answer, padding included."""


@dataclass(frozen=True)
class PackedBatch:
    """R rows as tensors, ready for one forward pass."""

    token_ids: Tensor
    """(R, S) int64, right-padded."""
    position_ids: Tensor
    """(3, R, S) int64."""
    tree: Tensor
    """(4, R, S) int32: each token's segment in its row; its branch there, 0 prompt, 1..G answers; its place
    in its own text, prompt and answer; and its image in the prompt. -1 for padding, and for no image."""
    causal: bool
    """Whether plain causal attention keeps texts apart as well, which has faster kernels: each row is one
    text, and padding is on the right, so that nothing reads it."""
    image_slots: Tensor
    """(image tokens,) int64 into R·S, row by row."""
    image_features: Tensor
    """(image tokens,) int64 into the features of `pixel_values`: rows of one prompt share them."""
    pixel_values: Tensor | None
    """As `EncodedPrompt.pixel_values`, each distinct prompt's images once."""
    grid: Tensor
    """As `EncodedPrompt.grid`; stays on the CPU, where the vision tower's layout is worked out."""
    pixel_mask: Tensor | None
    """As `EncodedPrompt.pixel_mask`."""
    predictors: Tensor
    """(M,) int64 into R·S: the token whose hidden state predicts the target."""
    targets: Tensor
    """(M,) int64: the sampled answer tokens."""
    answer_index: Tensor
    """(M,) int64: which answer of the step each target belongs to; -1 for dummies."""
    fork: Fork | None = None
    """Where the texts stand, if that was asked for and a row has several."""

    def to(self, device: torch.device) -> "PackedBatch":
        moved: dict[str, Any] = {
            name: send(value, device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "grid"
        }
        return replace(self, **moved, fork=self.fork and self.fork.to(device))


def pack(
    prompt: EncodedPrompt,
    answers: Sequence[tuple[int, tuple[int, ...]]],
    *,
    packing: Packing,
    max_tokens: int,
    token_cost: float,
) -> list[Row]:
    """Rows for one group's answers, each with its index in the step and its token ids.

    A group longer than `max_tokens` is split over rows that repeat the prompt. `auto` packs where that
    costs less by `packing_pays`; `token_cost` is the work per token in units of one query-key pair.
    """
    lengths = [len(answer) for _, answer in answers]
    if packing == "none" or (packing == "auto" and not packing_pays(prompt.length, lengths, token_cost)):
        parts = [[one] for one in answers]
    else:
        parts = _split(prompt.length, answers, max_tokens)
    return [
        Row((Segment(prompt, tuple(a for _, a in part), tuple(i for i, _ in part)),))
        for part in parts
        if part
    ]


def _split(
    prompt: int, answers: Sequence[tuple[int, tuple[int, ...]]], max_tokens: int
) -> list[list[tuple[int, tuple[int, ...]]]]:
    """Numbered answers in order, as many together as fit behind one prompt of the given length."""
    parts: list[list[tuple[int, tuple[int, ...]]]] = [[]]
    used = prompt
    for index, answer in answers:
        if parts[-1] and used + len(answer) - 1 > max_tokens:
            parts.append([])
            used = prompt
        parts[-1].append((index, answer))
        used += len(answer) - 1
    return parts


def join(rows: Sequence[Row], max_tokens: int) -> list[Row]:
    """Put several rows into one where they fit `max_tokens`, longest first: supervised packing."""
    joined: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: -row.length):
        place = next((i for i, left in enumerate(room) if row.length <= left), None)
        if place is None:
            joined.append([row])
            room.append(max_tokens - row.length)
        else:
            joined[place].append(row)
            room[place] -= row.length
    return [Row(tuple(segment for row in part for segment in row.segments)) for part in joined]


def packing_pays(prompt: int, answers: Sequence[int], token_cost: float) -> bool:
    """Whether one packed row is cheaper than one row per answer; lengths in tokens.

    A row of S tokens costs S·token_cost for the layers and S² pairs for dense masked attention: a short
    prompt with long answers is cheaper apart.
    """
    apart = [prompt + length - 1 for length in answers]
    packed = prompt + sum(length - 1 for length in answers)
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


def collate(rows: Sequence[Row], multiple: int = 1, *, forked: bool = False) -> PackedBatch:
    """Stack rows into one batch; images of a prompt that several segments repeat are kept once.

    Rows of several answers are padded to a `multiple` of tokens; `forked` says where they stand.
    """
    causal = all(len(row.segments) == 1 and len(row.segments[0].answers) <= 1 for row in rows)
    size = max(row.length for row in rows)
    if not causal:
        size = -(-size // multiple) * multiple
    token_ids = torch.zeros(len(rows), size, dtype=torch.long)
    positions = torch.zeros(3, len(rows), size, dtype=torch.long)
    tree = torch.full((4, len(rows), size), -1, dtype=torch.int32)
    segments, branches, places, images = tree
    predictors: list[int] = []
    targets: list[int] = []
    answer_index: list[int] = []
    for r, number, end, segment in _placed(rows):
        prompt, begin = segment.prompt, end
        end += prompt.length
        token_ids[r, begin:end] = prompt.token_ids
        positions[:, r, begin:end] = prompt.position_ids
        branches[r, begin:end] = 0
        places[r, begin:end] = torch.arange(prompt.length)
        images[r, begin:end] = _numbered(prompt.image_mask)
        last_of_prompt = r * size + end - 1
        for b, (answer, index) in enumerate(zip(segment.answers, segment.indices, strict=True), start=1):
            start, end = end, end + len(answer) - 1
            token_ids[r, start:end] = torch.tensor(answer[:-1], dtype=torch.long)
            positions[:, r, start:end] = prompt.next_position + torch.arange(end - start)
            branches[r, start:end] = b
            places[r, start:end] = prompt.length + torch.arange(end - start)
            predictors += [last_of_prompt, *range(r * size + start, r * size + end)]
            targets += answer
            answer_index += [index] * len(answer)
        segments[r, begin:end] = number
    slots, features = _image_places(rows, size)
    distinct = list({id(s.prompt): s.prompt for row in rows for s in row.segments}.values())
    return PackedBatch(
        token_ids=token_ids,
        position_ids=positions,
        tree=tree,
        causal=causal,
        image_slots=slots,
        image_features=features,
        pixel_values=_joined(prompt.pixel_values for prompt in distinct),
        grid=torch.cat([prompt.grid for prompt in distinct]),
        pixel_mask=_joined(prompt.pixel_mask for prompt in distinct),
        predictors=torch.tensor(predictors, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        answer_index=torch.tensor(answer_index, dtype=torch.long),
        fork=Fork.of(rows, size) if forked and not causal else None,
    )


def _placed(rows: Sequence[Row]) -> Iterator[tuple[int, int, int, Segment]]:
    """Every segment with its row, its number there, and its first position in the row."""
    for r, row in enumerate(rows):
        start = 0
        for number, segment in enumerate(row.segments):
            yield r, number, start, segment
            start += segment.length


def _numbered(image_mask: Tensor) -> Tensor:
    """(P,) bool to the number of the run of image tokens that each is in, from 1 on; -1 elsewhere."""
    starts = image_mask & ~image_mask.roll(1)
    starts[:1] = image_mask[:1]
    return torch.where(image_mask, starts.cumsum(0), -1)


def _image_places(rows: Sequence[Row], size: int) -> tuple[Tensor, Tensor]:
    """Slots of all image tokens, and indices into the features of the distinct prompts' images."""
    first_feature: dict[int, int] = {}
    slots, features = [], []
    count = 0
    for r, _, start, segment in _placed(rows):
        prompt = segment.prompt
        own = prompt.image_mask.nonzero().flatten()
        if id(prompt) not in first_feature:
            first_feature[id(prompt)] = count
            count += len(own)
        slots.append(r * size + start + own)
        features.append(first_feature[id(prompt)] + torch.arange(len(own)))
    return torch.cat(slots), torch.cat(features)


def _joined(parts: Iterable[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None
