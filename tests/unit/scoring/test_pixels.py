"""Images of samples in worker processes: pixels for rewards that read them, the size for the others."""

import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.registry import rewards
from gpg_vl.scoring.pixels import SizeOnly, share, without_pixels
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Sample

REWARDS = """
import os
from gpg_vl.registry import reward

def red(image):
    return image.getpixel((0, 0))[0]

@reward
def per_answer(completion, sample):
    return sum(map(red, sample.images)) + int(completion.text)

@reward
def batch(completions, images, **columns):
    return [float(sum(map(red, own))) + int(text) for own, text in zip(images, completions)]

@reward(images=False)
def area(completion, sample):
    return sum(image.width * image.height for image in sample.images)

@reward(images=False)
def looks_anyway(completion, sample):
    return red(sample.images[0])

@reward
def same_object(completion, sample):
    return id(sample.images[0])

@reward
def dies_once(completion, sample):
    try:
        open(completion.text, "x").close()
    except FileExistsError:
        return red(sample.images[0])
    os._exit(3)
"""
IN_WORKERS = ({"deadline": 60}, {"workers": 2})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "looks.py"
    path.write_text(REWARDS)
    return path


def question(*reds: int, side: int = 8) -> Sample:
    images = tuple(Image.new("RGB", (side, side), (red, 0, 0)) for red in reds)
    return Sample("sample-7", "t", "Which?", "(A)", "choice", images=images)


def group(*texts):
    return [parse_completion(text, think_opened=False, token_count=1, finish_reason="eos") for text in texts]


def temporary_files() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("gpg_vl_images_*"))


@pytest.mark.parametrize("entry", IN_WORKERS)
@pytest.mark.parametrize("name", ["per_answer", "batch"])
def test_workers_read_the_pixels_of_each_groups_own_images(file, name, entry):
    """More groups than a worker keeps images of, answered side by side."""
    groups = [(question(*reds), group("1", "2", "3")) for reds in ((200,), (5, 7), (90,), ())]
    scored = Scorer({f"{file}:{name}": entry}).score_groups(groups)
    assert [one.total for one in scored] == [(201, 202, 203), (13, 14, 15), (91, 92, 93), (1, 2, 3)]


def test_a_worker_reads_a_groups_images_once(file):
    scores = Scorer({f"{file}:same_object": {"workers": 1}}).score(question(1), group(*"12345"))
    assert len(set(scores.total)) == 1


def test_who_does_not_look_gets_the_size_and_is_told_where_it_looks(file):
    scored = Scorer({f"{file}:area": {"workers": 1}}).score(question(1, 2), group("1", "2"))
    assert scored.total == (128.0, 128.0)
    with pytest.raises(
        ConfigurationError, match=r"looks_anyway': it reads an image's pixels, .*images=False"
    ):
        Scorer({f"{file}:looks_anyway": {"workers": 1}}).score(question(1), group("1"))
    assert Scorer({f"{file}:looks_anyway": 1.0}).score(question(1), group("1")).total == (1.0,)


def test_a_worker_that_dies_is_replaced_by_one_that_has_the_images(file, tmp_path):
    scores = Scorer({f"{file}:dies_once": {"workers": 1}}).score(question(77), group(str(tmp_path / "died")))
    assert scores.total == (77.0,)


def test_files_of_images_are_gone_once_their_group_is_scored(file, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scorer = Scorer({f"{file}:per_answer": {"workers": 1}, f"{file}:area": {"workers": 1}})
    begun = scorer.begin([(question(1), group("1")), (question(2), group("1"))])
    assert len(temporary_files()) == 2  # none for `area`
    begun.finish()
    assert temporary_files() == []
    begun = scorer.begin([(question(1), group("1"))])
    begun.cancel()
    assert temporary_files() == []


def test_a_file_of_images_is_gone_with_what_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shared = share(question(1).images)
    del shared
    assert temporary_files() == []


def test_images_keep_size_and_mode_without_pixels():
    images = (Image.new("L", (30, 20)), Image.new("RGB", (5, 4)))
    sent = pickle.dumps(without_pixels(replace(question(), images=images)))
    kept = pickle.loads(sent).images
    assert [(one.size, one.width, one.height, one.mode) for one in kept] == [
        ((30, 20), 30, 20, "L"),
        ((5, 4), 5, 4, "RGB"),
    ]
    assert all(isinstance(one, Image.Image) for one in kept) and len(sent) < 1000


@pytest.mark.parametrize(
    "read",
    [
        lambda image: image.getpixel((0, 0)),
        lambda image: image.convert("L"),
        lambda image: image.resize((2, 2)),
        lambda image: image.crop((0, 0, 1, 1)),
        lambda image: image.save(os.devnull, "PNG"),
        np.asarray,
    ],
)
def test_no_way_to_read_pixels_that_are_not_there_gives_some(read):
    with pytest.raises(ConfigurationError, match="images=False: leave that out"):
        read(SizeOnly((4, 4), "RGB"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_images_of_every_mode_arrive_as_they_were(mode):
    image = Image.new(mode, (7, 5))
    image.putpixel((3, 2), 1)
    [arrived] = share((image,)).read()
    assert arrived == image and arrived is not image


def test_of_the_built_in_rewards_the_judge_alone_gets_pixels_and_anybody_elses_does(file):
    announced = rewards.announced().items()
    built_in = [name for name, [point] in announced if point.value.startswith("gpg_vl.rewards.")]
    assert [name for name in built_in if rewards.get(name).images] == ["judge"]
    assert rewards.get(f"{file}:batch").images


def test_the_overlap_with_a_mask_needs_the_size_alone():
    image = Image.new("RGB", (4, 2))
    meta = {"polygons": [[[0, 0], [2, 0], [2, 2], [0, 2]]]}
    sample = Sample("1", "t", "Where?", "", "boxes", images=(image,), meta=meta)
    answer = replace(*group("x"), boxes=((0, 0, 4, 2),))
    scores = Scorer({"mask_iou": {"workers": 1}}).score(sample, [answer])
    assert scores.total == (0.5,)
