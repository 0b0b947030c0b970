"""Sums and differences of two numbers of two digits, none twice: rows of `problem` and `answer`.

python docs/examples/smollm2/sums.py   # writes sums_test.jsonl, sums_sft.jsonl and sums_train.jsonl
"""

import json
import random
from pathlib import Path

ROWS = {"test": 500, "sft": 2000, "train": 6000}


def sums(rng: random.Random, count: int, seen: set[tuple[int, str, int]]) -> list[dict[str, str]]:
    """`count` rows that are not among `seen`, and now are; differences are never negative."""
    rows = []
    while len(rows) < count:
        first, second = rng.randrange(10, 100), rng.randrange(10, 100)
        sign = rng.choice("+-")
        if sign == "-":
            first, second = max(first, second), min(first, second)
        if (first, sign, second) in seen:
            continue
        seen.add((first, sign, second))
        result = first + second if sign == "+" else first - second
        rows.append({"problem": f"What is {first} {sign} {second}?", "answer": str(result)})
    return rows


if __name__ == "__main__":
    rng, seen = random.Random(0), set[tuple[int, str, int]]()
    for part, count in ROWS.items():
        lines = [json.dumps(row) + "\n" for row in sums(rng, count, seen)]
        Path(f"sums_{part}.jsonl").write_text("".join(lines))
