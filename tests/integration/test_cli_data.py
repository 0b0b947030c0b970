"""Making data sets and looking into them, as a user types it."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from gpg_vl.data.manifest import MANIFEST
from gpg_vl.data.prepared import SKIPPED
from tests.support.command_line import mistake, run
from tests.support.inputs import SHARED, noise
from tests.support.processes import ending

PROCESSOR = SHARED / "models" / "qwen2vl_processor"
QUESTION = {"question": "Which?", "answer": "B", "choices": ["x", "y"], "image": "a.png"}
CONVERTER = """
import time
from gpg_vl.registry import converter
from gpg_vl.types import Sample

@converter("slow")
def slow(source, *, pause: float = 0.0):
    for number in range(100_000):
        time.sleep(pause)
        yield Sample(f"{number}", "t", "Q?", "65", "number")
"""


@pytest.fixture
def file(tmp_path):
    """Four rows, two of them bad."""
    noise(40, 30).save(tmp_path / "a.png")
    rows = [QUESTION, {**QUESTION, "image": "none.png"}, {**QUESTION, "answer": "z"}, QUESTION]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_prepare_skips_and_says_so(file, tmp_path, capsys):
    out = tmp_path / "d"
    run("prepare", "jsonl", "--source", file, "--out", out)
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: 2 rows",
        "  jsonl: 2",
        f"skipped 2 rows, listed in {out / SKIPPED}:",
        "  answer not among the choices: 1",
        "  missing image: 1",
    ]
    run("prepare", "jsonl", "--source", file, "--out", tmp_path / "one", "--limit", "1", "--task", "zoo")
    assert json.loads((tmp_path / "one" / MANIFEST).read_text())["tasks"] == {"zoo": 1}


def test_strict_fails_on_the_first_bad_row(file, tmp_path, capsys):
    message = mistake(capsys, "prepare", "jsonl", "--source", file, "--out", tmp_path / "d", "--strict")
    assert "mine.jsonl line 2: no file 'none.png'" in message
    assert not (tmp_path / "d").exists()


def test_data_show_and_overlap(file, tmp_path, capsys):
    run("prepare", "jsonl", "--source", file, "--out", tmp_path / "d")
    capsys.readouterr()
    run("data", "show", tmp_path / "d", "--out", tmp_path / "sheet.png", "--samples", "2")
    output = capsys.readouterr().out
    assert (
        "| jsonl | 2    | choice      | (B) 100.0% |" in output
        and f"samples: {tmp_path / 'sheet.png'}" in output
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
    run("data", "overlap", tmp_path / "d", tmp_path / "d", "--examples", "1")
    output = capsys.readouterr().out
    assert "items:     2 rows of A (100.0%)" in output and "  A mine.jsonl:1  =  B mine.jsonl:1" in output


@pytest.mark.skipif(not PROCESSOR.is_dir(), reason="Qwen2-VL's processor is not in ../shared/models")
def test_data_show_with_a_real_processor(file, tmp_path, capsys):
    run("prepare", "jsonl", "--source", file, "--out", tmp_path / "d")
    model = shutil.copytree(PROCESSOR, tmp_path / "model")
    (model / "config.json").write_text('{"model_type": "qwen2_vl"}')
    run("data", "show", tmp_path / "d", "--processor", model)
    assert "tokens, images included" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shw", "d"], "unknown command 'shw'; known: difficulty, overlap, show. Did you mean 'show'?"),
        (["show", "nowhere"], "'nowhere' is not a prepared data set; make one with `gpg-vl prepare`"),
        (["overlap", "nowhere", "either"], "'nowhere' is not a prepared data set"),
    ],
)
def test_mistakes_of_data(capsys, arguments, message):
    assert message in mistake(capsys, "data", *arguments)


def test_data_alone_lists_its_actions(capsys):
    run("data")
    output = capsys.readouterr().out
    assert "  show  " in output and "  overlap  " in output


def test_a_converter_of_ones_own_file(tmp_path, capsys):
    (tmp_path / "my.converter.py").write_text(CONVERTER)
    run("prepare", f"{tmp_path}/my.converter.py:slow", "--out", tmp_path / "d", "--limit", "3")
    assert "3 rows" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_killed_conversion_leaves_nothing_behind(tmp_path, number):
    (tmp_path / "mine.py").write_text(CONVERTER)
    out = tmp_path / "sets" / "d"
    command = [sys.executable, "-m", "gpg_vl", "prepare", f"{tmp_path}/mine.py:slow", "--out", str(out)]
    # A shell starts background jobs with SIGINT ignored, which children inherit.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command += ["--pause", "0.001"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 60
    with ending(process):
        while not list(tmp_path.glob("sets/.d-*/data-*.parquet")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors
    assert list((tmp_path / "sets").iterdir()) == []
