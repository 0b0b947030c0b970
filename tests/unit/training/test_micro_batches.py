"""Rows cut into micro-batches: nothing is lost, and a cut that must become smaller does."""

from itertools import chain

import pytest
import torch

from gpg_vl.model.packing import Row, Segment
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.training.micro_batches import cut_within, halved


def prompt_of(length: int) -> EncodedPrompt:
    return EncodedPrompt(
        token_ids=torch.arange(length),
        position_ids=torch.arange(length).expand(3, -1),
        image_mask=torch.zeros(length, dtype=torch.bool),
        pixel_values=None,
        grid=torch.zeros(0, 3, dtype=torch.long),
    )


def segment(prompt: EncodedPrompt, first: int, *lengths: int) -> Segment:
    answers = tuple((7,) * length for length in lengths)
    return Segment(prompt, answers, tuple(range(first, first + len(lengths))))


def indices(parts: list[list[Row]]) -> list[list[tuple[int, ...]]]:
    return [[row.indices for row in part] for part in parts]


@pytest.fixture
def packed() -> Row:
    """A prompt of 10 tokens with three answers of 5, and one of 4 with two answers of 3: 22 + 8 tokens."""
    return Row((segment(prompt_of(10), 0, 5, 5, 5), segment(prompt_of(4), 3, 3, 3)))


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (30, [[(0, 1, 2, 3, 4)]]),
        (29, [[(4,)], [(0, 1, 2, 3)]]),  # 6, and 22 + 6 tokens
        (20, [[(0, 1)], [(2, 3)], [(4,)]]),
        (14, [[(3, 4)], [(0,)], [(1,)], [(2,)]]),
        (1, [[(3,)], [(4,)], [(0,)], [(1,)], [(2,)]]),
    ],
)
def test_a_long_row_is_split_between_its_answers(packed: Row, max_tokens: int, expected):
    parts = cut_within([packed], max_tokens)
    assert sorted(map(sorted, indices(parts))) == sorted(map(sorted, expected))
    for row in chain(*parts):
        assert row.length <= max_tokens or len(row.indices) == 1


def test_answers_that_stay_together_share_their_prompt(packed: Row):
    ((first,), (second,), _) = sorted(cut_within([packed], 20), key=lambda part: part[0].indices)
    assert [one.prompt for one in first.segments] == [packed.segments[0].prompt]
    assert first.segments[0].answers == packed.segments[0].answers[:2]
    assert [one.indices for one in second.segments] == [(2,), (3,)]


def test_half_as_many_tokens_cut_what_failed(packed: Row):
    small = Row((segment(prompt_of(4), 0, 3),))  # 6 tokens
    assert halved([packed], 64) == 16
    assert halved([packed], 30) == 15
    assert halved([small, small], 64) == 8
    assert halved([small, small], 12) == 6
    assert halved([small], 64) == 0  # one answer alone
    for limit in (12, 64):
        assert len(cut_within([small, small], halved([small, small], limit))) == 2
