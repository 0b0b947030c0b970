r"""How right the steps are that answers to questions of several steps write down, by task.

python docs/examples/steps_right.py runs/quickstart/reasoning/with/gpg/eval/step_000300.json \
    runs/quickstart/reasoning/data/held_out

Of answers without steps the last column still says something: whether they are one of the words that the
right steps go through.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from typing import Any

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.prompting.prompts import letter
from gpg_vl.tables import markdown_table

WORD = re.compile(r"\w+")


def steps_right(items: list[dict[str, Any]], reasoning: dict[str, str]) -> str:
    """A table of shares; of the wrong steps, which word is the first wrong one, and how often."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    wrong: dict[str, Counter[int]] = defaultdict(Counter)
    for item in items:
        task, right = item["task"], WORD.findall(reasoning[item["id"]])
        thought, closed, _ = item["output"].partition("</think>")
        own = WORD.findall(thought.removeprefix("<think>")) if closed else []
        said = {letter(place): choice for place, choice in enumerate(item["choices"])}.get(item["answer"])
        places = (place for place, word in enumerate(right) if own[place : place + 1] != [word])
        if (first := next(places, None)) is not None:
            wrong[task][first + 1] += 1
        found[task].update(
            {"all": 1, "right": own == right, "last": own[-1:] == [said], "passed": said in right}
        )
    rows = []
    for task, counts in sorted(found.items()):
        shares = [f"{100 * counts[name] / counts['all']:.1f}" for name in ("right", "last", "passed")]
        first = ", ".join(f"{place}: {count}" for place, count in sorted(wrong[task].items()))
        rows.append([task, str(counts["all"]), *shares, first])
    header = [
        "task",
        "questions",
        "steps right",
        "answer is the last word",
        "answer is one of the right words",
    ]
    return markdown_table([*header, "first wrong word"], rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluation", help="file of a run's eval/")
    parser.add_argument("data", help="the set that it asked")
    given = parser.parse_args()
    with open(given.evaluation) as file:
        items = json.load(file)["items"]
    data = PreparedDataset.open([given.data])
    print(steps_right(items, dict(zip(data.column("id"), data.column("reasoning"), strict=True))))
