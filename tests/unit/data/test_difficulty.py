"""Records of pass rates beside a set: written whole, told apart, refused where they are no longer of it."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpg_vl.data.difficulty import PassRate, read_record, record_file, record_names, write_record
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.manifest import MANIFEST
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.types import Sample
from tests.support.damage import draw_damage, outcome

RATES = {"0": PassRate(0, 4), "1": PassRate(1, 4, 7), "2": PassRate(4, 4)}


def prepared(folder, count=4):
    rows = [Sample(str(n), "t", f"{n}?", "5", "number") for n in range(count)]
    write_prepared(rows, folder, source="", converter="c", version="1")
    return str(folder)


def test_round_trip(tmp_path):
    folder = prepared(tmp_path / "d")
    before = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    written = write_record(folder, "m", RATES, {"model": "org/m", "seed": 3})
    read = read_record(folder, "m")
    assert read == written and read.rates == RATES
    assert read.about["model"] == "org/m" and read.about["seed"] == 3
    assert {path.name for path in (tmp_path / "d").iterdir()} == {*before, "difficulty"}
    assert all((tmp_path / "d" / name).read_bytes() == content for name, content in before.items())
    assert len(PreparedDataset.open([folder])) == 4


def test_any_tool_reads_it(tmp_path):
    folder = prepared(tmp_path / "d")
    write_record(folder, "m", RATES, {"model": "org/m"})
    assert pq.read_table(record_file(folder, "m")).to_pylist()[1] == {
        "id": "1",
        "pass_rate": 0.25,
        "right": 1,
        "samples": 4,
        "model": "org/m",
        "step": 7,
    }


def test_records_lie_side_by_side_the_newest_last(tmp_path):
    folder = prepared(tmp_path / "d")
    assert record_names(folder) == []
    for name in ("b", "a", "c"):
        write_record(folder, name, RATES, {"model": name})
    (tmp_path / "d" / "difficulty" / ".a.parquet.tmp").write_text("of a killed process")
    assert record_names(folder) == ["b", "a", "c"]
    write_record(folder, "b", RATES, {"model": "b"})
    assert record_names(folder) == ["a", "c", "b"]


@pytest.mark.parametrize("name", ["", ".m", "a/b", "../m", "a b"])
def test_a_name_that_is_no_files_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="cannot name a record"):
        record_file(str(tmp_path), name)


def test_a_record_that_is_not_there_names_those_that_are(tmp_path):
    folder = prepared(tmp_path / "d")
    write_record(folder, "there", RATES, {"model": "m"})
    with pytest.raises(DataError, match=r"no record 'other' of pass rates; there are: there\. `gpg-vl data"):
        read_record(folder, "other")


def test_nothing_graded_is_no_record(tmp_path):
    with pytest.raises(DataError, match=r"no question of .* has a graded answer"):
        write_record(prepared(tmp_path / "d"), "m", {}, {"model": "m"})
    assert not (tmp_path / "d" / "difficulty").exists()


def test_a_record_of_other_rows_is_refused(tmp_path):
    """A set that was prepared anew may have the same ids for other questions."""
    folder = prepared(tmp_path / "d")
    write_record(folder, "m", RATES, {"model": "m"})
    manifest = json.loads((tmp_path / "d" / MANIFEST).read_text())
    manifest = {key: value for key, value in manifest.items() if key != "seal"} | {"sha256": "0" * 64}
    (tmp_path / "d" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"recorded for other rows than .* holds by now"):
        read_record(folder, "m")


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_told_or_changes_nothing(tmp_path, seed):
    folder = prepared(tmp_path / "d")
    write_record(folder, "m", RATES, {"model": "m"})
    damage = draw_damage(tmp_path / "d" / "difficulty", seed)
    damage.inflict()
    found = outcome(lambda: read_record(folder, "m").rates, RATES)
    assert found == "refused" or (found == "same" and damage.kind in ("flipped", "cut", "denied")), damage


def test_a_record_that_is_no_parquet_is_told_in_one_line(tmp_path):
    folder = prepared(tmp_path / "d")
    path = record_file(folder, "m")
    path.parent.mkdir()
    pq.write_table(pq.read_table(next((tmp_path / "d").glob("data-*"))), path)
    for content in (path.read_bytes(), b"", b"{}", bytes(99)):
        path.write_bytes(content)
        for read in (lambda: read_record(folder, "m"), lambda: record_names(folder)):
            with pytest.raises(
                DataError, match=r"m\.parquet' is no record of pass rates, or is damaged"
            ) as error:
                read()
            assert len(str(error.value).splitlines()) == 1


def test_rates_changed_by_hand_are_refused(tmp_path):
    folder = prepared(tmp_path / "d")
    write_record(folder, "m", RATES, {"model": "m"})
    path = record_file(folder, "m")
    table = pq.read_table(path)
    place = table.schema.get_field_index("right")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array([1, 1, 4])), path)
    with pytest.raises(DataError, match="its pass rates are others than were written"):
        read_record(folder, "m")
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(DataError, match="it does not say whose answers it counts"):
        read_record(folder, "m")
