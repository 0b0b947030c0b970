"""How many of a run's sampled answers are right, by gold answer and sixth of the run, for each task.

python docs/examples/right_by_answer.py runs/quickstart/gpg scenes/Count

A row that goes to 0.00 is an answer that is never sampled any more: nothing can reward it then.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pyarrow.parquet as pq

from gpg_vl.tables import markdown_table

PARTS = 6


def right_by_answer(run: Path, task: str, reward: str = "choice") -> dict[str, list[float]]:
    """Mean of a reward by gold answer, in `PARTS` parts of the steps whose rollouts are kept."""
    files = sorted((run / "rollouts").glob("step_*.parquet"))
    found: dict[str, list[list[float]]] = defaultdict(lambda: [[] for _ in range(PARTS)])
    tasks = set[str]()
    for place, file in enumerate(files):
        rows = pq.read_table(file, columns=["task", "gold", "rewards"]).to_pylist()
        for row in rows:
            tasks.add(row["task"])
            if row["task"] == task:
                found[row["gold"]][PARTS * place // len(files)].append(json.loads(row["rewards"])[reward])
    if not found:
        raise SystemExit(f"{run} has no rollouts of task {task!r}; of its rollouts: {sorted(tasks)}")
    return {
        gold: [fmean(part) if part else float("nan") for part in parts]
        for gold, parts in sorted(found.items())
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("task")
    given = parser.parse_args()
    shares = right_by_answer(given.run, given.task)
    header = ["gold", *(f"{part + 1}/{PARTS}" for part in range(PARTS))]
    print(markdown_table(header, [[gold, *(f"{one:.2f}" for one in row)] for gold, row in shares.items()]))
