"""The wheel alone: installed in an environment of its own, and toured from a folder without the sources."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.wheels import build_wheel

TOUR = ("--train_rows", "64", "--held_out_rows", "16", "--warm_start_steps", "2", "--steps", "2")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel; what it needs comes from this one, to spare 6 GB."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(
        subprocess.run([python, "-c", place], check=True, capture_output=True, text=True).stdout.strip()
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    # Behind the wheel's own packages on the path, and without this environment's own .pth files: an editable
    # install of the checkout is one.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def ran(installed: Path, folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [installed / words[0], *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel(installed, tmp_path):
    where = ran(installed, tmp_path, "python", "-c", "import gpg_vl.rewards; print(gpg_vl.rewards.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)
    output = ran(installed, tmp_path, "gpg-vl", "quickstart", "--out", "tour", *TOUR)
    assert "accuracy on 16 held-out questions" in output
    summary = json.loads((tmp_path / "tour" / "summary.json").read_text())
    assert summary["trained"]["step"] == 2
    assert (tmp_path / "tour" / "gpg" / "report.html").is_file()
    assert "| choice " in ran(installed, tmp_path, "gpg-vl", "rewards", "list")
    assert "demo" in ran(installed, tmp_path, "gpg-vl")
