"""docs/migrating.md: its commands on small files of other tools, and its names beside the code's."""

import re
import shlex
import shutil

import pytest

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.interface.habits import _OPTIONS
from tests.support.command_line import run
from tests.support.inputs import noise
from tests.support.pages import DOCS, ROOT, named, shell_lines, table

PAGE = DOCS / "migrating.md"
ROWS = {
    "trl": [("How many discs?", "3")] * 3,
    "easyr1": [("Find x.", "3"), ("What is the area?", "48")],
    "verl": [("Find x.", "3"), ("What is the area?", "48")],
    "vlm_r1": [
        ("What number of purple metallic balls are there?", "0"),
        ("What number in total within the two images?", "3"),
    ],
    "vlm_r1_boxes": [
        (
            "Please provide the bounding box coordinate of the region this sentence describes: red disc.",
            "[[10.0, 20.0, 60.0, 80.0]]",
        )
    ],
}


@pytest.mark.parametrize("line", list(shell_lines(PAGE, "sh")), ids=lambda line: line.split()[4])
def test_files_of_other_tools_go_in_with_one_command(line, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "tests" / "support" / "other_tools", tmp_path, dirs_exist_ok=True)
    noise(100, 90).save(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    run(*words, "--strict")
    folder = words[words.index("--out") + 1]
    rows = PreparedDataset.open([folder])
    read = [(rows[number].question, rows[number].answer) for number in range(len(rows))]
    assert read == ROWS[folder.removeprefix("data/")]
    assert all(rows[number].images for number in range(len(rows)))


def test_every_file_has_a_command():
    files = {path.stem for path in (ROOT / "tests" / "support" / "other_tools").iterdir()}
    assert (
        files == ROWS.keys() == {re.search(r"--out data/(\w+)", line)[1] for line in shell_lines(PAGE, "sh")}
    )


def test_what_trl_calls_it_is_what_python_says_too():
    told = {theirs: row[1] for row in table(PAGE, "`GRPOConfig`") for theirs in named(row[0])}
    for theirs, ours in _OPTIONS.items():
        assert named(told[theirs])[:1] == [{"steps": "run.steps"}.get(ours, ours)], theirs
