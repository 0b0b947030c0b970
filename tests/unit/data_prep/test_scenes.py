"""Synthetic scenes: every gold answer is worked out again from the objects' boxes."""

import json
import math
from collections import Counter
from itertools import islice, pairwise

import pytest

from gpg_vl.data_prep import _scene_stream as module
from gpg_vl.data_prep._scene_drawing import CELL, SIDE
from gpg_vl.data_prep._scene_stream import SPLITS, scene_stream, split_of
from gpg_vl.data_prep.scenes import TASKS, scenes
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.prompting.prompts import letter, question_text


def take(count, split="train", seed=0):
    return list(islice(scenes("", split=split, seed=seed), count))


def centre(thing):
    left, top, right, bottom = thing["box"]
    return (left + right) / 2, (top + bottom) / 2


def by_colour(sample):
    return {thing["colour"]: thing for thing in sample.meta["objects"]}


def count(sample):
    colour = sample.question.split()[2]
    return str(sum(thing["colour"] == colour for thing in sample.meta["objects"]))


def relation(sample):
    things = by_colour(sample)
    (red_x, red_y), (blue_x, blue_y) = centre(things["red"]), centre(things["blue"])
    if sample.choices == ("left", "right"):
        return "left" if red_x < blue_x else "right"
    return "above" if red_y < blue_y else "below"


def depth(sample):
    """The nearer object stands lower in the image; `larger` below says that it is larger too."""
    things = by_colour(sample)
    return max(("red", "blue"), key=lambda colour: things[colour]["box"][3])


def larger(sample):
    things = by_colour(sample)
    sizes = {c: things[c]["box"][2] - things[c]["box"][0] for c in ("red", "blue")}
    return max(sizes, key=sizes.__getitem__)


def distance(sample):
    things = by_colour(sample)
    star = centre(things["green"])
    assert things["green"]["shape"] == "star"
    return min(("red", "blue"), key=lambda colour: math.dist(star, centre(things[colour])))


SOLVERS = {
    "scenes/Count": count,
    "scenes/Relation": relation,
    "scenes/Depth": depth,
    "scenes/Distance": distance,
}


@pytest.mark.parametrize("split", SPLITS)
def test_gold_answers_follow_from_the_boxes(split):
    for sample in take(1200, split):
        answer = SOLVERS[sample.task](sample)
        assert sample.answer == letter(sample.choices.index(answer)), sample.meta
        if sample.task == "scenes/Depth":
            assert larger(sample) == answer


def test_the_questions_attribute_names_one_object():
    for sample in take(1200):
        colours = Counter(thing["colour"] for thing in sample.meta["objects"])
        if sample.task != "scenes/Count":
            assert colours["red"] == colours["blue"] == 1
            assert colours["green"] == (sample.task == "scenes/Distance")


def test_answers_are_exactly_balanced_in_each_task():
    samples = take(4 * 40)
    for task in TASKS:
        answers = Counter((s.choices, s.answer) for s in samples if s.task == task)
        assert len(answers) == TASKS[task].variants
        assert set(answers.values()) == {40 // TASKS[task].variants}


def test_no_fixed_order_of_answers():
    answers = [s.answer for s in take(400) if s.task == "scenes/Depth"]
    assert {"(A)(A)", "(A)(B)", "(B)(A)", "(B)(B)"} == {a + b for a, b in pairwise(answers)}


def test_streams_repeat_and_differ_by_seed_and_split():
    first, again, other = take(40), take(40), take(40, seed=1)
    assert [s.meta for s in first] == [s.meta for s in again]
    assert [s.images[0].tobytes() for s in first] == [s.images[0].tobytes() for s in again]
    assert [s.meta for s in first] != [s.meta for s in other]


def test_streams_are_independent_of_each_other():
    test, train = scenes("", split="test"), scenes("")
    mixed = [sample.meta for _ in range(20) for sample in (next(test), next(train))]
    assert mixed[::2] == [s.meta for s in take(20, "test")]
    assert mixed[1::2] == [s.meta for s in take(20)]


def test_splits_share_no_configuration():
    found = {
        split: [s.meta["configuration"] for seed in (0, 1) for s in take(1500, split, seed)]
        for split in SPLITS
    }
    for split, configurations in found.items():
        assert {split_of(c) for c in configurations} == {split}
    for split in ("validation", "test"):
        assert len(set(found[split][:1500])) == 1500
    assert not set(found["train"]) & set(found["validation"] + found["test"])
    assert not set(found["validation"]) & set(found["test"])


def test_equal_configurations_have_equal_objects_and_answers():
    facts = {}
    for sample in take(6000):
        things = [(t["shape"], t["colour"], t["cell"], t["level"]) for t in sample.meta["objects"]]
        fact = (sample.question, sample.choices, sample.answer, sorted(map(str, things)))
        assert facts.setdefault(sample.meta["configuration"], fact) == fact


def test_the_hash_of_a_configuration_never_changes():
    letters = "".join(split_of(f"scene {i}")[:2] for i in range(8))
    assert letters == "trtetrtetrtrtrtr"
    shares = Counter(split_of(str(i)) for i in range(10_000))
    for split, percent in SPLITS.items():
        assert shares[split] == pytest.approx(100 * percent, abs=150)


def test_images_are_rgb_of_three_by_three_cells():
    for sample in take(40):
        (image,) = sample.images
        assert (image.mode, image.size, SIDE) == ("RGB", (84, 84), 84)


def test_each_object_stays_in_its_own_cell():
    for sample in take(800):
        cells = [tuple(thing["cell"]) for thing in sample.meta["objects"]]
        assert len(set(cells)) == len(cells)
        for thing in sample.meta["objects"]:
            (row, column), (left, top, right, bottom) = thing["cell"], thing["box"]
            assert column * CELL <= left < right <= (column + 1) * CELL
            assert row * CELL <= top < bottom <= (row + 1) * CELL


def test_strong_colour_is_drawn_in_the_objects_boxes_and_nowhere_else():
    for sample in take(80):
        saturation = sample.images[0].convert("HSV").getchannel("S")
        for thing in sample.meta["objects"]:
            left, top, right, bottom = thing["box"]
            assert saturation.getpixel(((left + right) // 2, (top + bottom) // 2)) > 80
            saturation.paste(0, (left - 1, top - 1, right + 1, bottom + 1))
        assert saturation.getextrema()[1] < 60


def test_ids_are_unique_and_metadata_survives_json():
    samples = take(40, "validation", 3)
    assert [s.id for s in samples] == [f"scenes-validation-3-{i}" for i in range(40)]
    assert [s.task for s in samples[:4]] == list(TASKS)
    assert all(json.loads(json.dumps(s.meta)) == s.meta for s in samples)


def test_prompts_are_short_and_their_vocabulary_is_small():
    texts = [question_text(s).split() for s in take(400)]
    assert max(map(len, texts)) <= 30
    assert len({word for words in texts for word in words}) <= 60


def test_an_unknown_split_names_the_three():
    with pytest.raises(ConfigurationError, match=r"'tests'.*test, train, validation.*'test'"):
        scenes("", split="tests")


def test_an_exhausted_split_ends_with_an_error(monkeypatch):
    only = module.Scene("scenes/Only", "?", ("1",), 0, (module.Thing((1, 1), "red", "circle"),))
    monkeypatch.setattr(module, "ATTEMPTS", 50)
    monkeypatch.setattr(module, "split_of", lambda configuration: "test")
    stream = scene_stream("scenes", {only.task: module.Task(lambda rng, variant: only, 1)}, "test", 0)
    assert next(stream).answer == "(A)"
    with pytest.raises(DataError, match="no new configuration of scenes/Only"):
        next(stream)
