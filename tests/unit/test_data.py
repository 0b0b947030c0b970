import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gpg_vl.data import MANIFEST, PreparedDataset, Sampler, write_prepared
from gpg_vl.errors import DataError
from gpg_vl.types import Sample


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def noise(seed, mode="RGB", size=(9, 7)):
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def row(number, task="t/a", images=(), **extra):
    return Sample(f"id-{number}", task, f"Question {number}?", "(B)", "choice", ("x", "ü"), images, **extra)


def write(samples, out, **extra):
    given = {"source": "src", "converter": "conv", "version": "3", **extra}
    return write_prepared(samples, out, **given)


def test_round_trip(tmp_path):
    images = (noise(0), noise(1, "L", (3, 5)))
    samples = [
        row(0, images=images, meta={"cluster": "ä", "deep": {"n": [1, 2.5, None]}}),
        Sample("id-1", "t/b", "No image?", "65", "number"),
        row(2, task="t/b", images=(noise(2),)),
    ]
    write(samples, tmp_path / "d")
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert len(data) == 3
    for index, given in enumerate(samples):
        read = data[index]
        fields = ("id", "task", "question", "answer", "answer_type", "choices", "meta")
        assert [getattr(read, f) for f in fields] == [getattr(given, f) for f in fields]
        assert len(read.images) == len(given.images)
        for one, other in zip(read.images, given.images, strict=True):
            assert one.mode == other.mode
            assert np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_file_is_kept_as_it_is(tmp_path, kind):
    buffer = io.BytesIO()
    noise(0).save(buffer, kind)
    (tmp_path / "image").write_bytes(buffer.getvalue())
    with Image.open(tmp_path / "image") as image:
        write([row(0, images=(image,))], tmp_path / "d")
    stored = PreparedDataset.open([str(tmp_path / "d")]).rows[0]["images"][0]["bytes"]
    assert stored == buffer.getvalue()


def test_a_decoded_jpeg_is_stored_without_another_loss(tmp_path):
    buffer = io.BytesIO()
    noise(0).save(buffer, "JPEG")
    image = Image.open(buffer)
    image.putpixel((0, 0), (1, 2, 3))  # decoded, and no longer what the file holds
    write([row(0, images=(image,))], tmp_path / "d")
    read = PreparedDataset.open([str(tmp_path / "d")])[0].images[0]
    assert read.format == "PNG"
    assert read.getpixel((0, 0)) == (1, 2, 3)


def test_manifest(tmp_path):
    samples = [row(0, "t/b"), row(1, "t/a"), row(2, "t/b")]
    manifest = write(samples, tmp_path / "d")
    assert manifest == json.loads((tmp_path / "d" / MANIFEST).read_text())
    assert {k: v for k, v in manifest.items() if k != "sha256"} == {
        "source": "src",
        "converter": "conv",
        "version": "3",
        "options": {},
        "rows": 3,
        "tasks": {"t/a": 1, "t/b": 2},
    }
    assert list(manifest["tasks"]) == ["t/a", "t/b"]
    assert write(samples, tmp_path / "again")["sha256"] == manifest["sha256"]
    assert write(samples[:2], tmp_path / "fewer")["sha256"] != manifest["sha256"]
    assert write([row(0, images=(noise(1),))], tmp_path / "e") != write(
        [row(0, images=(noise(2),))], tmp_path / "f"
    )


def test_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr("gpg_vl.data._SHARD_ROWS", 2)
    write((row(n) for n in range(5)), tmp_path / "d")
    assert len(list((tmp_path / "d").glob("*.parquet"))) == 3
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert [data[i].id for i in range(5)] == [f"id-{n}" for n in range(5)]


def test_several_folders_are_joined(tmp_path):
    write([row(0), row(1)], tmp_path / "a")
    write([row(2)], tmp_path / "b")
    data = PreparedDataset.open([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [data[i].id for i in range(3)] == ["id-0", "id-1", "id-2"]
    assert data.folders == (str(tmp_path / "a"), str(tmp_path / "b"))


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "d"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="exists already"):
        write([row(0)], out)
    assert [f.name for f in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path, monkeypatch, error):
    monkeypatch.setattr("gpg_vl.data._SHARD_ROWS", 2)

    def rows():
        yield from (row(n) for n in range(3))  # one shard is on disk already
        raise error

    with pytest.raises(error):
        write(rows(), tmp_path / "sets" / "d")
    assert list((tmp_path / "sets").iterdir()) == []


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(DataError, match="conv: no rows in 'src'"):
        write([], tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_folder_that_is_no_prepared_set_is_refused(tmp_path):
    for name in ("missing", "empty", "foreign", "broken"):
        if name != "missing":
            (tmp_path / name).mkdir()
        if name in ("foreign", "broken"):
            (tmp_path / name / MANIFEST).write_text("{}")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign" / "x.parquet")
    (tmp_path / "broken" / "x.parquet").write_bytes(b"no parquet")
    for name in ("missing", "empty", "foreign", "broken"):
        with pytest.raises(DataError, match=f"{name}' is not a prepared data set"):
            PreparedDataset.open([str(tmp_path / name)])


@pytest.mark.parametrize("content", [b"", b"no image", "half a PNG"])
def test_an_image_that_cannot_be_read_names_its_row(tmp_path, content):
    buffer = io.BytesIO()
    noise(1, size=(40, 40)).save(buffer, "PNG")
    if isinstance(content, str):
        content = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    write([row(0, images=(noise(0),)), row(1, images=(noise(0), noise(1)))], tmp_path / "d")
    shard = next((tmp_path / "d").glob("*.parquet"))
    table = pq.read_table(shard).to_pylist()
    table[1]["images"][1]["bytes"] = content
    pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(shard)), shard)
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert data[0].id == "id-0"
    with pytest.raises(DataError, match=r"row 1 \(id 'id-1'\) of .*: image 1 cannot be read"):
        data[1]


def test_within_counts_what_it_leaves_out(tmp_path):
    write([row(n) for n in range(6)], tmp_path / "d")
    data = PreparedDataset.open([str(tmp_path / "d")])
    kept = data.within(3, lambda sample: int(sample.id[-1]))
    assert [kept[i].id for i in range(len(kept))] == ["id-0", "id-1", "id-2", "id-3"]
    assert kept.left_out == 2
    assert data.within(5, lambda sample: int(sample.id[-1])).left_out == 0
    with pytest.raises(DataError, match="longer than 0 tokens"):
        data.within(0, lambda sample: 1)


def test_head(tmp_path):
    write([row(n) for n in range(4)], tmp_path / "d")
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert [data.head(2)[i].id for i in range(len(data.head(2)))] == ["id-0", "id-1"]
    assert len(data.head(0)) == len(data.head(9)) == 4


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_each_epoch_is_a_permutation(chunk):
    sampler = Sampler(7, seed=3)
    drawn = []
    while len(drawn) < 21:
        drawn += sampler.draw(chunk)
    epochs = [drawn[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert drawn[:21] == Sampler(7, seed=3).draw(21)
    assert drawn[:7] != Sampler(7, seed=4).draw(7)


@pytest.mark.parametrize("consumed", [0, 1, 6, 7, 8, 20])
def test_consumed_is_the_whole_state(consumed):
    whole = Sampler(7, seed=0).draw(40)
    first = Sampler(7, seed=0)
    first.draw(consumed)
    assert first.consumed == consumed
    for sampler in (Sampler(7, seed=0), first):
        sampler.draw(11)  # wherever it stood before
        sampler.consumed = consumed
        assert sampler.draw(20) == whole[consumed : consumed + 20]


def test_ids_are_unique(tmp_path):
    with pytest.raises(DataError, match="two rows have the id"):
        write([row(0), row(0)], tmp_path / "d")
    assert not list(tmp_path.iterdir())
