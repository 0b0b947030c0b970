"""Rewards that an audit must fail, each for its own reason, and some that it must not."""

import asyncio
import json
import re
import time

from gpg_vl.registry import reward


def in_text(completion, sample):
    return float(sample.answer in completion.text) if sample.choices else None


def in_answer(completion, sample):
    return float(sample.answer in (completion.answer or "")) if sample.choices else None


def part_of_gold(completion, sample):
    gold = sample.answer.casefold()
    if sample.answer_type not in ("number", "label"):
        return None
    return float((completion.answer or "").casefold() in gold)


def any_digits(completion, sample):
    if sample.answer_type != "number" or not sample.answer.isdigit():
        return None
    text = completion.answer or ""
    return float(text.isdigit() and int(text) > 0)


def without_tags(completion, sample):
    text = completion.text.replace("<answer>", "").replace("</answer>", "")
    return float(text.endswith(sample.answer)) if sample.choices else None


def covered(completion, sample):
    """Share of the gold boxes that lie within some predicted box: recall alone."""
    if sample.answer_type != "boxes":
        return None
    golds = json.loads(sample.answer)
    inside = [any(_within(gold, box) for box in completion.boxes) for gold in golds]
    return sum(inside) / len(golds)


def _within(inner, outer):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def any_number(completion, sample):
    """Whether the gold number stands somewhere in the answer, whatever stands around it."""
    if sample.answer_type != "number" or not sample.answer.isdigit():
        return None
    return float(sample.answer in re.findall("[0-9]+", completion.answer or ""))


def any_letter(completion, sample):
    """Whether the gold letter stands alone somewhere in the answer."""
    if not sample.choices:
        return None
    return float(sample.answer[1] in re.findall(r"\b[A-Z]\b", completion.answer or ""))


def any_no(completion, sample):
    if sample.choices != ("yes", "no"):
        return None
    return float("no" in re.findall("[a-z]+", (completion.answer or "").lower().replace("(b)", "no")))


def not_other(completion, sample):
    """Right unless the answer is another name: a refusal is none."""
    return float("marigold" in (completion.answer or "")) if "marigold" in sample.answer else None


def exact(completion, sample):
    return float(completion.answer == sample.answer)


def always_zero(completion, sample):
    return 0.0


def none_if_empty(completion, sample):
    if not sample.choices:
        return None
    return None if not completion.text else float(completion.answer == sample.answer)


def penalty(completion, sample):
    return -1.0 + (completion.answer == sample.answer) if sample.choices else None


@reward("nan_if_long", kind="shaping")
def nan_if_long(completion, sample):
    return float("nan") if len(completion.text) > 5000 else 1.0


@reward("slow_if_long", kind="shaping")
def slow_if_long(completion, sample):
    time.sleep(0.12 * (completion.text == "x" * 10_000))
    return 1.0


_seen = []


@reward("slow_at_first", kind="shaping")
def slow_at_first(completion, sample):
    time.sleep(0 if _seen else 0.12)
    _seen.append(1)
    return 0.0


def choice_batch(completions, answer, choices, **columns):
    """Right and wrong, each for itself."""
    if not choices[0]:
        return [None] * len(completions)
    found = [re.fullmatch(r"<think>[^<]*</think>\s*<answer>([^<]*)</answer>", text) for text in completions]
    return [float(bool(one) and one[1] == gold) for one, gold in zip(found, answer, strict=True)]


def ranks(completions, answer, choices, **columns):
    """Each answer's share of the group that is no better: alone they all score 1."""
    marks = choice_batch(completions, answer, choices)
    return [None if mark is None else sum(one <= mark for one in marks) / len(marks) for mark in marks]


@reward(relative=True)
def declared_ranks(completions, answer, choices, **columns):
    return ranks(completions, answer, choices)


def first_gets_more(completions, answer, choices, **columns):
    marks = choice_batch(completions, answer, choices)
    return [None if mark is None else mark + 0.25 * (n == 0) for n, mark in enumerate(marks)]


def flickers(completions, answer, choices, **columns):
    marks = choice_batch(completions, answer, choices)
    _seen.append(1)
    return [None if mark is None else mark + 1e-3 * len(_seen) for mark in marks]


def one_only(completions, answer, choices, **columns):
    """Written and tried with a single answer."""
    [mark] = choice_batch(completions, answer, choices)
    return [mark]


def none_if_none(completions, answer, choices, **columns):
    """No score for an answer without tags."""
    marks = choice_batch(completions, answer, choices)
    return [mark if "<answer>" in text else None for mark, text in zip(marks, completions, strict=True)]


@reward(deadline=0.2)
async def late_if_long(completion, sample):
    await asyncio.sleep(60 * (len(completion.text) > 5000))
    return float(completion.answer == sample.answer)


@reward(deadline=0.2)
async def always_late(completion, sample):
    await asyncio.sleep(60)


def divides(completion, sample):
    return 1 / len(completion.text)


@reward("too_much", kind="shaping", bounds=(0, 1))
def too_much(completion, sample):
    return 1e12 if len(completion.text) > 1000 else 1.0
