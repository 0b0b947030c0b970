"""Seconds that rewards take for a step's answers.

python -m benchmarks.grading
"""

import json
import time
from collections.abc import Callable

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.registry import rewards
from gpg_vl.types import Completion, Sample

_COLOURS = ("red", "dark red", "blue", "green")
_CHOSEN = ("(B)", "dark red", "It is dark red {i}", "(A) or (B)", "a blue {i}, I think", "B", "", "red {i}")
_THOUGHT = "so " * 200
# Ordinary golds and predictions of mathematics; {i} makes each pair another, so that nothing is remembered.
_PAIRS = (
    (r"{i}", r"{i}"),
    (r"{i}", r"{i}.0"),
    (r"\frac{{{i}}}{{7}}", r"{i}/7"),
    (r"\frac{{{i}}}{{7}}", r"\frac{{{i}}}{{8}}"),
    (r"{i}\sqrt{{3}}", r"\sqrt{{3}} \cdot {i}"),
    (r"x^2+{i}x", r"x(x+{i})"),
    (r"({i}, 2)", r"({i},2)"),
    (r"{i}\pi", r"{i}\pi \text{{ cm}}"),
    (r"x={i}", r"{i}"),
    (r"{i}, -{i}", r"-{i}, {i}"),
)


def _completion(text: str) -> Completion:
    return parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")


def _median(work: Callable[[], None], repeats: int = 5) -> float:
    """Median seconds of process time, after a first call that is not counted: it imports."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return sorted(seconds[1:])[repeats // 2]


def choices(first: int) -> None:
    """4,096 completions with format and choice: 512 new questions by 8 answers."""
    graders = [rewards.get(name).function for name in ("format", "choice")]
    for i in range(first, first + 512):
        sample = Sample(str(i), "colours", "Which?", "(B)", "choice", tuple(f"{one} {i}" for one in _COLOURS))
        for text in _CHOSEN:
            answer = _completion(f"<think>{_THOUGHT}</think><answer>{text.format(i=i)}</answer>")
            for grade in graders:
                grade(answer, sample)


def mathematics(first: int) -> None:
    """1,000 ordinary pairs with math, in this process."""
    grade = rewards.get("math").function
    for i in range(first, first + 100):
        for gold, prediction in _PAIRS:
            sample = Sample(str(i), "math", "Solve.", gold.format(i=i), "math")
            grade(_completion(rf"\boxed{{{prediction.format(i=i)}}}"), sample)


def main() -> None:
    """Measure and print."""
    questions, starts = iter(range(0, 10_000, 512)), iter(range(2, 10_000, 100))
    figures = {
        "format_and_choice_4096_seconds": _median(lambda: choices(next(questions))),
        "math_1000_seconds": _median(lambda: mathematics(next(starts))),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
