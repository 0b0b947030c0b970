"""`gpg-vl preflight` as a user types it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpg_vl.config import AlgorithmConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.policy import Policy
from gpg_vl.model.step import StepModel
from gpg_vl.preflight.model import expected_rounds
from tests.support.command_line import mistake, run
from tests.support.training import REWARD

FOOLED = Path(__file__).parents[1] / "support" / "fooled_rewards.py"
SMALL = (
    "--rollout.group_size",
    "4",
    "--rollout.max_new_tokens",
    "6",
    "--run.threads",
    "1",
    "--questions",
    "4",
)


@pytest.fixture
def check(tiny_folder, scenes_folder, tmp_path, capsys):
    """Run a preflight; returns its exit code, findings by check, and figures."""

    def check(*options: str, rewards: str = '{"choice": 1, "format": 1}'):
        out = tmp_path / "report.json"
        out.unlink(missing_ok=True)
        inputs = ["--model.path", tiny_folder, "--data.train", scenes_folder, "--rewards", rewards]
        code = 0
        try:
            run("preflight", *inputs, *SMALL, "--report", out, *options)
        except SystemExit as exit:
            code = exit.code
        report = json.loads(out.read_text())
        assert all(finding["check"] in capsys.readouterr().out for finding in report["findings"][:1])
        found: dict[str, list[dict[str, str]]] = {}
        for finding in report["findings"]:
            found.setdefault(finding["check"], []).append(finding)
        return code, found, report["figures"]

    return check


def levels(found) -> dict[str, set[str]]:
    return {check: {finding["level"] for finding in findings} for check, findings in found.items()}


def test_a_healthy_configuration_has_no_failure(check):
    code, found, figures = check()
    seen = levels(found)
    assert code == 0 and "fail" not in set().union(*seen.values())
    for name in (
        "rewards",
        "data",
        "model",
        "gold answers",
        "reward audit",
        "prompt lengths",
        "memory, update",
    ):
        assert seen[name] == {"ok"}, name
    for name in ("pass rate", "valid groups", "format", "answer lengths"):
        assert seen[name] == {"warn"}, name  # an untrained model answers nothing
    assert figures["rows"] == 48 and figures["gold_full_share"] == 1 and figures["prompts_over_limit"] == 0
    assert figures["sampled"]["groups/sampled"] == 4
    assert figures["sampled"]["answer_tokens"] <= 6
    assert figures["seconds_per_step"] > 0 and figures["memory"]["peak"] > 16 * figures["trained_weights"]
    assert "memory, measured" in found


def test_what_sampling_tells(check):
    """A reward that an untrained model varies in; that anything earns it is told too."""
    options = ("--samples", "8", "--rollout.max_new_tokens", "40", "--run.steps", "36")
    code, found, figures = check(*options, rewards=json.dumps({f"{REWARD}:letters": 1.0}))
    assert code == 1 and levels(found)["reward audit"] == {"fail"}
    assert levels(found)["pass rate"] == {"ok"} and levels(found)["valid groups"] == {"ok"}
    sampled = figures["sampled"]
    valid = sampled["groups/valid"]
    assert valid > 0 and sampled["alpha"] == 4 / valid
    assert f"{valid} of 4" in found["valid groups"][0]["text"]
    assert f"α {4 / valid:.2f}, 1.0 rounds a step" in found["valid groups"][0]["text"]
    assert "of 32 answers" in found["pass rate"][0]["text"]
    assert figures["hours"] == pytest.approx(figures["seconds_per_step"] / 100)


def test_memory_that_runs_out_is_a_finding(check, monkeypatch):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("gpg_vl.preflight.model.update", full)
    code, found, _ = check()
    assert code == 1 and "2 GiB" in found["memory, measured"][0]["text"]
    assert "pass rate" in found  # what was known by then


def test_memory_that_runs_out_while_answers_grow_is_told(check, monkeypatch):
    plain, calls = StepModel.read, []

    def read(self, *given):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *given)

    monkeypatch.setattr(StepModel, "read", read)
    _, found, _ = check("--samples", "8")
    [told] = found["memory, sampling"]
    assert told["level"] == "warn" and "set rollout.max_concurrent to 16" in told["cure"]
    assert "pass rate" in found


def test_memory_that_runs_out_in_the_update_is_told(check, monkeypatch):
    plain, calls = Policy.forward, []

    def forward(self, *given):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *given)

    monkeypatch.setattr(Policy, "forward", forward)
    _, found, _ = check()
    [told] = found["memory, training"]
    assert told["level"] == "warn" and "set run.micro_batch_tokens to" in told["cure"]


def test_a_reward_that_can_be_cheated_fails(check):
    code, found, _ = check("--no-model", rewards=json.dumps({f"{FOOLED}:in_text": 1.0}))
    assert code == 1
    [audit] = found["reward audit"]
    assert audit["level"] == "fail" and "answer only in <think>" in audit["text"]


def test_gold_answers_below_full_marks_are_shown(check, scene_samples, tmp_path):
    many = {"choices": (), "answer": "many", "answer_type": "number"}
    rows = [replace(s, **many) if i < 3 else s for i, s in enumerate(scene_samples)]
    rows[4] = replace(rows[4], choices=("same", *rows[4].choices[1:]), answer="(A)")
    write_prepared(rows, tmp_path / "wrong", source="", converter="x", version="1")
    code, found, figures = check("--no-model", "--data.train", str(tmp_path / "wrong"))
    [gold] = found["gold answers"]
    assert gold["level"] == "fail" and code == 1
    assert "45 of 48 (93.8%) get full marks" in gold["text"]
    assert len(figures["gold_below"]) == 3
    assert figures["unreadable_gold"] == {"choice: gold answer not among the choices": 3}
    [unreadable] = found["unreadable gold"]
    assert (
        unreadable["level"] == "warn" and "gold answer not among the choices (3 rows)" in unreadable["text"]
    )
    assert figures["gold_below"][0] == f"{rows[0].id!r} (gold 'many'): format 1, choice not gradable"


def test_rewards_that_no_gold_answer_earns(check):
    _, found, _ = check("--no-model", "--prompt.template", "boxed", rewards='{"number": 1, "format": 1}')
    assert {"not gradable" in finding["text"] for finding in found["gold answers"]} == {True, False}
    assert any("format gives no gold answer anything" in one["text"] for one in found["gold answers"])


@pytest.mark.parametrize("model", ["nobody/has-this-model", "no/such/folder"])
def test_without_any_model(check, model):
    code, found, figures = check("--no-model", "--model.path", model)
    assert code == 0 and levels(found)["model"] == {"skip"}
    assert levels(found)["reward audit"] == {"ok"} and "memory" not in figures


def test_a_config_alone_is_enough_for_the_memory(check, tiny_folder, tmp_path):
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    code, found, figures = check("--no-model", "--model.path", str(tmp_path))
    assert code == 0 and levels(found)["prompt lengths"] == {"skip"}
    assert figures["memory"]["peak"] > 0


def test_a_missing_model_is_a_failure_where_it_is_needed(check):
    code, found, _ = check("--model.path", "no/such/folder")
    assert code == 1 and levels(found)["model"] == {"fail"} and levels(found)["sampling"] == {"skip"}


def test_every_task_without_a_route_is_named(check):
    code, found, _ = check("--no-model", rewards='{"by_task": {"scenes/Count": {"choice": 1}}}')
    assert code == 1
    failed = [one["text"] for one in found["rewards"] if one["level"] == "fail"]
    assert [task for text in failed for task in ("Depth", "Distance", "Relation") if task in text] == [
        "Depth",
        "Distance",
        "Relation",
    ]
    assert levels(found)["gold answers"] == {"ok"}  # of the task that has one


def test_what_is_wrong_is_told_at_once(check):
    """Unknown rewards, missing data: both in one report."""
    code, found, _ = check("--no-model", "--data.train", "nowhere", rewards='{"choise": 1}')
    assert code == 1 and "Did you mean 'choice'?" in found["rewards"][0]["text"]
    assert "not a prepared data set" in found["data"][0]["text"]


def test_prompts_over_the_limit(check):
    code, found, figures = check("--no-model", "--data.max_prompt_tokens", "60")
    assert levels(found)["prompt lengths"] <= {"warn", "fail"} and figures["prompts_over_limit"] > 0
    assert code == int(figures["prompts_over_limit"] == 48)


def test_a_card_too_small_names_changes_that_help(check):
    code, found, figures = check(
        "--no-model", "--card_gib", "0.03", "--accelerate", "ddp", "--processes", "2"
    )
    [fullest] = [one for name in found if name.startswith("memory") for one in found[name] if one["cure"]]
    assert code == 1 and fullest["level"] == "fail" and figures["memory"]["peak"] > 0.03 * 2**30
    assert "model.gradient_checkpointing true: 0.0" in fullest["cure"]


def test_a_used_run_folder(check, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    assert levels(check("--no-model", "--out", str(tmp_path / "run"))[1])["run folder"] == {"warn"}
    assert "run folder" not in check("--no-model", "--out", str(tmp_path / "run"), "--resume", "auto")[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--questions", "0"), "--questions"),
        (("--samples", "1"), "--samples must be at least 2"),
        (("--processes", "2"), "--processes needs --accelerate"),
        (("--accelerate", "zero4"), "Did you mean 'zero"),
        (("--rollout.group_sise", "4"), "Did you mean 'rollout.group_size'?"),
    ],
)
def test_mistakes(options, message, tiny_folder, scenes_folder, capsys):
    inputs = ("--model.path", str(tiny_folder), "--data.train", str(scenes_folder))
    assert message in mistake(capsys, "preflight", *inputs, *options)


def test_expected_rounds():
    # one of two groups must be valid: a round misses with 0.8² = 0.64, two rounds with 0.64²
    algorithm = AlgorithmConfig(questions_per_step=2, min_valid_fraction=0.5, max_rounds=3)
    assert expected_rounds(0.2, algorithm) == pytest.approx(1 + 0.64 + 0.64**2)
    assert expected_rounds(0.0, algorithm) == 3 and expected_rounds(1.0, algorithm) == 1
    assert expected_rounds(0.2, replace(algorithm, min_valid_fraction=0.0)) == 1
