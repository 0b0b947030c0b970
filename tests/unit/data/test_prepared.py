import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.manifest import MANIFEST, read_manifest
from gpg_vl.data.prepared import PreparedDataset, Sampler
from gpg_vl.errors import DataError
from gpg_vl.types import Sample


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


def test_reasoning_is_stored_and_older_sets_have_none(tmp_path):
    write([row(0, reasoning="Two balls,\nso (B)."), row(1)], tmp_path / "new")
    write([row(2)], tmp_path / "old")
    (shard,) = (tmp_path / "old").glob("data-*.parquet")
    pq.write_table(pq.read_table(shard).drop_columns("reasoning"), shard)
    data = PreparedDataset.open([str(tmp_path / "new"), str(tmp_path / "old")])
    assert [data[i].reasoning for i in range(3)] == ["Two balls,\nso (B).", "", ""]
    assert data.column("reasoning") == [sample.reasoning for sample in data.without_images()]
    assert data.column("id") == ["id-0", "id-1", "id-2"]


def test_the_content_hash_knows_reasoning_and_is_that_of_before_without(tmp_path):
    for name, reasoning in (("none", ""), ("one", "a"), ("other", "b")):
        write([row(0, reasoning=reasoning)], tmp_path / name)
    hashes = {name: read_manifest(tmp_path / name)["sha256"] for name in ("none", "one", "other")}
    assert len(set(hashes.values())) == 3
    assert hashes["none"] == "9fd88aff07865afe6450597994ee7ef9a9efcf4b63e8c4eb1dd75e0e94667345"


def test_several_folders_are_joined(tmp_path):
    write([row(0), row(1)], tmp_path / "a")
    write([row(2)], tmp_path / "b")
    data = PreparedDataset.open([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [data[i].id for i in range(3)] == ["id-0", "id-1", "id-2"]
    assert data.folders == (str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_folder_that_is_no_prepared_set_is_refused(tmp_path):
    for name in ("missing", "empty", "foreign", "broken"):
        if name != "missing":
            (tmp_path / name).mkdir()
        if name in ("foreign", "broken"):
            (tmp_path / name / MANIFEST).write_text("{}")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign" / "data-00000.parquet")
    (tmp_path / "broken" / "data-00000.parquet").write_bytes(b"no parquet")
    for name in ("missing", "empty", "foreign", "broken"):
        with pytest.raises(DataError, match=f"{name}' is not a prepared data set") as error:
            PreparedDataset.open([str(tmp_path / name)])
        assert ("there is no such folder" in str(error.value)) == (name == "missing")


@pytest.mark.parametrize("content", [b"", b"no image", "half a PNG"])
def test_an_image_that_cannot_be_read_names_its_row(tmp_path, content):
    buffer = io.BytesIO()
    noise(1, size=(40, 40)).save(buffer, "PNG")
    if isinstance(content, str):
        content = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    write([row(0, images=(noise(0),)), row(1, images=(noise(0), noise(1)))], tmp_path / "d")
    shard = next((tmp_path / "d").glob("data-*.parquet"))
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


def many(folder, count=40):
    """Several row groups; returns the one shard."""
    write([row(n, images=(noise(n),)) for n in range(count)], folder)
    (shard,) = folder.glob("data-*.parquet")
    return shard


def test_rows_in_any_order_and_in_another_process(tmp_path):
    assert pq.ParquetFile(many(tmp_path / "d")).num_row_groups > 2
    data = PreparedDataset.open([str(tmp_path / "d")])
    for index in (39, 0, 17, 16, 15, 0):
        assert data[index].id == f"id-{index}"
        assert np.array_equal(np.asarray(data[index].images[0]), np.asarray(noise(index)))
    assert data.column("id") == [sample.id for sample in data.without_images()]
    odd = data.within(0, lambda sample: 1 - int(sample.id[3:]) % 2)
    again = pickle.loads(pickle.dumps(odd))
    assert [again[i].id for i in (19, 0)] == ["id-39", "id-1"]
    assert again.column("id") == odd.column("id") == [f"id-{n}" for n in range(1, 40, 2)]
    assert [sample.id for sample in again.without_images()] == odd.column("id")
    with pytest.raises(IndexError):
        data[40]


@pytest.mark.parametrize(("groups", "kept"), [(0, 1), (1.5, 1), (2.5, 2), (9, 3)])
def test_large_sets_are_not_kept_in_memory(tmp_path, monkeypatch, groups, kept):
    many(tmp_path / "d")
    rows = PreparedDataset.open([str(tmp_path / "d")]).rows
    monkeypatch.setattr("gpg_vl.data.stored._KEPT_BYTES", groups * rows._group(0).nbytes)
    assert [rows[i]["id"] for i in (*range(40), *range(39, -1, -1))][:40] == rows.column("id")
    assert len(rows._kept) == kept
    assert rows._kept_bytes == sum(table.nbytes for table in rows._kept.values())


def test_opening_writes_nothing(tmp_path, monkeypatch):
    many(tmp_path / "d")
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    before = sorted(tmp_path.rglob("*"))
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert data.lengths(lambda sample: sample.images[0].width) == [9] * 40
    assert sorted(tmp_path.rglob("*")) == before


def test_a_flipped_byte_is_noticed_where_it_is_read(tmp_path):
    shard = many(tmp_path / "d")
    content = bytearray(shard.read_bytes())
    content[content.index(b"\x89PNG") + 60] ^= 1  # in the pixels of an image
    shard.write_bytes(content)
    data = PreparedDataset.open([str(tmp_path / "d")])
    assert data[39].id == "id-39"
    with pytest.raises(DataError, match=r"data-00000\.parquet' is damaged: .*CRC"):
        data[0]


def test_a_set_that_lacks_a_shard_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gpg_vl.data.shards._SHARD_ROWS", 16)
    write([row(n) for n in range(40)], tmp_path / "d")
    (tmp_path / "d" / "data-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"holds 24 rows, its manifest\.json says 40: a shard is missing"):
        PreparedDataset.open([str(tmp_path / "d")])


def test_a_changed_manifest_is_refused(tmp_path):
    write([row(0)], tmp_path / "d")
    file = tmp_path / "d" / MANIFEST
    whole = file.read_text()
    file.write_text(whole.replace('"conv"', '"conw"'))
    with pytest.raises(DataError, match="is damaged, or was changed by hand"):
        read_manifest(tmp_path / "d")
    values = json.loads(whole) | {"converter": "other"}
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "seal"}))
    assert read_manifest(tmp_path / "d")["converter"] == "other"


def test_a_row_whose_meta_is_no_json_is_named(tmp_path):
    shard = many(tmp_path / "d", 2)
    table = pq.read_table(shard).to_pylist()
    table[1]["meta"] = "{"
    pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(shard)), shard)
    data = PreparedDataset.open([str(tmp_path / "d")])
    with pytest.raises(DataError, match=r"row 1 \(id 'id-1'\) of .* cannot be read"):
        data[1]


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
