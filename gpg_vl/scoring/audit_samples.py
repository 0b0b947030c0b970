"""Samples to audit rewards with: a user's own, or built-in ones of every answer type."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from gpg_vl.types import AnswerType, Sample

_SIZE = (640, 480)

_CHOICES: Sequence[tuple[str, str, tuple[str, ...]]] = [
    ("Is the ball left of the cube?", "(B)", ("yes", "no")),
    ("What colour is the car?", "(A)", ("red", "dark red", "blue")),
    ("What colour is the door?", "(B)", ("red", "dark red", "blue")),
    ("How many chairs are there?", "(C)", ("1", "10", "2", "12")),
    ("Which letter is painted on the door?", "(I)", tuple("KLMNPQRSTU")),
    ("Which is closest to the camera?", "(E)", ("lamp", "table lamp", "sofa", "shelf", "desk", "plant")),
]
_FREE: Sequence[tuple[AnswerType, str, str]] = [
    ("number", "How many apples are on the table?", "12"),
    ("number", "What is the angle ABC?", "65°"),
    ("number", "How long is AB?", "3.5 cm"),
    ("number", "How many people live here?", "1,250"),
    ("math", "What is 3 divided by 4?", r"\frac{3}{4}"),
    ("math", "How long is the diagonal of a square of side 2?", r"2\sqrt{2}"),
    ("math", "Expand (x+1)^2.", "x^2+2x+1"),
    ("label", "Which aircraft is this?", "Boeing 737-800"),
    ("label", "Which flower is this?", "english marigold"),
]
_BOXES: Sequence[tuple[str, list[list[float]], Mapping[str, Any]]] = [
    ("Where is the dog?", [[100, 120, 300, 360]], {}),
    ("Where is the sky?", [[0, 0, 640, 200]], {}),
    ("Where are the birds?", [[10, 20, 60, 70], [200, 40, 260, 90], [500, 300, 620, 440]], {}),
    (
        "Where is the kite?",
        [[200, 100, 400, 300]],
        {"size": list(_SIZE), "polygons": [[[300, 100], [400, 200], [300, 300], [200, 200]]]},
    ),
]


def built_in_samples() -> list[Sample]:
    """One or more samples per answer type; boxes in pixels of a plain image of 640×480."""
    image = Image.new("RGB", _SIZE)
    choices = [Sample("", "", question, gold, "choice", texts) for question, gold, texts in _CHOICES]
    free = [Sample("", "", question, gold, answer_type) for answer_type, question, gold in _FREE]
    boxes = [
        Sample("", "", question, json.dumps(gold), "boxes", images=(image,), meta=meta)
        for question, gold, meta in _BOXES
    ]
    return [
        replace(sample, id=f"built-in-{number}", task=f"built_in/{sample.answer_type}")
        for number, sample in enumerate([*choices, *free, *boxes], 1)
    ]


def prepared_samples(folders: Sequence[str], per_task: int) -> list[Sample]:
    """The first rows of each task in prepared folders. Raises DataError if a folder is none."""
    from gpg_vl.data.prepared import PreparedDataset  # heavy, and the built-in samples do without it

    data = PreparedDataset.open(folders)
    seen: Counter[str] = Counter()
    kept = []
    for number, task in enumerate(data.column("task")):
        seen[task] += 1
        if seen[task] <= per_task:
            kept.append(number)
    return [data[number] for number in kept]
