"""A few of a step's groups as a table: what was asked and shown, what was answered, and what it was worth."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from PIL import Image
from torch import Tensor

from gpg_vl.algorithm.collect import Collection, Group
from gpg_vl.prompting.prompts import question_text
from gpg_vl.training.records import rollout_rows
from gpg_vl.types import Sample

SHOWN = 4
"""Groups of a step."""
_COLUMNS = ("task", "prompt_id", "question", "gold", "text", "answer", "reward", "advantage", "valid")
"""Beside these, each reward has a column of its own."""


@dataclass(frozen=True)
class ShownGroup:
    """One group of a table."""

    image: Image.Image | None
    """Its images side by side; None for text."""
    rows: list[dict[str, Any]]
    """One an answer, with the same columns in all groups of a step: numbers, texts and None."""


def group_table(
    collection: Collection, advantages: Tensor, sample_of: Callable[[Group], Sample]
) -> list[ShownGroup]:
    """The first valid groups of a step, filled up with invalid ones.

    advantages: (B, G). `sample_of` gives a group's question with its images, which a group of another process
    comes without.
    """
    chosen = sorted(range(len(collection.groups)), key=lambda b: not collection.groups[b].valid)[:SHOWN]
    kept = Collection(tuple(collection.groups[b] for b in chosen), collection.rounds)
    names = sorted({name for group in kept.groups for name in group.scores.by_reward})
    samples = [sample_of(group) for group in kept.groups]
    rows = rollout_rows(kept, advantages[chosen])
    return [
        ShownGroup(_picture(samples[b]), [_shown(row, samples[b], names) for row in answers])
        for b, answers in groupby(rows, key=lambda row: int(row["group"]))
    ]


def _shown(row: dict[str, Any], sample: Sample, names: Sequence[str]) -> dict[str, Any]:
    rewards = json.loads(row["rewards"])
    row = row | {"question": question_text(sample)}
    return {name: row[name] for name in _COLUMNS} | {f"reward/{name}": rewards.get(name) for name in names}


def _picture(sample: Sample) -> Image.Image | None:
    if not sample.images:
        return None
    from gpg_vl.data.contact_sheet import gallery  # draws with matplotlib's fonts, an import of a second

    return gallery(sample)
