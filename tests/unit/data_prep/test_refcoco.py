import json
import os
import pickle

import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageColumn
from PIL import Image

from gpg_vl.data_prep.refcoco import refcoco
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.registry import converters
from tests.support.drafts import refused, written

FILE = "COCO_train2014_000000581857.jpg"
ASKED = "Please provide the bounding box coordinate of the region this sentence describes: "
SIZE = (64, 48)


def ref(ref_id=0, split="train", sentences=("the lady", " woman in blue "), ann_id=1719310, image_id=581857):
    """As in refs(unc).p."""
    return {
        "sent_ids": [0, 1],
        "file_name": "COCO_train2014_000000581857_16.jpg",
        "ann_id": ann_id,
        "ref_id": ref_id,
        "image_id": image_id,
        "split": split,
        "sentences": [
            {"tokens": str(text).split(), "raw": str(text).upper(), "sent_id": n, "sent": text}
            for n, text in enumerate(sentences)
        ],
        "category_id": 1,
    }


def instances(box=(10.5, 4.25, 20.0, 30.5), file=FILE):
    return {
        "info": {},
        "images": [{"license": 1, "file_name": file, "height": 48, "width": 64, "id": 581857}],
        "annotations": [
            {
                "segmentation": [[44.2, 167.74, 50.0, 1.0]],
                "area": 1.0,
                "iscrowd": 0,
                "image_id": 581857,
                "bbox": list(box),
                "category_id": 1,
                "id": 1719310,
            }
        ],
        "categories": [{"supercategory": "person", "id": 1, "name": "person"}],
    }


def refer(tmp_path, refs, by="unc", suffix="p", name="refcoco", **changed):
    """REFER's layout: data/refcoco/refs(unc).p and data/images/mscoco/images/train2014."""
    folder = tmp_path / "data" / name
    images = tmp_path / "data" / "images" / "mscoco" / "images" / "train2014"
    folder.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, "red").save(images / FILE)
    (folder / "instances.json").write_text(json.dumps(instances(**changed)))
    # The published files were written by Python 2, in its protocols.
    data = pickle.dumps(refs, protocol=2) if suffix == "p" else json.dumps(refs).encode()
    (folder / f"refs({by}).{suffix}").write_bytes(data)
    return str(folder)


@pytest.mark.parametrize("suffix", ["p", "json"])
def test_every_sentence_of_an_object_is_a_row(tmp_path, suffix):
    source = refer(tmp_path, [ref(), ref(7, split="val")], suffix=suffix)
    first, second = written(refcoco(source), tmp_path / "out")
    assert (first.id, second.id) == ("refcoco-unc-train-0-0", "refcoco-unc-train-0-1")
    assert (first.task, first.answer_type) == ("refcoco/train", "boxes")
    assert (first.question, second.question) == (ASKED + "the lady", ASKED + "woman in blue")
    assert json.loads(first.answer) == [[10.5, 4.25, 30.5, 34.75]]
    assert first.meta == {
        "sentence": "the lady",
        "category": "person",
        "ann_id": 1719310,
        "cluster": "COCO_train2014_000000581857",
    }
    assert first.images[0].size == SIZE
    (val,) = {draft().id.rpartition("-")[0] for draft in refcoco(source, split="val")}
    assert val == "refcoco-unc-val-7"


def test_images_may_lie_elsewhere(tmp_path):
    source = refer(tmp_path, [ref()])
    standard = tmp_path / "data" / "images"
    os.rename(standard / "mscoco" / "images" / "train2014", tmp_path / "coco")
    with pytest.raises(ConfigurationError, match="refcoco needs --images: the folder with COCO_train2014"):
        next(refcoco(source))
    assert len([draft() for draft in refcoco(source, images=str(tmp_path / "coco"))]) == 2
    with pytest.raises(ConfigurationError, match=r"--images must be the folder .*, got 'nowhere'"):
        next(refcoco(source, images="nowhere"))


@pytest.mark.parametrize(
    ("present", "split_by", "chosen"),
    [
        (("unc", "google"), "", "unc"),
        (("google", "umd"), "", "umd"),
        (("google",), "", "google"),
        (("unc", "google"), "google", "google"),
    ],
)
def test_splits_by_image_are_preferred(tmp_path, present, split_by, chosen):
    for by in present:
        source = refer(tmp_path, [ref()], by, name="refcocog")
    draft = next(refcoco(source, split_by=split_by))
    assert draft().id == f"refcocog-{chosen}-train-0-0"
    assert draft().task == "refcocog/train"


def test_splits_have_names(tmp_path):
    source = refer(tmp_path, [ref(), ref(1, split="testA")])
    with pytest.raises(ConfigurationError, match=r"refs\(unc\) has no split 'test'; it has: testA, train"):
        list(refcoco(source, split="test"))
    with pytest.raises(ConfigurationError, match="unknown split_by of refcoco 'umd'; known: unc"):
        list(refcoco(source, split_by="umd"))


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([Harmful()]), r"it asks for posix\.mkdir, which no refs file needs"),
        (pickle.dumps([{"box": {1, 2}, "x": complex(1)}]), r"it asks for builtins\.complex"),
        (b"", "Ran out of input"),
        (b"not a pickle", "no pickle of plain lists and dicts"),
        (b"\x80\x02]q\x00(K\x01", "no pickle of plain lists and dicts"),
    ],
)
def test_a_pickle_runs_no_code(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    source = refer(tmp_path, [])
    (tmp_path / "data" / "refcoco" / "refs(unc).p").write_bytes(content)
    with pytest.raises(DataError, match=message):
        next(refcoco(source))
    assert not (tmp_path / "harm").exists()


def test_text_of_python_2_is_read(tmp_path):
    source = refer(tmp_path, [])
    # (dp0 S'...' is a str of Python 2: bytes, here with a Latin-1 letter that is no UTF-8.
    old = pickle.dumps([ref(sentences=("caf!",))], protocol=0).replace(b"Vcaf!", b"S'caf\\xe9'")
    (tmp_path / "data" / "refcoco" / "refs(unc).p").write_bytes(old)
    assert b"S'caf\\xe9'" in old
    (draft,) = refcoco(source)
    assert draft().meta["sentence"] == "caf\ufffd"


@pytest.mark.parametrize(
    ("box", "answer"),
    [
        ((0, 0, 64, 48), [0, 0, 64, 48]),
        ((-0.9, 0, 30, 49.4), [0, 0, 29.1, 48]),
        ((60.1, 40.0, 5.5, 8.0), [60.1, 40, 64, 48]),
        ((50.1, 3.2, 3.03, 4.01), [50.1, 3.2, 53.13, 7.21]),
        ((60, 40, 9, 8), [60, 40, 69, 48]),  # not rounding: left for the writer's check
    ],
)
def test_a_box_is_cut_where_rounding_made_it_stick_out(tmp_path, box, answer):
    draft = next(refcoco(refer(tmp_path, [ref()], box=box)))
    assert json.loads(draft().answer) == [answer]


@pytest.mark.parametrize(
    ("changed", "sentences", "reason"),
    [
        (
            {"box": (1, 2, 3)},
            ["a"],
            "malformed box: refcoco-unc-train-0-0: expected 4 numbers, got [1, 2, 3]",
        ),
        ({"box": (1, 2, 3, float("nan"))}, ["a"], "malformed box: "),
        ({"file": "../../secret.jpg"}, ["a"], "path outside the folder: "),
        ({"file": "COCO_train2014_000000000001.jpg"}, ["a"], "missing image: "),
        ({}, ["  "], "empty text: refcoco-unc-train-0-0: the sentence is '  '"),
        ({}, [None], "empty text: refcoco-unc-train-0-0: the sentence is None"),
    ],
)
def test_a_bad_row_is_refused(tmp_path, changed, sentences, reason):
    (draft,) = refcoco(refer(tmp_path, [ref(sentences=sentences)], **changed))
    assert refused(draft).startswith(reason)


def test_a_resized_copy_of_the_images_is_refused(tmp_path):
    source = refer(tmp_path, [ref()])
    Image.new("RGB", (32, 24)).save(next(tmp_path.rglob(FILE)))
    reason = refused(next(refcoco(source)))
    assert reason.startswith("image of another size: refcoco-unc-train-0-0: the image is (32, 24)")


def test_files_that_do_not_belong_together(tmp_path):
    with pytest.raises(DataError, match=r"refs and instances\.json do not belong together, or lack 5"):
        list(refcoco(refer(tmp_path, [ref(ann_id=5)])))
    with pytest.raises(DataError, match=r"no refs\(unc\)\.p or refs\(unc\)\.json in"):
        list(refcoco(refer(tmp_path / "b", [ref()], by="un c")))


def lmms(tmp_path, *rows, name="RefCOCO", split="val"):
    """lmms-lab/RefCOCO's columns, image inside."""
    folder = tmp_path / name / "data"
    folder.mkdir(parents=True)
    features = {
        "question_id": Value("string"),
        "image": ImageColumn(),
        "question": Value("string"),
        "answer": List(Value("string")),
        "segmentation": List(Value("float32")),
        "bbox": List(Value("float32")),
        "iscrowd": Value("int8"),
        "file_name": Value("string"),
    }
    given = {
        "question_id": "1719310",
        "image": Image.new("RGB", SIZE, "red"),
        "question": "Describe the circled area.",
        "answer": ["the lady", "woman"],
        "segmentation": [1.0, 2.0],
        "bbox": [10.5, 4.25, 20.0, 30.5],
        "iscrowd": 0,
        "file_name": "COCO_train2014_000000581857_16.jpg",
    }
    table = Dataset.from_list([given | row for row in rows], features=Features(features))
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder.parent)


def test_images_and_sizes_of_boxes_inside_parquet(tmp_path):
    source = lmms(tmp_path, {}, {"image": None}, name="RefCOCOplus")
    first, second, bad, _ = refcoco(source, split="val")
    (sample, other) = written([first, second], tmp_path / "out")
    assert (sample.id, other.id) == ("refcoco+-val-0-0", "refcoco+-val-0-1")
    assert sample.task == "refcoco+/val"
    assert (sample.question, other.question) == (ASKED + "the lady", ASKED + "woman")
    assert json.loads(sample.answer) == [[10.5, 4.25, 30.5, 34.75]]
    cluster = "COCO_train2014_000000581857"
    assert sample.meta == {"sentence": "the lady", "question_id": "1719310", "cluster": cluster}
    assert sample.images[0].size == SIZE
    assert refused(bad) == "missing image: refcoco+-val-1-0: the row holds no image"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"answer": None}, "empty answer: refcoco-val-0: answer is None, no list of texts"),
        ({"answer": ["the lady", None]}, "empty answer: "),
        ({"bbox": None}, "malformed box: "),
    ],
)
def test_a_row_of_wrong_types_is_refused_alone(tmp_path, changed, reason):
    bad, *good = refcoco(lmms(tmp_path, changed, {}), split="val")
    assert refused(bad).startswith(reason)
    assert good[-1]().id == "refcoco-val-1-1"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"captions": None}, "empty captions: "),
        ({"image_path": None}, "empty image_path: refcoco-val-0-0: image_path is None"),
        ({"raw_image_info": "{"}, "unreadable image info: refcoco-val-0-0: raw_image_info is '{'"),
        ({"raw_image_info": "[1]"}, "unreadable image info: "),
    ],
)
def test_a_path_row_of_wrong_types_is_refused(tmp_path, changed, reason):
    bad, *_ = refcoco(**jxu(tmp_path, **changed), split="val")
    assert refused(bad).startswith(reason)


def jxu(tmp_path, split="validation", own="val", **changed):
    """jxu124/refcoco's columns, images by path."""
    folder = tmp_path / "jxu124" / "data"
    folder.mkdir(parents=True)
    row = ref(split=own) | {
        "raw_anns": json.dumps({"bbox": [10.5, 4.25, 20.0, 30.5]}),
        "raw_image_info": json.dumps({"height": 48, "width": 64}),
        "raw_sentences": "[]",
        "image_path": f"coco/train2014/{FILE}",
        "bbox": [10.5, 4.25, 30.5, 34.75],
        "captions": ["the lady", "woman"],
        "global_image_id": "coco.581857",
        "anns_id": "coco.1719310",
    }
    Dataset.from_list([row | changed]).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    images = tmp_path / "train2014"
    images.mkdir()
    Image.new("RGB", SIZE).save(images / FILE)
    return {"source": str(folder.parent), "images": str(images)}


@pytest.mark.parametrize(
    ("split", "published"), [("val", "validation"), ("testA", "test"), ("train", "train")]
)
def test_corners_and_images_by_path(tmp_path, split, published):
    given = jxu(tmp_path, published, own=split)
    first, second = written(refcoco(**given, split=split), tmp_path / "out")
    assert (first.id, second.id) == (f"refcoco-{split}-0-0", f"refcoco-{split}-0-1")
    assert json.loads(first.answer) == [[10.5, 4.25, 30.5, 34.75]]
    assert first.meta["cluster"] == "COCO_train2014_000000581857"
    assert (first.meta["ann_id"], first.meta["category_id"]) == (1719310, 1)


def test_a_split_that_holds_another_is_refused(tmp_path):
    given = jxu(tmp_path, "test", own="testA")
    with pytest.raises(ConfigurationError, match="split 'test' holds 'testA'; ask for --split testA"):
        list(refcoco(**given, split="test"))


def test_what_a_flattened_source_needs(tmp_path):
    given = jxu(tmp_path)
    with pytest.raises(ConfigurationError, match="this source holds no images: --images"):
        list(refcoco(given["source"], split="val"))
    with pytest.raises(ConfigurationError, match="--split_by is for REFER's folder"):
        list(refcoco(**given, split_by="unc"))
    other = tmp_path / "other.parquet"
    Dataset.from_list([{"text": "x", "box": [1, 2]}]).to_parquet(other)
    with pytest.raises(
        DataError, match=r"unknown layout of RefCOCO, with the columns text, box; known: REFER's"
    ):
        list(refcoco(str(other)))


def test_the_converter_is_registered():
    assert converters.get("refcoco").function is refcoco
