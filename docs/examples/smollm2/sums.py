"""Sums and differences of two numbers of two digits, as rows of `problem` and `answer`.

python docs/examples/smollm2/sums.py   # writes sums_test.jsonl, sums_sft.jsonl and sums_train.jsonl

No problem occurs twice, and no sum of the test part is in another part the other way round.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Problem: TypeAlias = tuple[int, str, int]
DRAWN = {"test": 500, "sft": 2000, "train": 6000}


def draw(rng: random.Random, count: int, seen: set[Problem]) -> list[Problem]:
    """`count` problems that are not among `seen`, and now are; no difference is negative."""
    drawn: list[Problem] = []
    while len(drawn) < count:
        first, second = rng.randrange(10, 100), rng.randrange(10, 100)
        sign = rng.choice("+-")
        if sign == "-":
            first, second = max(first, second), min(first, second)
        problem = (first, sign, second)
        if problem not in seen:
            seen.add(problem)
            drawn.append(problem)
    return drawn


def write(part: str, problems: Sequence[Problem]) -> None:
    rows = []
    for first, sign, second in problems:
        result = first + second if sign == "+" else first - second
        rows.append({"problem": f"What is {first} {sign} {second}?", "answer": str(result)})
    Path(f"sums_{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} rows in sums_{part}.jsonl")


if __name__ == "__main__":
    rng, seen = random.Random(0), set[Problem]()
    parts = {part: draw(rng, count, seen) for part, count in DRAWN.items()}
    taught = {*parts["sft"], *parts["train"]}
    parts["test"] = [
        (a, sign, b) for a, sign, b in parts["test"] if sign == "-" or (b, sign, a) not in taught
    ]
    for part, problems in parts.items():
        write(part, problems)
