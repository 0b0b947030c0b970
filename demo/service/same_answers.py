"""Which answers are the same: as the benchmark's grader would say with one of them for the gold answer."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.grading import parsed_answer, right_scores, to_grade
from gpg_vl.prompting.prompts import letter
from gpg_vl.runs.files import RIGHT
from gpg_vl.types import Completion, Sample


def clear_answers(
    sample: Sample, completions: Sequence[Completion], benchmark: Benchmark
) -> list[str | None]:
    """Each answer in words that all answers share which the grader holds equal; None for no answer.

    A choice is its letter and text, "(B) left"; of other answers it is the commonest spelling, the shortest
    of several as common. Needs no gold answer. Two answers are the same if each is right with the other
    as the gold answer, boxes if they overlap by a half. They are compared with the first of each kind, so n
    answers of k kinds take at most n · k comparisons.
    """
    bare = replace(sample, meta={key: value for key, value in sample.meta.items() if key != "alternatives"})
    answers = [to_grade(completion, benchmark) for completion in completions]
    texts = [_text(bare, answer, benchmark) for answer in answers]
    by_text = {text: answer for text, answer in zip(texts, answers, strict=True) if text is not None}
    if sample.answer_type == "choice" and sample.choices:
        words = {text: _choice(bare, answer, benchmark) or text for text, answer in by_text.items()}
    else:
        words = _commonest(_kinds(bare, by_text, benchmark), Counter(texts))
    if sample.answer_type == "boxes":  # as it was written
        words = {text: by_text[said].answer or said for text, said in words.items()}
    return [None if text is None else words[text] for text in texts]


def _text(sample: Sample, answer: Completion, benchmark: Benchmark) -> str | None:
    """The answer as a gold answer would stand in the data; None if there is none."""
    if sample.answer_type == "boxes":
        return json.dumps([list(box) for box in answer.boxes]) if answer.boxes else answer.answer
    return parsed_answer(sample, answer, benchmark)[0]


def _choice(sample: Sample, answer: Completion, benchmark: Benchmark) -> str | None:
    """Letter and text of the choice that an answer names; None if it names none, or several."""
    golds = [replace(sample, answer=letter(place)) for place in range(len(sample.choices))]
    scores = right_scores([(gold, answer) for gold in golds], benchmark)
    named = [place for place, score in enumerate(scores) if _is_right(score)]
    return f"{letter(named[0])} {sample.choices[named[0]]}" if len(named) == 1 else None


def _kinds(sample: Sample, by_text: dict[str, Completion], benchmark: Benchmark) -> list[list[str]]:
    """The texts, those of one answer together."""
    kinds: list[list[str]] = []
    for text in by_text:
        for kind in kinds:
            if _same(sample, (kind[0], by_text[kind[0]]), (text, by_text[text]), benchmark):
                kind.append(text)
                break
        else:
            kinds.append([text])
    return kinds


def _same(
    sample: Sample, first: tuple[str, Completion], second: tuple[str, Completion], benchmark: Benchmark
) -> bool:
    pairs = [
        (replace(sample, answer=gold), answer)
        for gold, answer in ((first[0], second[1]), (second[0], first[1]))
    ]
    return all(map(_is_right, right_scores(pairs, benchmark)))


def _commonest(kinds: Sequence[Sequence[str]], counts: Counter[str | None]) -> dict[str, str]:
    """The clearest text of each text's kind."""
    return {text: min(kind, key=lambda one: (-counts[one], len(one))) for kind in kinds for text in kind}


def _is_right(score: float | None) -> bool:
    return score is not None and score >= RIGHT
