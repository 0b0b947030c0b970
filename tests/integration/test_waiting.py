"""A launched process whose peers are not there: it says so and waits; one that cannot meet them ends."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.training import REWARD

NOTE = "gpg-vl: rank 0 of 2 (RANK, WORLD_SIZE) still waits for the others at localhost:{port} (MASTER_ADDR"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start() -> Iterator:
    """`gpg-vl` as one rank of two, without a launcher; killed at the end of the test."""
    with ExitStack() as stack:

        def run(arguments: list[str], rank: int, port: int, log: Path) -> subprocess.Popen[bytes]:
            launch = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            launch |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
            file = stack.enter_context(log.open("wb"))
            command = [sys.executable, "-m", "gpg_vl", *arguments]
            process = subprocess.Popen(
                command, env=os.environ | launch, stdout=subprocess.DEVNULL, stderr=file
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


@pytest.fixture
def commands(tiny_folder, scenes_folder, tmp_path) -> dict[str, list[str]]:
    """Every command that joins processes, with as little to do as it can have."""
    both = ["--model.path", str(tiny_folder), "--data.train", str(scenes_folder), "--run.steps", "1"]
    rollout = ["--algorithm.questions_per_step", "2", "--rollout.group_size", "2"]
    rollout += ["--rollout.max_new_tokens", "4", "--rewards", json.dumps({f"{REWARD}:letters": 1.0})]
    return {
        "train": ["train", "--out", str(tmp_path / "train"), *both, *rollout],
        "sft": ["sft", "--out", str(tmp_path / "sft"), *both, "--batch_size", "2"],
        "eval": ["eval", "--model", str(tiny_folder), "--benchmark", str(scenes_folder), "--limit", "2"],
    }


def test_a_process_says_what_it_waits_for_and_goes_on_waiting(start, commands, tmp_path):
    waiting = {}
    for name, command in commands.items():
        port, log = free_port(), tmp_path / f"{name}.log"
        waiting[name] = (start(command, 0, port, log), port, log)
    deadline = time.monotonic() + 240
    for process, port, log in waiting.values():
        while NOTE.format(port=port) not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
    process, port, log = waiting["train"]
    other = start(commands["train"], 1, port, tmp_path / "train.1.log")
    assert process.wait(240) == other.wait(240) == 0, log.read_text()
    assert log.read_text().count("still waits") == 1
    assert "still waits" not in (tmp_path / "train.1.log").read_text()


def test_a_place_to_meet_that_is_taken_ends_the_process(start, commands, tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port, log = taken.getsockname()[1], tmp_path / "train.log"
        assert start(commands["train"], 0, port, log).wait(240) == 2
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("gpg-vl: ")]
    assert f"error: rank 0 of 2 cannot meet the others at localhost:{port}: " in line
