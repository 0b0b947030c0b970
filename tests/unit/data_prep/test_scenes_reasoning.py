"""Scenes of several steps: steps and gold answers are worked out again from the objects' cells and boxes."""

import json
import re
from collections import Counter
from itertools import islice

import pytest

from gpg_vl.data_prep._scene_drawing import CELL
from gpg_vl.data_prep._scene_stream import SPLITS, split_of
from gpg_vl.data_prep.scenes_reasoning import TASKS, scenes_reasoning
from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import letter, question_text


def take(count, split="train", seed=0):
    return list(islice(scenes_reasoning("", split=split, seed=seed), count))


def counts(sample):
    colours = Counter(thing["colour"] for thing in sample.meta["objects"])
    return colours["red"], colours["blue"]


def compare(sample):
    red, blue = counts(sample)
    answer = "red" if red > blue else "blue" if blue > red else "equal"
    verdict = "equal" if answer == "equal" else f"more {answer}"
    return answer, f"red {red}, blue {blue}, {verdict}"


def follow(sample):
    at = {tuple(thing["cell"]): thing["colour"] for thing in sample.meta["objects"]}
    leads = {at[row, 0]: at[row, 2] for row in range(3)}
    path = [sample.question.split()[-1].removesuffix("?")]
    while len(path) <= 4:
        path.append(leads[path[-1]])
    return path[-1], " ".join(path)


def side(thing):
    left, top, right, bottom = thing["box"]
    return max(right - left, bottom - top)


def neighbour(sample):
    things = sorted(sample.meta["objects"], key=side)
    row, column = (largest := things[-1])["cell"]
    assert side(largest) >= 1.6 * side(things[-2])  # nobody doubts which one it is
    (beside,) = [thing for thing in things if thing["cell"] == [row, column - 1]]
    assert Counter(thing["colour"] for thing in things).most_common(1)[0][1] == 1
    return beside["colour"], f"largest {largest['colour']}, left of it {beside['colour']}"


SOLVERS = {"reasoning/Compare": compare, "reasoning/Follow": follow, "reasoning/Neighbour": neighbour}


@pytest.mark.parametrize("split", SPLITS)
def test_steps_and_gold_answers_follow_from_the_objects(split):
    for sample in take(900, split):
        answer, steps = SOLVERS[sample.task](sample)
        assert sample.answer == letter(sample.choices.index(answer)), sample.meta
        assert sample.reasoning == steps


def test_answers_are_exactly_balanced_in_each_task():
    samples = take(30 * len(TASKS))
    for task in TASKS:
        answers = Counter(s.answer for s in samples if s.task == task)
        assert len(answers) == TASKS[task].variants
        assert set(answers.values()) == {30 // TASKS[task].variants}


def test_one_step_alone_does_not_say_the_answer():
    """Whatever the first step finds, several answers remain."""
    answers = {}
    for sample in take(1500):
        first = re.match(r"\w+ \w+", sample.reasoning)[0]  # "red 2", "largest green", "red blue"
        answers.setdefault((sample.task, first), set()).add(sample.answer)
    assert min(map(len, answers.values())) >= 2 and len(answers) == 3 + 5 + 5 * 4


def test_streams_repeat_and_differ_by_seed():
    first, again, other = take(30), take(30), take(30, seed=1)
    assert [(s.meta, s.reasoning) for s in first] == [(s.meta, s.reasoning) for s in again]
    assert [s.images[0].tobytes() for s in first] == [s.images[0].tobytes() for s in again]
    assert [s.meta for s in first] != [s.meta for s in other]
    assert [s.task for s in first[: len(TASKS)]] == list(TASKS)
    assert first[4].id == "scenes_reasoning-train-0-4"


def test_splits_share_no_configuration():
    found = {split: [s.meta["configuration"] for s in take(900, split)] for split in SPLITS}
    for split, configurations in found.items():
        assert {split_of(c) for c in configurations} == {split}
    assert len(set(found["test"])) == 900


def test_objects_stay_in_cells_of_their_own():
    for sample in take(300):
        things = sample.meta["objects"]
        assert len({tuple(thing["cell"]) for thing in things}) == len(things)
        for thing in things:
            (row, column), (left, top, right, bottom) = thing["cell"], thing["box"]
            assert column * CELL <= left < right <= (column + 1) * CELL
            assert row * CELL <= top < bottom <= (row + 1) * CELL


def test_prompts_are_short_and_metadata_survives_json():
    for sample in take(90):
        assert len(question_text(sample).split()) <= 35
        assert json.loads(json.dumps(sample.meta)) == sample.meta


def test_an_unknown_split_names_the_three():
    with pytest.raises(
        ConfigurationError, match=r"split of scenes_reasoning 'tests'.*test, train, validation"
    ):
        scenes_reasoning("", split="tests")
