import io

import datasets
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from gpg_vl.data.images import inside
from gpg_vl.data_prep._sources import dataset_rows, json_lines
from gpg_vl.errors import ConfigurationError, DataError, RowError

README = """---
configs:
- config_name: all
  data_files: [{split: train, path: all/*.parquet}]
- config_name: part
  data_files: [{split: test, path: part.parquet}]
---
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (2, 2), value).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path, names):
    """Rows as the hub stores them: an image column and a column of lists of images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = Features({"name": Value("string"), "image": ImageFeature(), "images": List(ImageFeature())})
    rows = [
        {
            "name": name,
            "image": {"bytes": png(n), "path": None},
            "images": [{"bytes": png(n), "path": None}] * 2,
        }
        for n, name in enumerate(names)
    ]
    Dataset.from_list(rows, features=features).to_parquet(path)


@pytest.fixture
def copies(tmp_path):
    """Local copies: a repository's folder, one of several parts, and files without split names."""
    parquet(tmp_path / "repo" / "data" / "train-00000-of-00002.parquet", "ab")
    parquet(tmp_path / "repo" / "data" / "train-00001-of-00002.parquet", "c")
    parquet(tmp_path / "repo" / "data" / "test-00000-of-00001.parquet", "de")
    parquet(tmp_path / "parts" / "all" / "x.parquet", "fg")
    parquet(tmp_path / "parts" / "part.parquet", "h")
    (tmp_path / "parts" / "README.md").write_text(README)
    parquet(tmp_path / "files" / "odd [name].parquet", "ij")
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "test.jsonl").write_text('{"name": "k"}\n{"name": "l"}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("source", "options", "names"),
    [
        ("repo", {}, "abcde"),
        ("repo", {"splits": ("validation", "test")}, "de"),
        ("repo", {"splits": ("train",), "config": "not in a copy"}, "abc"),
        ("parts", {"config": "all"}, "fg"),
        ("parts", {"config": "part", "splits": ("test",)}, "h"),
        ("files", {}, "ij"),
        ("files/odd [name].parquet", {"splits": ("test",)}, "ij"),
        ("lines", {"splits": ("test",)}, "kl"),
        ("lines/test.jsonl", {}, "kl"),
    ],
)
def test_rows_of_a_local_copy(copies, source, options, names):
    rows = list(dataset_rows(str(copies / source), "LAYOUT", **options))
    assert "".join(sorted(row["name"] for row in rows)) == names
    for row in rows:
        for image in [row["image"], *row["images"]] if "image" in row else []:
            assert image["bytes"].startswith(b"\x89PNG") and image["path"] is None


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("repo", {"splits": ("dev", "val")}, "has no split dev or val; it has: (train, test|test, train)"),
        ("parts", {}, "Config name is missing.*a local copy is LAYOUT"),
        ("nowhere", {}, "no file or folder .*nowhere'; --source is a hub id, or a local copy: LAYOUT"),
        ("empty", {}, "any data files; a local copy is LAYOUT"),
        ("broken.parquet", {}, "broken.parquet' cannot be read: .*; a local copy is LAYOUT"),
        ("rows.txt", {}, "'rows.txt' is no file of rows; known: .parquet, .jsonl, .json"),
    ],
)
def test_what_cannot_be_read_says_what_would_be(copies, source, options, message):
    (copies / "empty").mkdir()
    (copies / "broken.parquet").write_bytes(b"no parquet")
    (copies / "rows.txt").write_text("no rows")
    with pytest.raises(DataError, match=f"(?s){message}"):
        list(dataset_rows(str(copies / source), "LAYOUT", **options))


def test_a_hub_id_without_a_network_says_so():
    with pytest.raises(DataError, match=r"there is no network, .* --source may be a local copy: LAYOUT"):
        list(dataset_rows("nyu-visionx/CV-Bench", "LAYOUT"))  # conftest sets HF_HUB_OFFLINE


def test_no_source_is_explained():
    with pytest.raises(ConfigurationError, match="needs --source: a hub id, or a local copy: LAYOUT"):
        list(dataset_rows("", "LAYOUT"))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.png").write_bytes(b"")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.png").write_bytes(b"")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "link.png").symlink_to(folder / "a" / "b.png")
    return folder


@pytest.mark.parametrize(
    "path", ["a/b.png", "a\\b.png", "./a//b.png", "a/../a/b.png", "link.png", "{root}/a/b.png"]
)
def test_paths_inside(root, path):
    assert inside(root, path.format(root=root), "row 1") == root / "a" / "b.png"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret/s.png", "path outside the folder"),
        ("..\\secret\\s.png", "path outside the folder"),
        ("a/../../secret/s.png", "path outside the folder"),
        ("/etc/passwd", "path outside the folder"),
        ("{root}2/s.png", "path outside the folder"),
        ("out/s.png", "path outside the folder"),
        ("a\0b", "unusable path"),
        ("", "unusable path"),
        ("  ", "unusable path"),
        (None, "unusable path"),
        (3, "unusable path"),
        (["a"], "unusable path"),
    ],
)
def test_paths_outside(root, path, reason):
    given = path.format(root=root) if isinstance(path, str) else path
    with pytest.raises(RowError, match=r"^row 1: ") as caught:
        inside(root, given, "row 1")
    assert caught.value.reason == reason


def test_links_in_a_circle_lead_nowhere(root):
    with pytest.raises(RowError):
        inside(root, "circle/x.png", "row 1").stat()


def test_json_lines(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes('\ufeff{"a": 1}\r\n\n{"b": "ü\u2028"}'.encode())
    assert list(json_lines(file)) == [(1, {"a": 1}), (3, {"b": "ü\u2028"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{}\n{"a": ', "rows.jsonl line 2 is no JSON: "),
        (b"{}\n\n[1]\n", "rows.jsonl line 3 is no JSON object"),
        (b'{"a": "\xff"}', "rows.jsonl is not in UTF-8: "),
        (None, "rows.jsonl' cannot be read: No such file"),
    ],
)
def test_broken_lines(tmp_path, content, message):
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(json_lines(file))
