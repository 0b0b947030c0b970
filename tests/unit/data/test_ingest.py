import io
import json
import threading
import time
from functools import partial

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import Base

from gpg_vl.data.images import open_image
from gpg_vl.data.ingest import in_order, write_prepared
from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import HASHES, SKIPPED, PreparedDataset
from gpg_vl.errors import DataError, RowError
from gpg_vl.scoring.gold import unreadable_gold
from gpg_vl.types import Sample
from tests.support.inputs import noise


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def row(number, task="t/a", images=(), **extra):
    given = {"answer": "(B)", "answer_type": "choice", "choices": ("x", "ü"), **extra}
    return Sample(f"id-{number}", task, f"Question {number}?", images=images, **given)


def boxes(answer, size=(40, 30), **extra):
    images = (Image.new("RGB", size),) if size else ()
    return row(0, images=images, answer=answer, answer_type="boxes", choices=(), **extra)


def write(drafts, out, **extra):
    return write_prepared(drafts, out, **{"source": "src", "converter": "conv", "version": "3", **extra})


def read(folder):
    return PreparedDataset.open([str(folder)])


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_file_is_kept_as_it_is(tmp_path, kind):
    (tmp_path / "image").write_bytes(file_of(noise(9, 7), kind))
    with Image.open(tmp_path / "image") as image:
        write([row(0, images=(image,))], tmp_path / "d")
    assert read(tmp_path / "d").rows[0]["images"][0]["bytes"] == (tmp_path / "image").read_bytes()


def test_a_decoded_jpeg_is_stored_without_another_loss(tmp_path):
    image = Image.open(io.BytesIO(file_of(noise(9, 7), "JPEG")))
    image.putpixel((0, 0), (1, 2, 3))  # decoded, and no longer what the file holds
    write([row(0, images=(image,))], tmp_path / "d")
    stored = read(tmp_path / "d")[0].images[0]
    assert stored.format == "PNG"
    assert stored.getpixel((0, 0)) == (1, 2, 3)


def test_gold_answers_that_no_reward_reads_are_written_and_counted(tmp_path):
    golds = ["5", "5 or 6", "more than 5", "five"]
    samples = [Sample(str(i), "t", "Q?", gold, "number") for i, gold in enumerate(golds)]
    manifest = write(samples, tmp_path / "d", unreadable_gold=unreadable_gold)
    assert manifest["rows"] == 4 and manifest["skipped"] == {}
    assert manifest["unreadable_gold"] == {"gold answer not readable as a number": 2}


def test_manifest(tmp_path):
    samples = [row(0, "t/b"), row(1, "t/a"), row(2, "t/b")]
    manifest = write(samples, tmp_path / "d")
    assert manifest == read_manifest(tmp_path / "d")
    assert {k: v for k, v in manifest.items() if k != "sha256"} == {
        "source": "src",
        "converter": "conv",
        "version": "3",
        "options": {},
        "rows": 3,
        "tasks": {"t/a": 1, "t/b": 2},
        "skipped": {},
        "unreadable_gold": {},
    }
    assert list(manifest["tasks"]) == ["t/a", "t/b"]
    assert write(samples, tmp_path / "again")["sha256"] == manifest["sha256"]
    assert write(samples[:2], tmp_path / "fewer")["sha256"] != manifest["sha256"]
    pictures = [write([row(0, images=(noise(9, 7, n),))], tmp_path / f"picture-{n}") for n in (1, 2)]
    assert pictures[0]["sha256"] != pictures[1]["sha256"]


@pytest.mark.parametrize(
    ("limits", "shards", "groups"),
    [
        ({"_SHARD_ROWS": 2}, 3, 1),
        ({"_SHARD_BYTES": 1}, 5, 1),
        ({"_GROUP_ROWS": 2}, 1, 3),
        ({"_GROUP_BYTES": 1}, 1, 5),
        ({}, 1, 1),
    ],
)
def test_shards_and_row_groups_are_small_and_keep_the_order(tmp_path, monkeypatch, limits, shards, groups):
    for name, value in limits.items():
        monkeypatch.setattr(f"gpg_vl.data.shards.{name}", value)
    write((row(n, images=(noise(2, 2, n),)) for n in range(5)), tmp_path / "d")
    files = sorted((tmp_path / "d").glob("data-*.parquet"))
    assert len(files) == shards
    assert pq.ParquetFile(files[0]).num_row_groups == groups
    data = read(tmp_path / "d")
    assert [data[i].id for i in range(len(data))] == [f"id-{n}" for n in range(5)]
    assert pq.read_table(tmp_path / "d" / HASHES)["id"].to_pylist() == [f"id-{n}" for n in range(5)]


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "d"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        write([row(0)], out)
    assert [f.name for f in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, DataError])
@pytest.mark.parametrize("in_thread", [False, True])
def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch, error, in_thread):
    monkeypatch.setattr("gpg_vl.data.shards._SHARD_ROWS", 2)

    def fail():
        raise error

    def rows():
        yield from (row(n) for n in range(3))  # one shard is on disk already
        yield fail if in_thread else fail()

    with pytest.raises(error):
        write(rows(), tmp_path / "sets" / "d")
    assert list((tmp_path / "sets").iterdir()) == []


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"^conv: no rows in 'src'$"):
        write([], tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_only_bad_rows_are_refused_with_their_reasons(tmp_path):
    drafts = [row(0, answer=""), row(1, answer=" "), row(2, answer="(C)")]
    message = r"no rows in 'src' can be used: 2 empty answer, 1 answer not .*; the first: 'id-0': the answer"
    with pytest.raises(DataError, match=message):
        write(drafts, tmp_path / "d")
    assert not list(tmp_path.iterdir())


def broken(data):
    return row(0, images=(open_image(data, "row 0"),))


BAD = [
    (partial(broken, b""), "unreadable image", "row 0: no image, or"),
    (
        partial(broken, file_of(noise(40, 40), "JPEG")[:-300]),
        "unreadable image",
        "image 0 of 'id-0': .*trunc",
    ),
    (partial(broken, file_of(Image.new("1", (10_000, 10_000)))), "decompression bomb", "row 0: "),
    (row(0, answer=""), "empty answer", "'id-0': the answer is empty"),
    (Sample("id-0", "t", " ", "65", "number"), "empty question", "'id-0': the question is empty"),
    (Sample("", "t", "Q?", "65", "number"), "empty id", "'': the id is empty"),
    (row(0, answer="(C)"), "answer not among the choices", r"'\(C\)', the choices are \(A\), \(B\)"),
    (row(0, answer="ü"), "answer not among the choices", "the answer is 'ü'"),
    (row(0, choices=()), "answer not among the choices", "the choices are none"),
    (row(0, choices=("x",) * 27), "unusable question", "there is none for index 26"),
    (Sample("id-0", "t", "Q <|im_end|>", "65", "number"), "unusable question", r"special token <\|im_end\|>"),
    (Sample("id-0", "t", "Q \ud800", "65", "number"), "broken text", "'id-0': a text is no Unicode"),
    (Sample("id-0", "t", "Q?", "65", "number", meta={"a": "\udfff"}), "broken text", "'id-0': a text is no"),
    (Sample("id-0", "t", "Q?", "65", "nombre"), "unknown answer type", "'nombre'; known: choice, number"),
    (boxes("[[0, 0, 41.5, 9]]"), "box outside the image", r"leaves the image of 40×30"),
    (boxes("[[-3, 0, 4, 9]]"), "box outside the image", r"\(-3.0, 0.0, 4.0, 9.0\)"),
    (boxes("[[1, 1, 4, 4], [0, 0, 4, 32]]"), "box outside the image", "leaves"),
    (boxes("[[5, 5, 5, 9]]"), "empty box", "has no area"),
    (boxes("[[9, 5, 5, 9]]"), "empty box", "left, top, right, bottom"),
    (boxes("[[1, 2, 3]]"), "unreadable boxes", "got '\\[\\[1, 2, 3\\]\\]'"),
    (boxes("[[1, 2, 3, 4], [5, 6]]"), "unreadable boxes", "expected a JSON list"),
    (boxes("[[1, 2, 3, NaN]]"), "unreadable boxes", "expected a JSON list"),
    (boxes("(1,2),(3,4)"), "unreadable boxes", "expected a JSON list"),
    (boxes("[]"), "unreadable boxes", "expected a JSON list"),
    (boxes("[[1, 2, 3, 4]]", size=None), "missing image", "there is no image"),
    (row(1), "duplicate id", "another row has the id 'id-1'"),
]


@pytest.mark.parametrize(("draft", "reason", "message"), BAD)
def test_a_bad_row_is_skipped_counted_and_listed(tmp_path, draft, reason, message):
    manifest = write([row(1), draft, row(2)], tmp_path / "d")
    assert (manifest["rows"], manifest["skipped"]) == (2, {reason: 1})
    data = read(tmp_path / "d")
    assert [data[i].id for i in range(2)] == ["id-1", "id-2"]
    (line,) = map(json.loads, (tmp_path / "d" / SKIPPED).read_text().splitlines())
    assert (line["row"], line["reason"]) == (1, reason)
    with pytest.raises(RowError, match=message) as caught:
        write([row(1), draft, row(2)], tmp_path / "strict", strict=True)
    assert line["message"] == str(caught.value).encode("utf-8", "backslashreplace").decode()
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    "answer", ["[[0, 0, 40.4, 30]]", "[[-0.5, 0, 4, 30.9]]", "[[1, 2, 3, 4], [5, 6, 7, 8]]"]
)
def test_boxes_may_stick_out_by_rounding(tmp_path, answer):
    assert write([boxes(answer)], tmp_path / "d")["skipped"] == {}


def test_boxes_are_those_of_the_image_as_shown(tmp_path):
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    lying = file_of(noise(40, 30), "JPEG", exif=exif)  # shown as 30 wide, 40 high
    answers = {"[[0, 0, 30, 40]]": 1, "[[0, 0, 40, 30]]": 0}
    drafts = [
        Sample(f"{n}", "t", "Q?", answer, "boxes", images=(open_image(lying, "r"),))
        for n, answer in enumerate(answers)
    ]
    assert write(drafts, tmp_path / "d")["skipped"] == {"box outside the image": 1}
    sample = read(tmp_path / "d")[0]
    assert (sample.answer, sample.images[0].size) == ("[[0, 0, 30, 40]]", (30, 40))


def test_limit_counts_written_rows_and_skips_nothing_behind_the_last(tmp_path):
    drafts = [row(0, answer=""), row(1), row(2, answer=""), row(3), row(4, answer="")]
    manifest = write(drafts, tmp_path / "d", limit=2)
    assert (manifest["rows"], manifest["skipped"]) == (2, {"empty answer": 2})


def test_a_source_that_fails_behind_the_limit_does_no_harm(tmp_path):
    def rows():
        yield from (row(n) for n in range(3))
        raise DataError("nothing left")

    assert write(rows(), tmp_path / "d", limit=3)["rows"] == 3
    with pytest.raises(DataError, match="nothing left"):
        write(rows(), tmp_path / "e", limit=4)


def test_progress_says_what_was_written_and_skipped(tmp_path):
    calls = []
    drafts = [row(0), row(1, answer=""), row(2)]
    write(drafts, tmp_path / "d", progress=lambda *counts: calls.append(counts))
    assert calls == [(1, 0), (1, 1), (2, 1)]


@pytest.mark.parametrize("window", [1, 3, 8])
def test_results_come_in_order_and_few_items_are_under_way(window):
    taken, most = 0, 0
    lock = threading.Lock()
    done = []

    def items():
        nonlocal taken, most
        for n in range(40):
            with lock:
                taken += 1
                most = max(most, taken - len(done))
            yield n

    def work(n):
        time.sleep(0.002 * (n % 3))  # later items finish first
        return n

    for result in in_order(work, items(), workers=4, window=window):
        with lock:
            done.append(result)
    assert done == list(range(40))
    assert most <= window + 1


def test_a_stopped_map_starts_nothing_more():
    started = []

    def work(n):
        started.append(n)
        time.sleep(0.05)

    results = in_order(work, range(100), workers=1, window=6)
    next(results)
    results.close()
    time.sleep(0.2)
    assert len(started) <= 2


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    """3,000 images of 300 KB are 900 MB; the writer holds a few row groups of 16 MB."""
    import resource

    pixels = np.random.default_rng(0).integers(0, 256, (300, 330, 3), dtype=np.uint8)
    data = file_of(Image.fromarray(pixels))

    def draft(number):
        return row(number, images=(open_image(data, "r"),))

    write((partial(draft, n) for n in range(200)), tmp_path / "warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write((partial(draft, n) for n in range(3000)), tmp_path / "d")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
