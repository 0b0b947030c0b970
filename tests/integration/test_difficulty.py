"""`gpg-vl data difficulty` on the tiny model, and what a run makes of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from gpg_vl.data.difficulty import read_record, record_file, record_names
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.runs.files import read_evaluation
from tests.support.command_line import mistake, run
from tests.support.training import REWARD

SHORT = ("--max_new_tokens", "12", "--max_concurrent", "8")


@pytest.fixture
def scenes(scenes_folder, tmp_path):
    return shutil.copytree(scenes_folder, tmp_path / "scenes")


def difficulty(folder, model, *options):
    return [str(word) for word in ("data", "difficulty", folder, "--model", model, *SHORT, *options)]


def test_it_records_what_an_evaluation_counts(scenes, tiny_folder, tmp_path, capsys):
    reward = f"{REWARD}:letters"
    asked = ("--samples", "4", "--limit", "6", "--reward", reward, "--seed", "5")
    run(*difficulty(scenes, tiny_folder, *asked, "--name", "letters"))
    told = capsys.readouterr().out
    assert f"letters.parquet: 4 answers a question of {tiny_folder}" in told
    assert "| task" in told and "| (.5, .75] |" in told and "| total" in told
    evaluated = ("--samples", "4", "--limit", "6", "--seed", "5", "--temperature", "1", "--top_p", "1")
    out, table = tmp_path / "eval.json", json.dumps({reward: 1.0})
    evaluated += ("--out", out, *SHORT, "--rewards", table)
    run("eval", "--model", tiny_folder, "--benchmark", scenes, *evaluated)
    capsys.readouterr()
    record = read_record(str(scenes), "letters")
    expected = {
        item["id"]: (sum(one["rewards"][reward] >= 0.5 for one in item["samples"]), 4)
        for item in read_evaluation(out)["items"]
    }
    assert {id: (rate.right, rate.samples) for id, rate in record.rates.items()} == expected
    assert len({right for right, _ in expected.values()}) > 1
    assert record.about["sampling"]["temperature"] == 1 and record.about["reward"] == reward
    assert sorted(path.name for path in (scenes / "difficulty").iterdir()) == ["letters.parquet"]
    run("data", "difficulty", scenes)
    assert capsys.readouterr().out == told


def test_by_the_benchmarks_own_grading_a_tiny_model_is_never_right(scenes, tiny_folder, capsys):
    run(*difficulty(scenes, tiny_folder, "--samples", "2", "--limit", "3"))
    record = read_record(str(scenes), "tiny")
    assert [(rate.right, rate.samples) for rate in record.rates.values()] == [(0, 2)] * 3
    capsys.readouterr()
    message = mistake(capsys, *difficulty(scenes, tiny_folder))
    assert "tiny.parquet' exists already; remove it or choose another --name" in message
    message = mistake(
        capsys,
        *("train", "--out", scenes / "run", "--model.path", tiny_folder, "--data.train", scenes),
        *("--data.difficulty.exclude_unsolved", "true", "--data.difficulty.missing", "drop"),
    )
    assert "3 never right and 45 without record are left out" in message


def test_a_killed_one_goes_on(scenes, tiny_folder, capsys):
    words = difficulty(
        scenes, tiny_folder, "--limit", "24", "--max_concurrent", "4", "--max_new_tokens", "60"
    )
    kept = scenes / "difficulty" / ".tiny.partial.jsonl"
    process = subprocess.Popen([sys.executable, "-m", "gpg_vl", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (kept.is_file() and kept.read_text().count("\n") > 4):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert record_names(str(scenes)) == []
    run(*words)
    assert "going on after" in capsys.readouterr().err.replace("\n", " ")
    assert not kept.exists()
    run(*words, "--name", "whole")
    assert read_record(str(scenes), "tiny").rates == read_record(str(scenes), "whole").rates


def test_a_runs_rollouts_serve_the_next_run(scenes, tiny_folder, tmp_path, capsys):
    """Record what the first run saw; the second one trains on what it answered partly right."""
    reward = f"{REWARD}:letters"
    options = [
        *("--model.path", tiny_folder, "--data.train", scenes, "--rewards", json.dumps({reward: 1.0})),
        *(
            "--rollout.max_new_tokens",
            "8",
            "--rollout.group_size",
            "4",
            "--algorithm.questions_per_step",
            "4",
        ),
        *("--algorithm.max_rounds", "1", "--run.steps", "2", "--run.threads", "1"),
    ]
    run("train", "--out", tmp_path / "first", *options)
    run("data", "difficulty", scenes, "--run", tmp_path / "first")
    rates = read_record(str(scenes), "first").rates
    rows = [
        row
        for step in (1, 2)
        for row in pq.read_table(tmp_path / "first" / "rollouts" / f"step_{step:06d}.parquet").to_pylist()
    ]
    scores = {
        id: [json.loads(row["rewards"])[reward] for row in rows if row["prompt_id"] == id] for id in rates
    }
    assert rates.keys() == {row["prompt_id"] for row in rows} and len(rates) == 8
    assert {id: rate.share for id, rate in rates.items()} == {
        id: sum(score >= 0.5 for score in found) / len(found) for id, found in scores.items()
    }
    partly = {id for id, rate in rates.items() if 0 < rate.share < 1}
    medium = ("exclude_solved", "exclude_unsolved")
    chosen = [word for name in medium for word in (f"--data.difficulty.{name}", "true")]
    chosen += ["--data.difficulty.missing", "drop", "--data.curriculum", "weighted"]
    capsys.readouterr()
    run("train", "--out", tmp_path / "second", *options, *chosen)
    assert "data.difficulty: 48 rows by the pass rates of first: " in capsys.readouterr().err
    again = {
        row["prompt_id"]
        for file in (tmp_path / "second" / "rollouts").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    }
    assert partly and again <= partly


@pytest.mark.slow
def test_two_processes_record_as_one(scenes, tiny_folder):
    options = ("--samples", "2", "--limit", "5", "--reward", f"{REWARD}:letters")
    words = difficulty(
        scenes, tiny_folder, *options, "--name", "two", "--accelerate", "ddp", "--processes", "2"
    )
    result = subprocess.run(
        [sys.executable, "-m", "gpg_vl", *words], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("two.parquet") == 1
    run(*difficulty(scenes, tiny_folder, *options, "--name", "one"))
    assert read_record(str(scenes), "one").rates == read_record(str(scenes), "two").rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "has no record of pass rates: --model MODEL or --run RUN_DIR makes one"),
        (("--model", "m", "--run", "r"), "give one of them"),
        (("--run", "none"), "there is no run folder 'none'"),
        (("--run", "."), "has no rollouts/step_*.parquet"),
        (("--run", ".", "--name", "a/b"), "'a/b' cannot name a record"),
        (("--model", "none/such/model"), "none/such/model"),
        (("--run", ".", "--reward", "choise"), "Did you mean 'choice'?"),
    ],
)
def test_mistakes(scenes, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in mistake(capsys, "data", "difficulty", scenes, *options)
    assert not record_file(str(scenes), "m").parent.exists()
    assert len(PreparedDataset.open([str(scenes)])) == 48


def test_no_prepared_set(tmp_path, capsys):
    assert "is not a prepared data set" in mistake(capsys, "data", "difficulty", tmp_path)


def test_a_training_configuration_says_how_to_ask(scenes, tiny_folder, tmp_path, capsys):
    """Its model, prompt, stop texts, lengths and group size; what is typed beside it wins."""
    file = tmp_path / "train.yaml"
    settings = {
        "out": str(tmp_path / "run"),
        "model": {"path": str(tiny_folder), "max_pixels": 50_176},
        "prompt": {"instruction": "Say one letter."},
        "data": {"train": [str(scenes)], "max_prompt_tokens": 60},
        "rollout": {"group_size": 3, "temperature": 0.5, "max_new_tokens": 9, "stop": ["e"]},
    }
    file.write_text(json.dumps(settings))
    run("data", "difficulty", scenes, "--config", file, "--limit", "20")
    record = read_record(str(scenes), "tiny")
    assert "longer than data.max_prompt_tokens" in capsys.readouterr().err.replace("\n", " ")
    assert 0 < len(record.rates) < 20 and {rate.samples for rate in record.rates.values()} == {3}
    asked = record.about["sampling"]
    assert (asked["temperature"], asked["max_new_tokens"], asked["stop"]) == (0.5, 9, ["e"])
    assert record.about["prompt"]["instruction"] == "Say one letter."
    assert record.about["pixels"][1] == 50_176
    run("data", "difficulty", scenes, "--config", file, "--limit", "2", "--samples", "2", "--name", "b")
    assert {rate.samples for rate in read_record(str(scenes), "b").rates.values()} == {2}
    capsys.readouterr()
    message = mistake(capsys, "data", "difficulty", scenes, "--config", file, "--run", tmp_path)
    assert "give one of them" in message
