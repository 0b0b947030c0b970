import json

import pytest
from PIL import Image

from gpg_vl.data_prep.lisa import lisa
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from tests.support.drafts import refused, written

SQUARE = [[10, 5], [20, 5], [20, 15.5], [10, 15.5]]
FAR = [[30, 20], [38, 22], [34, 28]]
INNER = [[12, 8], [14, 8], [13, 10]]
ASKED = "Output the bounding box in the image corresponding to the instruction: "


def shape(points, label="target"):
    return {
        "label": label,
        "labels": [label],
        "shape_type": "polygon",
        "image_name": "1.jpg",
        "points": points,
        "group_id": None,
        "group_ids": [None],
        "flags": {},
    }


def item(*shapes, text=("the dog",), is_sentence=False):
    return {"text": list(text), "is_sentence": is_sentence, "shapes": list(shapes)}


def make(folder, encoding="utf-8", exif=None, **items):
    """ReasonSeg's layout: NAME.jpg (40 × 30) and NAME.json, labelme's format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, annotation in items.items():
        Image.new("RGB", (40, 30), "red").save(folder / f"{name}.jpg", exif=exif or Image.Exif())
        text = json.dumps(annotation, ensure_ascii=False, indent=2)
        (folder / f"{name}.json").write_bytes(text.encode(encoding))
    return str(folder)


def test_polygons_become_one_box_and_stay_in_the_meta(tmp_path):
    annotation = item(shape(SQUARE), shape(FAR, "Target"), shape(INNER, "ignore"), shape(SQUARE, "flag"))
    annotation |= {"text": [" Which animal barks? "], "is_sentence": True}
    (sample,) = written(lisa(make(tmp_path / "val", a=annotation)), tmp_path / "out")
    assert (sample.id, sample.task, sample.answer_type) == ("lisa-val-a-0", "lisa", "boxes")
    assert sample.question == ASKED + "Which animal barks?"
    assert json.loads(sample.answer) == [[10, 5, 38, 28]]
    assert sample.meta == {
        "cluster": "a",
        "is_sentence": True,
        "polygons": [SQUARE, FAR],
        "ignore_polygons": [INNER],
        "size": [40, 30],
    }
    assert [image.size for image in sample.images] == [(40, 30)]


@pytest.mark.parametrize(("texts", "count"), [("all", 3), ("first", 1)])
def test_each_text_of_an_image_is_a_row(tmp_path, texts, count):
    source = make(tmp_path / "test", b=item(shape(FAR), text=("one", "two", "three")))
    samples = [draft() for draft in lisa(source, texts=texts)]
    assert [sample.id for sample in samples] == [f"lisa-test-b-{n}" for n in range(count)]
    assert [sample.question for sample in samples] == [ASKED + t for t in ("one", "two", "three")[:count]]
    assert {sample.meta["cluster"] for sample in samples} == {"b"}


def test_a_split_is_a_sub_folder(tmp_path):
    make(tmp_path / "train", a=item(shape(FAR)), c=item(shape(FAR)))
    make(tmp_path / "val", b=item(shape(FAR)))
    assert [draft().id for draft in lisa(str(tmp_path), split="train")] == [
        "lisa-train-a-0",
        "lisa-train-c-0",
    ]


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1252", "the café’s sign"), ("utf-8", "the café’s sign"), ("utf-8-sig", "it")]
)
def test_texts_in_either_encoding(tmp_path, encoding, text):
    source = make(tmp_path / "val", encoding, a=item(shape(FAR), text=[text]))
    (draft,) = lisa(source)
    assert draft().question == ASKED + text


def test_a_polygon_is_cut_at_the_edges(tmp_path):
    (draft,) = lisa(make(tmp_path / "val", a=item(shape([[-6, 4], [50, 4], [20, 33]]))))
    assert json.loads(draft().answer) == [[0, 4, 40, 30]]


def test_polygons_are_in_the_image_as_it_is_shown(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    source = make(tmp_path / "val", exif=turned, a=item(shape([[1, 1], [50, 1], [5, 38]])))
    (draft,) = lisa(source)
    assert draft().meta["size"] == [30, 40]
    assert json.loads(draft().answer) == [[1, 1, 30, 38]]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (item(shape(FAR, "ignore")), "no target: val/a.json: no polygon to find"),
        (item(shape(FAR[:2])), "no target: "),
        (item(shape(FAR, "flag")), "no target: "),
        (item(shape(FAR), text=[" "]), "empty text: "),
        (
            item(shape([[1, 2], [3, None], [4, 5]])),
            "malformed box: val/a.json: expected 2 numbers, got [3, None]",
        ),
        (item(shape([[1, 2], [3], [4, 5]])), "malformed box: "),
        (item(shape(5)), "unreadable annotation: val/a.json: `points` is 5, no list"),
        (item(shape(FAR), text=[]), "unreadable annotation: a.json lacks `text`"),
        ({"text": "the dog", "shapes": [shape(FAR)]}, "unreadable annotation: a.json lacks `text`"),
        ({"text": ["the dog"]}, "unreadable annotation: a.json lacks `shapes`"),
        ([1], "unreadable annotation: "),
    ],
)
def test_an_item_that_says_nothing_is_refused_alone(tmp_path, annotation, reason):
    bad, good = lisa(make(tmp_path / "val", a=annotation, b=item(shape(FAR))))
    assert refused(bad).startswith(reason)
    assert good().id == "lisa-val-b-0"


@pytest.mark.parametrize("content", [b"", b"{", b"\x81\x8d"])
def test_a_broken_file_is_refused(tmp_path, content):
    source = make(tmp_path / "val", a=item(shape(FAR)))
    (tmp_path / "val" / "a.json").write_bytes(content)
    (draft,) = lisa(source)
    assert refused(draft).startswith("unreadable annotation: a.json: ")


def test_a_missing_image_is_refused(tmp_path):
    source = make(tmp_path / "val", a=item(shape(FAR)))
    (tmp_path / "val" / "a.jpg").unlink()
    (draft,) = lisa(source)
    assert refused(draft).startswith("missing image: val/a.json: no file 'a.jpg' in '")


def test_another_folder_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*train': --source is ReasonSeg's folder of one split"):
        next(lisa(str(tmp_path), split="train"))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no \.json in .*--source is ReasonSeg's folder of one split"):
        next(lisa(str(tmp_path), split="train"))
    with pytest.raises(ConfigurationError, match="lisa needs --source: ReasonSeg's folder"):
        next(lisa(""))
    with pytest.raises(ConfigurationError, match="unknown texts of lisa 'last'; known: all, first"):
        next(lisa(str(tmp_path), texts="last"))


def test_the_converter_is_registered():
    assert converters.get("lisa").function is lisa
