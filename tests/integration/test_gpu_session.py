"""`benchmarks.gpu_session`: all its stages on a CPU, and what becomes of stages that fail."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_session, gpu_stages, machine
from benchmarks.gpu_report import decoded, read_lines, report
from tests.support.processes import ending
from tests.support.waiting import running, until

ROOT = Path(__file__).resolve().parents[2]
LONG = ["compiled"]
"""A compiler needs most of a minute for it."""
SHIELDED = """
import os, runpy, socket, sys, torch

def touched(*given):
    assert os.getpid() != session, "the session touched the GPU, and its stages could not"
    return 0

def connect(*given):
    raise OSError(f"there is no network: {given}")

session = os.getpid()
os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # set by deepspeed: it would hide a look at the GPU
torch._C._cuda_getDeviceCount = torch._C._cuda_init = touched
socket.socket.connect = connect
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # the quickstart tries numbers of threads
sys.argv[0] = "gpu_session"
runpy.run_module("benchmarks.gpu_session", run_name="__main__")
"""
"""Runs a session without a network, that fails if it looks for a GPU itself."""


def session(out: Path, processor: Path, stages: list[str], **settings: str) -> list[dict]:
    """The lines of a tiny session on the CPU."""
    options = ["--processor", processor, "--out", out, "--device", "cpu", "--small", "--stages", *stages]
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | settings
    command = [sys.executable, "-c", SHIELDED, *map(str, options)]
    subprocess.run(command, env=os.environ | settings, stdout=subprocess.DEVNULL, check=True)
    return read_lines([out]).read


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The file of a session of all stages but those that take long, without git."""
    folder = tmp_path_factory.mktemp("session")
    stages = [name for name in gpu_session.SECONDS if name not in LONG]
    session(folder / "gpu.jsonl", tiny_folder, stages, PATH=str(folder))
    return folder / "gpu.jsonl"


def test_every_stage_runs_on_a_cpu(small):
    lines = read_lines([small]).read
    assert not [line for line in lines if "failed" in line]
    ended = [line["stage"] for line in lines if set(line) == {"stage", "seconds"}]
    assert ended == [name for name in gpu_session.SECONDS if name not in LONG]
    assert lines[0]["commit"] == "unknown"


def test_every_stage_has_its_figures(small):
    lines = read_lines([small])
    assert len([line for line in lines.of("probe") if "attention" in line]) == 10
    decode = {row["rows"]: row for row in decoded(lines, "decode", "decode_more")}
    assert sorted(decode) == [4, 8, 16]
    assert decode[8]["share"] == pytest.approx(decode[8]["tokens/s"] / decode[8]["floor"])
    assert decode[8]["ms a token"] == pytest.approx(8e3 / decode[8]["tokens/s"])
    assert decode[16]["generate rows"] == 16
    # two layers of at least ten products each, and the vocabulary's
    assert decode[8]["kernels a token"] > 20
    assert 0.8 < lines.merged("memory")["ratio"] < 1.3
    assert lines.merged("memory")["step"]["logprob_gap"] < 1e-5
    for stage in ("tests", "memory_tests"):
        assert sum(lines.merged(stage)["outcomes"].values()) >= 3
    tour = lines.merged("quickstart")
    assert tour["last loss"] < tour["first loss"]
    assert tour["largest gap"] < 1e-5


def test_the_trace_is_one_step_of_chromes_format(small):
    found = read_lines([small]).merged("trace")
    with gzip.open(small.with_name(found["trace"])) as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("gpg_vl.update") == 1
    assert found["MiB"] < 16
    assert "aten::mm" in found["largest"]


def test_the_report_of_a_session_has_all_tables(small):
    text = report([small])
    assert text.startswith("A tiny model")
    for part in (
        "Attention",
        "Decoding with LoRA",
        "Gradient pass",
        "Memory",
        "Quickstart",
        "Tests",
        "Trace",
    ):
        assert f"**{part}" in text
    assert "failed:" not in text


@pytest.mark.slow
def test_the_compiled_pass_runs_on_a_cpu(tmp_path, tiny_folder):
    lines = session(tmp_path / "gpu.jsonl", tiny_folder, ["compiled"])
    assert [line["stage"] for line in lines] == ["session", "model", "model", "model", "compiled", "compiled"]
    assert lines[4]["tokens/s"] > 0


def failing(out: Path, *stages: str, **settings: str) -> subprocess.Popen:
    """A session of the stages in `tests.support.stages`."""
    command = [sys.executable, "-m", "tests.support.stages", "--processor", "p", "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--stages", *stages], cwd=ROOT, env=os.environ | settings, **pipes)


def end_of(lines: list[dict], stage: str) -> dict:
    return [line for line in lines if line["stage"] == stage][-1]


def test_a_stage_that_fails_takes_no_other_with_it(tmp_path):
    out = tmp_path / "gpu.jsonl"
    stages = ["tests", "memory_tests", "quickstart", "decode", "probe"]
    run = failing(out, *stages, CARD="1")
    with ending(run):
        shown = run.communicate(timeout=60)[0]
    assert run.returncode == 0
    lines = read_lines([out])
    assert lines.unreadable == 1  # the half line, on which nothing else stands
    assert end_of(lines.read, "tests")["failed"].startswith("ended by SIGABRT")
    assert end_of(lines.read, "memory_tests")["failed"] == "exit status 7: no room"
    assert end_of(lines.read, "quickstart")["failed"] == "took longer than 2 s"
    assert end_of(lines.read, "model")["failed"] == "exit status 1: for it"
    assert end_of(lines.read, "decode")["failed"] == "there is no model"
    assert "failed" not in end_of(lines.read, "probe")
    assert {"stage": "tests", "a": 1} in lines.read
    assert '{"stage": "tests", "a": 1}' in shown.splitlines()
    pids = lines.merged("quickstart")["pids"]
    until(lambda: not any(map(running, [*pids, lines.merged("probe")["child"]])))
    assert "| quickstart" in report([out])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_leaves_nothing_behind(tmp_path, number):
    out = tmp_path / "gpu.jsonl"
    run = failing(out, "quickstart", "probe", CARD="1", QUICKSTART="60")
    with ending(run):
        until(lambda: out.is_file() and '"pids"' in out.read_text())
        run.send_signal(number)
        errors = run.communicate(timeout=30)[1]
    assert run.returncode == 130
    assert errors == f"interrupted; what was measured is in {out}\n"
    *_, figures, end = read_lines([out]).read
    assert end["failed"] == "interrupted"
    until(lambda: not any(map(running, figures["pids"])))


def test_a_second_session_is_appended(tmp_path):
    out = tmp_path / "new" / "gpu.jsonl"
    for _ in range(2):
        failing(out, "probe", CARD="1").communicate(timeout=60)
    stages = [line["stage"] for line in read_lines([out]).read]
    assert stages == ["session", "probe", "probe", "probe"] * 2
    pids = [line["pid"] for line in read_lines([out]).read if "pid" in line]
    assert len(set(pids)) == 2  # processes of their own


def test_what_is_missing_is_one_line(tmp_path):
    out = tmp_path / "gpu.jsonl"
    run = failing(out, "decode", "probe")
    assert run.communicate(timeout=60)[1] == "no card here\n"
    assert run.returncode == 1
    assert not out.exists()


def test_no_stage_begins_without_time(tmp_path):
    command = [sys.executable, "-m", "tests.support.stages", "--out", str(tmp_path / "gpu.jsonl")]
    options = ["--stages", "probe", "--minutes", "-1"]
    subprocess.run([*command, *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert end_of(read_lines([tmp_path / "gpu.jsonl"]).read, "probe")["failed"] == "no time was left"


def test_gpu_and_processor_are_looked_for(tmp_path, tiny_folder, monkeypatch):
    def look(device: str, processor: Path, needs_model: bool = True) -> list:
        place = gpu_stages.place(device, True, str(processor), tmp_path, tmp_path / "gpu.jsonl")
        return list(gpu_stages.check(place, needs_model))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device is here"):
        look("cuda", tiny_folder)
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SystemExit, match="is none that can be loaded"):
            look("cpu", missing)
    assert look("cpu", tmp_path, needs_model=False) == []
    assert look("cpu", tiny_folder) == []


def test_every_stage_is_a_function():
    assert all(callable(getattr(gpu_stages, name)) for name in gpu_session.SECONDS)


@pytest.mark.parametrize(
    ("chosen", "planned"),
    [
        (["probe", "tests"], ["probe", "tests"]),
        (["probe", "lora", "model", "lora"], ["probe", "model", "lora"]),
        (["model", "lora"], ["model", "lora"]),
        (["trace"], ["model", "trace"]),
    ],
)
def test_the_model_is_made_before_it_is_needed(chosen, planned):
    assert gpu_session.plan(chosen) == planned


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x", "--stages", "decoding"], "invalid choice: 'decoding'"),
        (["--out", "x", "--stages", "decode"], "--processor is needed to make the model"),
        (["--stages", "probe"], "--out is needed"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["gpu_session", *words])
    with pytest.raises(SystemExit, match="2"):
        gpu_session.main()
    assert said in capsys.readouterr().err


def test_the_commit_is_unknown_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() == "unknown"


def test_outcomes_of_tests_are_counted(tmp_path):
    file = tmp_path / "test_made.py"
    file.write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.gpu\n"
        "def test_right(): pass\n"
        "def test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): assert 0\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError('broken')\n"
        "def test_without(broken): pass\n"
    )
    code = f"""
import json, sys, pathlib
from benchmarks.gpu_tests import run_tests
print(json.dumps(run_tests(sys.argv[1], [pathlib.Path({str(file)!r})])))
"""
    command = {"cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code, "not thing"], **command)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["outcomes"] == {"passed": 1, "failed": 2, "skipped": 1}
    assert [text.split("::")[-1] for text in found["failures"]] == [
        "test_wrong: E assert 1 == 2",
        "test_without: E ValueError: broken",
    ]
    none = subprocess.run([sys.executable, "-c", code, "thing"], **command)
    assert none.stderr.splitlines()[-1] == "pytest ended with NO_TESTS_COLLECTED"
