"""Packed rows as micro-batches: who takes which, and how they are cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpg_vl.model.packing import PackedBatch, Row, Segment, cut
from gpg_vl.runtime.parallel import World


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass takes."""

    rows: tuple[Row, ...]
    """This process's rows; none where only a dummy keeps step with the other processes."""
    packed: PackedBatch
    """On the device."""
    answer_index: Tensor
    """(M,) as in `packed`, on the CPU."""
    last: bool
    """Whether gradients synchronise behind it, where DeepSpeed does that."""

    @property
    def tokens(self) -> int:
        """Targets of `rows`; those of a dummy stand behind them."""
        return sum(row.targets for row in self.rows)

    @property
    def answers(self) -> list[tuple[int, int]]:
        """Index and number of tokens of each answer, in the order of the targets."""
        return [
            (index, len(answer))
            for row in self.rows
            for segment in row.segments
            for index, answer in zip(segment.indices, segment.answers, strict=True)
        ]

    def by_answer(self, values: Tensor) -> dict[int, Tensor]:
        """Those of each answer's tokens, by its index; values: (M,)."""
        lengths = dict(self.answers)
        return dict(zip(lengths, values[: self.tokens].split([*lengths.values()]), strict=True))


def deal(rows: Sequence[Row], world: World) -> list[Row]:
    """This rank's rows, such that all ranks have about the same number of tokens.

    Longest first, always to the rank with the least: the same result on every rank.
    """
    shares: list[list[Row]] = [[] for _ in range(world.size)]
    loads = [0] * world.size
    for row in sorted(rows, key=lambda row: -row.length):
        rank = loads.index(min(loads))
        shares[rank].append(row)
        loads[rank] += row.length
    return shares[world.rank]


def cut_within(rows: Iterable[Row], max_tokens: int) -> list[list[Row]]:
    """Micro-batches of at most `max_tokens` tokens, padding included; only a single answer may be longer."""
    return cut((part for row in rows for part in _split(row, max_tokens)), max_tokens)


def halved(part: Sequence[Row], max_tokens: int) -> int:
    """Half of `max_tokens`, as often as it takes to cut this micro-batch; 0 where nothing cuts it."""
    if len(part) == 1 and len(_single(part[0])) == 1:
        return 0
    size = len(part) * max(row.length for row in part)
    while max_tokens >= size:
        max_tokens //= 2
    return max_tokens


def _split(row: Row, max_tokens: int) -> list[Row]:
    """A row that is too long as several, which repeat the prompt of answers they part."""
    if row.length <= max_tokens:
        return [row]
    rows: list[Row] = []
    for one in _single(row):
        joined = _joined(rows[-1], one) if rows else one
        if rows and joined.length <= max_tokens:
            rows[-1] = joined
        else:
            rows.append(one)
    return rows


def _single(row: Row) -> list[Row]:
    """A row for each answer."""
    return [
        Row((Segment(segment.prompt, (answer,), (index,)),))
        for segment in row.segments
        for answer, index in zip(segment.answers, segment.indices, strict=True)
    ]


def _joined(row: Row, one: Row) -> Row:
    """A row with one more answer, behind the prompt that it shares with the last ones if it does."""
    *before, last = row.segments
    (new,) = one.segments
    if last.prompt is not new.prompt:
        return Row((*row.segments, new))
    return Row((*before, Segment(last.prompt, last.answers + new.answers, last.indices + new.indices)))
