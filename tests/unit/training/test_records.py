import json
import os
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from gpg_vl.training.records import MetricsFile
from gpg_vl.types import Sample
from tests.support.runs import sampled_group, write_step


def group(number, texts, round=0):
    return sampled_group(Sample(f"q-{number}", "t", "Which?", "(A)", "choice", ("x", "y")), texts, round)


def write(path, groups):
    write_step(path, groups)
    return pq.read_table(path).to_pylist()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_are_one_object_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, step=0)
    file.write(1, {"loss": 0.5, "groups/valid": 3})
    file.write(2, {"loss": 0.25})
    assert lines(path) == [{"step": 1, "loss": 0.5, "groups/valid": 3}, {"step": 2, "loss": 0.25}]


def test_reopened_metrics_drop_later_steps_and_a_half_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, step=0)
    for step in (1, 2, 3, 4):
        file.write(step, {"loss": step / 2})
    with path.open("a") as raw:
        raw.write('{"step": 5, "lo')
    MetricsFile(path, step=2).write(3, {"loss": 9.0})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 0.5), (2, 1.0), (3, 9.0)]
    assert [f.name for f in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_run_from_the_start_drops_all_metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    MetricsFile(path, step=0)
    assert path.read_text() == ""


def test_rollouts_allow_recomputing_the_advantages(tmp_path):
    right, wrong, bad = "<think>a</think><answer>(A)</answer>", "<answer>(B)</answer>", "no tags"
    groups = [
        group(0, [right, wrong, bad]),  # 1.5, 0, 0
        group(1, [right, right, right]),  # invalid
        group(0, [bad, wrong, right], round=1),  # the same question once more
        group(2, [bad, bad, bad], round=1),  # invalid
    ]
    rows = write(tmp_path / "rollouts" / "step_000001.parquet", groups)
    assert len(rows) == 12
    assert list(rows[0]) == [
        *("group", "round", "answer_index", "prompt_id", "task", "gold", "text", "answer"),
        *("finish_reason", "token_count", "rewards", "reward", "advantage", "valid", "version"),
    ]
    assert [row["group"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [row["answer_index"] for row in rows] == [0, 1, 2] * 4
    assert [row["prompt_id"] for row in rows[::3]] == ["q-0", "q-1", "q-0", "q-2"]
    assert [row["round"] for row in rows[::3]] == [0, 0, 1, 1]
    assert [row["token_count"] for row in rows[:3]] == [1, 2, 3]
    assert [row["answer"] for row in rows[:3]] == ["(A)", "(B)", None]
    assert json.loads(rows[0]["rewards"]) == {"choice": 1.0, "format": 1.0}

    by_group = [[row["reward"] for row in rows if row["group"] == b] for b in range(4)]
    assert by_group == [[1.5, 0.0, 0.0], [1.5] * 3, [0.0, 0.0, 1.5], [0.0] * 3]
    valid = {row["group"] for row in rows if row["valid"]}
    assert valid == {b for b, scores in enumerate(by_group) if max(scores) - min(scores) > 1e-8} == {0, 2}
    assert len(by_group) / len(valid) == 2.0  # alpha = B / (B - M)
    assert [row["advantage"] for row in rows[:6]] == [1.0, -0.5, -0.5, 0.0, 0.0, 0.0]


def test_rollouts_say_which_weights_sampled_them(tmp_path):
    one = group(0, ["a", "<answer>(A)</answer>"])
    answers = tuple(replace(a, version=6 + n) for n, a in enumerate(one.answered.answers))
    rows = write(tmp_path / "step.parquet", [replace(one, answered=replace(one.answered, answers=answers))])
    assert [row["version"] for row in rows] == [6, 7]


def test_files_of_all_steps_have_one_schema(tmp_path):
    write(tmp_path / "step_000001.parquet", [group(0, ["none", "of them"])])  # `answer` is None throughout
    write(tmp_path / "step_000002.parquet", [group(0, ["<answer>(A)</answer>", ""])])
    assert pq.read_table(tmp_path).column("answer").to_pylist() == [None, None, "(A)", None]
    assert len(list(tmp_path.iterdir())) == 2


LOGGING = """
from accelerate import Accelerator
from gpg_vl.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.training.trackers import Trackers

run = RunConfig(trackers=["wandb"])
config = TrainConfig("run", ModelConfig(path="m"), data=DataConfig(train=["d"]), run=run)
try:
    Trackers(Accelerator(log_with="wandb", cpu=True), config)
except ConfigurationError as error:
    print(error)
"""


def test_wandb_without_a_key_is_the_users_to_mend(tmp_path):
    pytest.importorskip("wandb")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    command = [sys.executable, "-c", LOGGING]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith("run.trackers wandb: No API key configured"), done.stderr
