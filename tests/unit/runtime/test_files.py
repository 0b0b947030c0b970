import errno
import json
from pathlib import Path

import pytest

from gpg_vl.errors import DataError, UserError, WriteError
from gpg_vl.runtime.files import (
    DIGESTS,
    append,
    damaged_file,
    replacing,
    sealed,
    unsealed,
    write_digests,
    write_whole,
)
from tests.support.full_disk import full_disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_nothing_is_named_and_the_old_file_stays(tmp_path, monkeypatch, code):
    write_whole(tmp_path / "a", "old")
    full_disk(monkeypatch, tmp_path, code=code)
    for write in (write_whole, append):
        with pytest.raises(WriteError, match=r"cannot write '.*/a': \w+") as raised:
            write(tmp_path / "a", "new" * 99)
        assert isinstance(raised.value.__cause__, OSError)
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(WriteError, match="Is a directory"):
        write_whole(tmp_path / "a", "x")
    (tmp_path / "b").write_text("")
    with pytest.raises(WriteError, match=r"cannot write .*/b/c"):
        write_whole(tmp_path / "b" / "c", "x")


def test_other_errors_stay_what_they_are_and_leave_nothing(tmp_path):
    for error in (DataError("no row"), KeyError("bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)), replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise error
        assert list(tmp_path.iterdir()) == []


def test_a_seal_shows_what_was_changed(tmp_path):
    values = {"a": 1.5, "b": [1, ("x", None)], "c": {2: "ä", 10: float("inf")}}
    read = json.loads(json.dumps(sealed(values)))
    assert unsealed(read, Path("f")) == json.loads(json.dumps(values))
    assert unsealed({"a": 1}, Path("f")) == {"a": 1}  # an earlier file has none
    for changed in (read | {"a": 1.25}, read | {"d": 0}, {k: v for k, v in read.items() if k != "a"}):
        with pytest.raises(UserError, match="'f' is damaged, or was changed by hand"):
            unsealed(changed, Path("f"))


def test_digests_show_what_was_changed(tmp_path):
    (tmp_path / "one").write_bytes(b"1" * 99)
    (tmp_path / "two").write_bytes(b"2")
    assert damaged_file(tmp_path) is None  # an earlier folder has none
    write_digests(tmp_path)
    (tmp_path / "notes").write_text("of the user")
    assert damaged_file(tmp_path) is None
    (tmp_path / "one").write_bytes(b"1" * 98 + b"0")
    assert damaged_file(tmp_path) == "one"
    (tmp_path / "one").write_bytes(b"1" * 99)
    (tmp_path / "two").unlink()
    assert damaged_file(tmp_path) == str(tmp_path / "two")
    (tmp_path / DIGESTS).write_text("{")
    assert damaged_file(tmp_path) == DIGESTS
