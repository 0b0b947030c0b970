import json

import pytest
from PIL import Image

from gpg_vl.data_prep.nlvr import nlvr
from gpg_vl.errors import ConfigurationError, DataError, RowError
from gpg_vl.registry import converters

COLOURS = [(10 * k, 0, 0) for k in range(6)]


def item(identifier, sentence="There is a box.", label="true", **extra):
    return {"identifier": identifier, "sentence": sentence, "label": label, "directory": "3", **extra}


def make(root, rows, name="dev", permutations=range(6)):
    """NLVR's layout: dev/dev.json, dev/images/3/dev-IDENTIFIER-K.png."""
    folder = root / name
    images = folder / "images" / "3"
    images.mkdir(parents=True)
    (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for identifier in {row["identifier"] for row in rows}:
        for k in permutations:
            Image.new("RGBA", (4, 2), COLOURS[k]).save(images / f"{name}-{identifier}-{k}.png")
    return folder


def samples(folder, **options):
    return [draft() for draft in nlvr(str(folder), **options)]


def test_an_item_with_a_permutation_is_one_row(tmp_path):
    folder = make(
        tmp_path, [item("12-0", " There is a box. ", "false", permutation=3), item("7-1", permutation=0)]
    )
    first, second = samples(folder)
    assert first.id == "nlvr-dev-12-0-3"
    assert first.task == "nlvr"
    assert first.question == "There is a box. Is this statement true or false?"
    assert first.choices == ("true", "false")
    assert (first.answer, second.answer) == ("(B)", "(A)")
    assert first.answer_type == "choice"
    assert first.meta == {"cluster": "there is a box.", "identifier": "12-0"}
    assert len(first.images) == 1
    assert first.images[0].size == (4, 2)
    assert first.images[0].getpixel((0, 0))[:3] == COLOURS[3]
    assert second.images[0].getpixel((0, 0))[:3] == COLOURS[0]


def test_without_a_permutation_all_images_that_exist_are_taken(tmp_path):
    folder = make(tmp_path, [item("12-0"), item("12-1")], permutations=(0, 2, 5))
    rows = samples(folder)
    assert [row.id for row in rows] == [f"nlvr-dev-12-{n}-{k}" for n in (0, 1) for k in (0, 2, 5)]
    assert [row.images[0].getpixel((0, 0))[:3] for row in rows[:3]] == [COLOURS[k] for k in (0, 2, 5)]


def test_no_statement_is_in_two_splits(tmp_path):
    sentences = [f"There are {n} boxes." for n in range(300)]
    rows = [item(f"{n}-0", sentence, permutation=0) for n, sentence in enumerate(sentences)]
    rows += [item(f"{n}-1", f" {s.upper()}  ", permutation=0) for n, s in enumerate(sentences[:50])]
    folder = str(make(tmp_path, rows, permutations=(0,)))
    parts = {split: samples(folder, split=split) for split in ("train", "validation", "test")}
    ids = [row.id for part in parts.values() for row in part]
    assert sorted(ids) == sorted(row.id for row in samples(folder))
    assert len(ids) == 350
    said = {split: {row.meta["cluster"].casefold() for row in part} for split, part in parts.items()}
    assert not said["train"] & said["test"]
    assert not said["train"] & said["validation"]
    assert not said["validation"] & said["test"]
    # 300 statements: 210, 30 and 60 expected; 3.5 standard deviations are 28, 18 and 24.
    assert [len(said[split]) for split in parts] == pytest.approx([210, 30, 60], abs=28)
    assert [row.id for row in samples(folder, split="train")] == [row.id for row in parts["train"]]
    assert [row.id for row in samples(folder, split="train", seed=1)] != [row.id for row in parts["train"]]


def test_the_converter_is_registered():
    assert converters.get("nlvr").function is nlvr


@pytest.mark.parametrize(
    ("options", "message"),
    [({"split": "dev"}, "unknown split of nlvr 'dev'; known: all, test, train, validation"), ({}, None)],
)
def test_splits_have_names(tmp_path, options, message):
    folder = str(make(tmp_path, [item("1-0", permutation=0)]))
    if message is None:
        assert len(list(nlvr(folder, **options))) == 1
    else:
        with pytest.raises(ConfigurationError, match=message):
            list(nlvr(folder, **options))


def test_a_folder_of_another_layout_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*--source is NLVR's own folder of one split"):
        list(nlvr(str(tmp_path / "nlvr")))
    (tmp_path / "nlvr").mkdir()
    with pytest.raises(DataError, match=r"no nlvr\.json in .*--source is NLVR's own folder of one split"):
        list(nlvr(str(tmp_path / "nlvr")))


@pytest.mark.parametrize(
    ("broken", "reason", "message"),
    [
        ({"permutation": 4}, "missing image", r"dev\.json line 2: no file 'dev-2-0-4\.png'"),
        ({"label": "maybe", "permutation": 0}, "missing field", "line 2 lacks sentence, label"),
        ({"sentence": None, "permutation": 0}, "missing field", "line 2 lacks sentence, label"),
        (
            {"directory": "../..", "permutation": 0},
            "path outside the folder",
            r"line 2: .* leads out of 'dev'",
        ),
    ],
)
def test_a_bad_item_is_refused_with_its_line(tmp_path, broken, reason, message):
    folder = make(tmp_path, [item("1-0", permutation=0), {**item("2-0"), **broken}], permutations=(0,))
    first, second = nlvr(str(folder))
    assert first().id == "nlvr-dev-1-0-0"
    with pytest.raises(RowError, match=message) as caught:
        second()
    assert caught.value.reason == reason


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_an_image_that_cannot_be_read_names_its_line(tmp_path, content):
    folder = make(tmp_path, [item("1-0", permutation=0)])
    (folder / "images" / "3" / "dev-1-0-0.png").write_bytes(content)
    with pytest.raises(RowError, match=r"dev\.json line 1: no image"):
        samples(folder)
