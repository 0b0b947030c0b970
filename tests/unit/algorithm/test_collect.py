"""The threshold loop."""

import pytest

from gpg_vl.algorithm.collect import Collection, collect
from gpg_vl.types import Sample
from tests.support.groups import group


def run(valid_per_round: list[int], **options) -> tuple[Collection, list[str]]:
    """Collect over rounds of 4 questions, of which the first n are valid."""
    drawn: list[str] = []

    def draw(count: int) -> list[Sample]:
        names = [f"q{len(drawn) + k}" for k in range(count)]
        drawn.extend(names)
        return [Sample(name, "t", "q", "(A)", "choice") for name in names]

    def sample_groups(samples, round):
        valid = valid_per_round[round]
        return [group(s.id, round, (1.0, 0.0) if i < valid else (1.0, 1.0)) for i, s in enumerate(samples)]

    return collect(draw, sample_groups, questions_per_step=4, **options), drawn


@pytest.mark.parametrize(
    ("valid", "fraction", "rounds"),
    [
        ([4], 1.0, 1),
        ([2], 0.5, 1),
        ([1, 1], 0.5, 2),  # valid groups of all rounds count together
        ([0, 0, 3], 0.5, 3),
        ([1, 0, 0], 0.5, 3),  # the rounds run out with one valid group
        ([0, 0, 0], 0.25, 3),  # and with none
        ([0], 0.0, 1),  # no threshold: one round, whatever it brings
    ],
)
def test_rounds(valid, fraction, rounds):
    collection, drawn = run(valid, min_valid_fraction=fraction, max_rounds=3)
    assert collection.rounds == rounds
    assert len(collection.groups) == len(drawn) == 4 * rounds
    assert len(set(drawn)) == len(drawn)  # further rounds ask new questions
    assert sum(g.valid for g in collection.groups) == sum(valid)
    assert [g.round for g in collection.groups] == [r for r in range(rounds) for _ in range(4)]


def test_threshold_is_rounded_up_but_not_by_floating_point():
    rounds = []
    for valid in (6, 7):

        def sample_groups(samples, round, valid=valid):
            return [group(s.id, 0, (1.0, 0.0) if i < valid else (0.0, 0.0)) for i, s in enumerate(samples)]

        collection = collect(
            lambda n: [Sample(str(i), "t", "q", "(A)", "choice") for i in range(n)],
            sample_groups,
            questions_per_step=10,
            min_valid_fraction=0.7,  # 0.7·10 is 7.000000000000001 in floating point
            max_rounds=2,
        )
        rounds.append(collection.rounds)
    assert rounds == [2, 1]


def test_duplicate_questions_are_different_groups():
    groups = (group("same", 0, (1.0, 0.0)), group("same", 0, (0.0, 1.0)))
    assert Collection(groups, 1).rewards.tolist() == [[1.0, 0.0], [0.0, 1.0]]
