"""A judge in training, evaluation, `rewards score` and the audit: what it costs is told, its key is not."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.options import to_yaml
from gpg_vl.scoring.counters import taken
from gpg_vl.training.train import train
from tests.support.command_line import mistake, run
from tests.support.judging import JUDGE, USAGE, Canned, judging
from tests.support.launched import finish, start
from tests.support.training import metrics

KEY = "sk-never-to-be-seen-1234567890"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GPG_VL_TEST_KEY", KEY)
    taken()


@pytest.fixture
def judge():
    with judging() as judge:
        judge.mark = lambda answer, right: f"Mark: {len(answer) % 11}"  # an untrained model is never right
        yield judge


def entry(judge, **options):
    return {"weight": 1.0, "url": judge.url, "model": "m", "key_env": "GPG_VL_TEST_KEY", **options}


@pytest.fixture
def config(judge, tiny_folder, scenes_folder, tmp_path) -> TrainConfig:
    """Two steps on a judge's marks."""
    return TrainConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(path=str(tiny_folder), precision="fp32"),
        data=DataConfig(train=[str(scenes_folder)]),
        rollout=RolloutConfig(group_size=4, max_new_tokens=12),
        algorithm=AlgorithmConfig(questions_per_step=3),
        rewards={JUDGE: entry(judge)},
        optim=OptimConfig(learning_rate=1e-3),
        run=RunConfig(steps=2, threads=1),
    )


def counted(run: Path, name: str) -> float:
    return sum(line.get(f"counts/judge/{name}", 0) for line in metrics(run))


def contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_run_is_trained_on_a_judges_marks(judge, config, tmp_path, capfd):
    judge.canned.append(Canned(500, headers={"Retry-After": "0"}))
    train(config)
    lines = metrics(tmp_path / "run")
    assert all(0 < line[f"reward/{JUDGE}"] < 1 and line["groups/valid"] > 0 for line in lines)
    assert counted(tmp_path / "run", "requests") == judge.requests > 20
    tokens = (judge.requests - 1) * USAGE["prompt_tokens"]
    assert counted(tmp_path / "run", "prompt_tokens") == tokens
    shown = [part["type"] for body in judge.bodies for part in body["messages"][0]["content"]]
    assert shown == ["image_url", "text"] * judge.requests
    out, err = capfd.readouterr()
    assert set(judge.keys) == {f"Bearer {KEY}"}
    assert KEY.encode() not in contents(tmp_path) + out.encode() + err.encode()


def test_two_processes_count_together_and_share_the_replies(judge, config, tmp_path):
    finish(config, start(config, "ddp"))
    first = judge.requests
    assert counted(tmp_path / "run", "requests") == first > 0
    again = replace(config, out=str(tmp_path / "again"))
    finish(again, start(again, "ddp"))
    assert judge.requests == first and counted(tmp_path / "again", "requests") == 0
    assert counted(tmp_path / "again", "cached") >= first
    assert metrics(tmp_path / "again")[-1]["loss"] == pytest.approx(metrics(tmp_path / "run")[-1]["loss"])


def test_a_missing_key_is_told_before_a_run_folder_is_there(judge, config, tmp_path, monkeypatch, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    monkeypatch.delenv("GPG_VL_TEST_KEY")
    told = mistake(capsys, "train", "--config", str(file))
    assert "reward 'judge': the environment variable GPG_VL_TEST_KEY is not set: export it" in told
    assert not (tmp_path / "run").exists() and judge.requests == 0


def test_an_evaluation_says_what_its_judge_cost(judge, tiny_folder, scenes_folder, tmp_path, capsys):
    table = json.dumps({JUDGE: entry(judge)})
    words = ("eval", "--model", tiny_folder, "--benchmark", scenes_folder, "--limit", "4", "--rewards", table)
    run(*words, "--max_new_tokens", "6", "--out", tmp_path / "eval.json")
    asked = judge.requests
    assert f"judge/requests {asked}" in capsys.readouterr().out and asked > 0
    evaluation = json.loads((tmp_path / "eval.json").read_text())
    assert evaluation["counts"]["judge/requests"] == asked
    assert evaluation["counts"]["judge/prompt_tokens"] == asked * USAGE["prompt_tokens"]


def test_preflight_says_what_its_trial_cost(judge, config, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(
        to_yaml(replace(config, rewards={JUDGE: entry(judge, rubric="{response}\nRight answer: x")}))
    )
    with suppress(SystemExit):  # a judge of lengths is easily fooled
        run("preflight", "--config", file, "--no-model", "--report", tmp_path / "report.json")
    counts = json.loads((tmp_path / "report.json").read_text())["figures"]["counts"]
    assert counts["judge/requests"] == judge.requests > 48


def test_scores_of_a_file_end_with_the_costs(judge, tmp_path, capsys):
    rows = [{"answer": "(A)", "choices": ["red", "blue"], "completion": text} for text in ("(A)", "(B)", "")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = f"{JUDGE}={json.dumps(entry(judge))}"
    run("rewards", "score", "--reward", reward, "--file", tmp_path / "rows.jsonl")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "counted: judge/completion_tokens 14, judge/prompt_tokens 200, judge/requests 2"


def test_the_audit_runs_on_a_judge(judge, capsys):
    """One that does what our rubric says passes; one that is pleased by the right letter is found out."""
    tagged = re.compile("(?:<think>[^<]*</think>)?<answer>([^<]*)</answer>")
    judge.mark = lambda text, right: (
        "Mark: 10" if (found := tagged.fullmatch(text)) and found[1] == right else "Mark: 0"
    )
    run("rewards", "audit", f"{JUDGE}={json.dumps(entry(judge))}", "--answer_type", "choice")
    output = capsys.readouterr().out
    assert "passed: no trick scores as high as the gold answer" in output
    assert f"judge/requests {judge.requests}" in output.splitlines()[-1]
    judge.mark = lambda answer, right: "Mark: 10" if right in answer else "Mark: 0"
    with pytest.raises(SystemExit):
        run("rewards", "audit", f"{JUDGE}={json.dumps(entry(judge, cache=False))}", "--answer_type", "choice")
    assert "FAILS" in capsys.readouterr().out
