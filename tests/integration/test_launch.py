"""Two processes by `gpg-vl train --accelerate`: stopped on request, resumed; mistakes said once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gpg_vl.runs.resume import list_checkpoints
from tests.support.command_line import mistake
from tests.support.processes import ending
from tests.support.training import REWARD


def start(tiny_folder: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gpg_vl", "train", "--accelerate", "ddp", "--processes", "2"]
    command += ["--model.path", str(tiny_folder), "--out", str(out), "--run.threads", "1"]
    command += ["--rewards", json.dumps({f"{REWARD}:letters": 1.0}), "--algorithm.questions_per_step", "2"]
    command += ["--rollout.group_size", "2", "--rollout.max_new_tokens", "6", *options]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def steps(out: Path) -> list[int]:
    file = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def wait_for_steps(launcher: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(steps(out)) < count:
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()
        time.sleep(0.05)


def stopped_at(launcher: subprocess.Popen[str], out: Path) -> int:
    """The last step of a run that was just asked to stop, all of which is saved."""
    output, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, errors
    assert output.count("stopped after step") == 1, output
    done = steps(out)
    assert done == list(range(1, len(done) + 1))
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == [f"step_{len(done):06d}"]
    return len(done)


def test_a_run_stopped_by_sigterm_is_saved_and_goes_on(tiny_folder, scenes_folder, tmp_path):
    """First the launcher alone is signalled; then, as SLURM does, every process at once."""
    out = tmp_path / "run"
    options = ["--data.train", str(scenes_folder), "--run.save_every", "0", "--run.keep_last", "1"]
    launcher = start(tiny_folder, out, *options, "--run.steps", "100000")
    with ending(launcher):
        wait_for_steps(launcher, out, 2)
        launcher.send_signal(signal.SIGTERM)
        done = stopped_at(launcher, out)
    launcher = start(tiny_folder, out, *options, "--run.steps", "100000", "--resume", "auto")
    with ending(launcher):
        wait_for_steps(launcher, out, done + 2)
        processes = psutil.Process(launcher.pid)
        for process in [processes, *processes.children(recursive=True)]:
            process.send_signal(signal.SIGTERM)
        assert stopped_at(launcher, out) >= done + 2


def test_a_mistake_is_said_once(tiny_folder, tmp_path):
    launcher = start(tiny_folder, tmp_path / "run", "--data.train", "nowhere")
    with ending(launcher):
        output, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 2, errors
    assert errors.splitlines() == [
        "gpg-vl: error: 'nowhere' is not a prepared data set; make one with `gpg-vl prepare` "
        "(there is no such folder)"
    ]
    assert output == "" and not (tmp_path / "run").exists()


TRAIN = ("train", "--model.path", "model", "--data.train", "data")


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
@pytest.mark.parametrize(
    "command",
    [TRAIN, ("sft", *TRAIN[1:]), ("eval", "--model", "model", "--benchmark", "data"), ("quickstart",)],
    ids=lambda words: words[0],
)
def test_half_of_a_launch_is_refused_by_what_would_join(command, name, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(name, "1")
    message = mistake(capsys, *command, "--out", str(tmp_path / "out"))
    assert f"half of a launch's: {name}='1', but no" in message


def test_half_of_a_launch_is_nothing_to_other_commands(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    began = time.monotonic()
    assert "holds neither metrics" in mistake(capsys, "report", str(tmp_path))
    assert time.monotonic() - began < 4, "a follower of a launch lets the first process speak, 5 seconds long"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": {"type": "Adam"}}, "remove 'optimizer' for gpg-vl: optim.* decides"),
        ({"bf16": {"enabled": True}}, "remove 'bf16' for gpg-vl: model.precision decides"),
    ],
    ids=["optimizer", "bf16"],
)
def test_a_deepspeed_file_is_refused_before_anything_starts(
    settings, message, tiny_folder, scenes_folder, capsys, tmp_path
):
    file, config = tmp_path / "ds.json", tmp_path / "accelerate.yaml"
    file.write_text(json.dumps({"zero_optimization": {"stage": 2}} | settings))
    config.write_text(f"distributed_type: DEEPSPEED\ndeepspeed_config: {{deepspeed_config_file: {file}}}\n")
    options = ("--out", str(tmp_path / "out"), "--accelerate", str(config), "--processes", "2")
    inputs = ("--model.path", str(tiny_folder), "--data.train", str(scenes_folder))
    assert message in mistake(capsys, "train", *inputs, *options)
