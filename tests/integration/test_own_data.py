"""docs/own_data.md: every command of it, in its order, on the files that stand on it."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import run
from tests.support.pages import DOCS, shell_lines
from tests.support.serving import served

PAGE = DOCS / "own_data.md"


def carry_out(line: str, folder: Path) -> None:
    """Run a line of the page in this process, but for scripts, and the app, which is asked for its page."""
    words = shlex.split(line)
    if words[:2] == ["gpg-vl", "demo"]:
        with served(folder, *words[2:]) as address:
            assert "gpg-vl" in httpx.get(address).text
    elif words[0] == "gpg-vl":
        run(*words[1:])
    else:
        assert words[0] == "python"
        subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `cp -r docs/examples/own_data mine; cd mine` makes."""
    mine = Path(shutil.copytree(DOCS / "examples" / "own_data", tmp_path / "mine"))
    monkeypatch.chdir(mine)
    return mine


def test_every_command_of_the_page(folder, capsys):
    said = {}
    for line in shell_lines(PAGE, "sh"):
        carry_out(line, folder)
        said.setdefault(" ".join(line.split()[1:3]), capsys.readouterr().out)
    assert "passed: no trick scores as high" in said["rewards audit"]
    assert "| near.py:near | 3    | 0.5 " in said["rewards score"]
    assert "fail" not in said["preflight --config"]
    before, after = (
        json.loads((folder / name).read_text())["totals"] for name in ("before.json", "after.json")
    )
    assert after["accuracy"]["mean"] > before["accuracy"]["mean"] + 0.1
    assert {path.suffix for path in folder.iterdir()} >= {".png", ".json"}
    assert (folder / "runs" / "discs" / "report.html").stat().st_size > 10_000


def test_what_the_page_says_of_the_audit(folder, capsys):
    reward = folder / "near.py"
    reward.write_text(reward.read_text().replace(" if math.isfinite(distance) else 0.0", ""))
    lines = [line for line in shell_lines(PAGE, "sh") if "draw.py" in line or "prepare" in line]
    for line in lines[:2]:
        carry_out(line, folder)
    with pytest.raises(SystemExit) as exit:
        run("rewards", "audit", "near.py:near", "--data", "data/discs")
    assert exit.value.code == 1
    quoted = PAGE.read_text().partition("FAILS:")[2].partition("```")[0]
    assert f"FAILS:{quoted}" in capsys.readouterr().out
