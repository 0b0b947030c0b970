"""The loop: the cut into micro-batches changes nothing, an interrupted run equals an uninterrupted one."""

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from gpg_vl.config import (
    AlgorithmConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from gpg_vl.errors import CheckpointError, ConfigurationError, RunFolderError
from gpg_vl.model.loading import load_policy
from gpg_vl.options import load_config
from gpg_vl.runs.files import read_evaluations
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.resume import list_checkpoints
from gpg_vl.runtime.parallel import World
from gpg_vl.runtime.shutdown import STOP_SIGNAL, Stopped, StopRequest
from gpg_vl.training.run import open_run
from gpg_vl.training.train import train, train_step
from gpg_vl.training.warmstart import sft
from tests.support.training import REWARD, metrics, same, session_of


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_raises_the_reward(config, precision):
    constant = OptimConfig(learning_rate=1e-3)
    longer = replace(config, optim=constant, run=replace(config.run, steps=20, save_every=0))
    longer = replace(longer, model=replace(config.model, precision=precision))
    train(longer)
    rewards = [line["reward/mean"] for line in metrics(Path(config.out))]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5


def test_a_warm_start_is_asked_as_it_was_taught(config, tmp_path, capsys):
    """Its prompt is not the default one, and nothing in the second command says so."""
    prompt = ["--prompt.instruction", "Say one letter.", "--model.min_pixels", "784"]
    common = ["--data.train", *config.data.train, "--run.steps", "1", "--run.threads", "1"]
    first = ["--out", str(tmp_path / "sft"), "--model.path", config.model.path, *common, *prompt]
    warm = sft(load_config(SftConfig, first))
    assert "was trained with" not in capsys.readouterr().err
    second = ["--out", str(tmp_path / "gpg"), "--model.path", str(warm), *common]
    second += ["--rewards", json.dumps({f"{REWARD}:letters": 1.0}), "--algorithm.questions_per_step", "2"]
    asked = load_config(TrainConfig, [*second, "--rollout.max_new_tokens", "4", "--rollout.group_size", "2"])
    trained = train(asked)
    assert f"prompt and image sizes are those that '{warm}' was trained with" in capsys.readouterr().err
    cards = [json.loads((folder / "gpg_vl.json").read_text()) for folder in (warm, trained)]
    assert cards[0]["prompt"] == cards[1]["prompt"] and cards[1]["min_pixels"] == 784
    train(replace(asked, out=str(tmp_path / "other"), prompt=replace(asked.prompt, instruction="Guess.")))
    told = capsys.readouterr().err
    assert f"warning: '{warm}' was trained with prompt.instruction 'Say one letter.', now 'Guess.'" in told


def test_a_frozen_language_model_takes_micro_batches_without_images(mixed_training):
    """Only the vision tower is trained, and the gradient does not depend on who shares its pass."""
    found = []
    for tokens in (1, 100_000):
        config = replace(
            mixed_training,
            out=f"{mixed_training.out}-{tokens}",
            model=replace(mixed_training.model, freeze_language=True),
            algorithm=AlgorithmConfig(questions_per_step=8, min_valid_fraction=0.0),
            run=replace(mixed_training.run, steps=1, micro_batch_tokens=tokens),
        )
        train(config)
        (line,) = metrics(Path(config.out))
        assert line["groups/valid"] > 4  # of four with images and four without
        found.append(line["grad_norm"])
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] > 0


def test_the_cut_changes_nothing(config):
    """1×8 equals 8×1: micro-batches and packing give one gradient up to rounding."""
    results = {}
    for name, tokens, packing in (
        ("whole", 100_000, "group"),
        ("single rows", 1, "group"),
        ("unpacked", 400, "none"),
    ):
        run = replace(config.run, micro_batch_tokens=tokens, packing=packing, save_every=0)
        # SGD-like: AdamW's first step is the gradient's sign, which would hide its size and magnify noise.
        session = session_of(replace(config, run=run, optim=OptimConfig(eps=1.0, learning_rate=1.0)))
        before = torch.cat([p.detach().flatten().clone() for p in session.learner.policy.parameters()])
        _, _, figures = train_step(session, 1)
        after = torch.cat([p.detach().flatten() for p in session.learner.policy.parameters()])
        results[name] = (after - before, figures)
    whole, figures = results["whole"]
    assert figures["groups/valid"] > 1 and whole.abs().sum() > 0
    for name in ("single rows", "unpacked"):
        assert (results[name][0] - whole).norm() / whole.norm() < 1e-5
        assert results[name][1]["loss"] == pytest.approx(figures["loss"], rel=1e-5)
        assert results[name][1]["entropy"] == pytest.approx(figures["entropy"], rel=1e-5)


@pytest.mark.parametrize(
    ("model", "optim"),
    [
        ({}, {}),
        ({}, {"kind": "adamw8bit"}),
        ({"precision": "bf16", "trained_precision": "bf16"}, {"kind": "adamw8bit"}),
        ({"precision": "bf16", "trained_precision": "bf16"}, {"kind": "adamw8bit", "rounding": "kahan"}),
    ],
)
def test_resumed_equals_uninterrupted(config, model, optim, tmp_path):
    config = replace(config, model=replace(config.model, **model), optim=replace(config.optim, **optim))
    whole = train(config)
    parts = replace(config, out=str(tmp_path / "parts"))
    train(parts)
    # Go on from the second step, as after a crash in the fourth: later metrics are there and must go.
    for step in (3, 4):
        shutil.rmtree(tmp_path / "parts" / "checkpoints" / f"step_{step:06d}")
    resumed = train(parts, resume="auto")
    assert same(whole, resumed)
    assert metrics(Path(config.out)) == metrics(tmp_path / "parts")
    assert len(metrics(Path(config.out))) == 4


def test_resumed_in_a_new_process_folder(config, tmp_path):
    """A run stopped by a signal after its first step, then continued, equals an undisturbed one."""
    config = replace(config, eval=replace(config.eval, rewards=False))  # it would be called there first
    whole = train(config)
    parts = replace(
        config, out=str(tmp_path / "parts"), rewards={f"{REWARD}:letters_then_stop": 1.0, "format": 1.0}
    )
    with pytest.raises(Stopped, match="step 1"):
        train(parts)
    assert sorted(p.name for p in (tmp_path / "parts" / "checkpoints").iterdir()) == ["step_000001"]
    resumed = train(parts, resume="auto")
    assert same(whole, resumed)


def test_alpha_can_be_recomputed_from_the_rollouts(config):
    train(config)
    run = Path(config.out)
    for line in metrics(run):
        rows = pq.read_table(run / "rollouts" / f"step_{line['step']:06d}.parquet").to_pylist()
        groups: dict[int, list[float]] = {}
        for row in rows:
            groups.setdefault(row["group"], []).append(row["reward"])
        valid = [g for g, r in groups.items() if max(r) - min(r) > 1e-8]
        assert line["groups/sampled"] == len(groups)
        assert line["groups/valid"] == len(valid)
        assert line.get("alpha") == (len(groups) / len(valid) if valid else None)
        for row in rows:
            mean = sum(groups[row["group"]]) / len(groups[row["group"]])
            expected = row["reward"] - mean if row["group"] in valid else 0.0
            assert row["advantage"] == pytest.approx(expected, abs=1e-12)


def test_sampler_and_trainer_agree_on_log_probabilities(config):
    train(config)
    assert all(line["logprob_gap"] < 1e-5 for line in metrics(Path(config.out)) if "logprob_gap" in line)


def test_nothing_valid_skips_the_step(config):
    idle = replace(config, rewards={"format": 1.0}, run=replace(config.run, steps=2))
    model = train(idle)
    lines = metrics(Path(config.out))
    assert [line["skipped"] for line in lines] == [1, 1]
    assert [line["groups/rounds"] for line in lines] == [2, 2]
    assert all("alpha" not in line and "loss" not in line for line in lines)
    assert same(model, Path(config.model.path))


@pytest.mark.parametrize(("preset", "beta", "models"), [("gpg", 0.0, 1), ("grpo", 0.0, 1), ("grpo", 0.1, 2)])
def test_only_a_kl_term_loads_a_second_model(config, preset, beta, models, monkeypatch):
    loaded = []

    def load(*arguments, **options):
        loaded.append(load_policy(*arguments, **options))
        return loaded[-1]

    monkeypatch.setattr("gpg_vl.training.session.load_policy", load)
    algorithm = AlgorithmConfig(preset=preset, kl_beta=beta, questions_per_step=4)
    session = session_of(replace(config, algorithm=algorithm))
    train_step(session, 1)
    assert len(loaded) == models and session.learner.policy is loaded[0]


@pytest.mark.parametrize("preset", ["grpo", "dr_grpo"])
def test_presets_train_in_the_same_loop(config, preset):
    algorithm = AlgorithmConfig(
        preset=preset,
        questions_per_step=4,
        std_normalize=preset == "grpo",
        age=False,
        normalize="sequence" if preset == "grpo" else "constant",
        kl_beta=0.1 if preset == "grpo" else 0.0,
        updates_per_rollout=2,
    )
    train(replace(config, algorithm=algorithm, run=replace(config.run, steps=2)))
    lines = metrics(Path(config.out))
    assert all("clipped_fraction" in line for line in lines)
    assert all(("kl" in line) == (preset == "grpo") for line in lines)
    if preset == "grpo":
        assert lines[0]["kl"] > 0  # the second update sees a moved policy


@pytest.mark.parametrize("preset", ["rloo", "dapo", "gspo"])
def test_further_presets_train_in_the_same_loop(config, preset):
    knobs = {"questions_per_step": 4, "updates_per_rollout": 2, "per_reward": "normalised", "max_rounds": 2}
    algorithm = AlgorithmConfig.of(preset, **knobs)
    train(replace(config, algorithm=algorithm, run=replace(config.run, steps=2)))
    lines = metrics(Path(config.out))
    assert all("clipped_fraction" in line for line in lines if not line["skipped"])
    assert not all(line["skipped"] for line in lines)


def test_rewards_are_normalised_one_by_one(config):
    """As GDPO's authors do it: each reward within its group, then their weighted sum over all of the step."""
    algorithm = replace(config.algorithm, per_reward="normalised")
    rewards = {f"{REWARD}:letters": 1.0, f"{REWARD}:distinct": 0.5}
    train(replace(config, algorithm=algorithm, rewards=rewards, run=replace(config.run, steps=1)))
    rows = pq.read_table(Path(config.out) / "rollouts" / "step_000001.parquet").to_pylist()
    scores = np.array([list(json.loads(row["rewards"]).values()) for row in rows]).reshape(-1, 4, 2)
    deviations = scores.std(axis=1, ddof=1, keepdims=True)
    assert (deviations > 0).any(axis=0).all()  # both rewards have a say
    own = (scores - scores.mean(axis=1, keepdims=True)) / np.where(deviations, deviations, 1.0)
    total = (own @ [1.0, 0.5]).flatten()
    np.testing.assert_allclose([row["advantage"] for row in rows], total / total.std(ddof=1), rtol=1e-9)


def test_going_back_behind_later_checkpoints_is_refused(config):
    train(config)
    with pytest.raises(CheckpointError, match="later checkpoints than step_000002: step_000003, step_000004"):
        train(config, resume=str(Path(config.out) / "checkpoints" / "step_000002"))


def test_a_checkpoint_may_start_another_run(config, tmp_path):
    train(config)
    branch = replace(config, out=str(tmp_path / "branch"))
    train(branch, resume=str(Path(config.out) / "checkpoints" / "step_000002"))
    assert metrics(tmp_path / "branch") == metrics(Path(config.out))[2:]


def test_masked_answers_are_not_trained_on(config):
    """Every answer is truncated at one token: with the mask there is nothing to learn from."""
    short = replace(
        config,
        rollout=RolloutConfig(group_size=8, max_new_tokens=1, temperature=2.0),
        algorithm=replace(config.algorithm, mask_truncated=True, min_valid_fraction=0.0),
        run=replace(config.run, steps=1),
    )
    model = train(short)
    (line,) = metrics(Path(config.out))
    assert line["groups/valid"] > 0 and line["truncated_fraction"] > 0.9
    assert line["skipped"] == 1 and same(model, Path(config.model.path))


def test_a_gradient_that_is_not_finite_is_dropped(config):
    session = session_of(config)
    before = [p.detach().clone() for p in session.learner.policy.parameters()]
    next(session.learner.policy.parameters()).grad = torch.full_like(before[0], float("nan"))
    assert math.isnan(session.learner.optimizer_step(1e-3, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, session.learner.policy.parameters(), strict=True))


def test_sft_is_evaluated_like_training(config, tmp_path):
    supervised = SftConfig(
        out=str(tmp_path / "sft"),
        batch_size=4,
        model=config.model,
        data=config.data,
        run=RunConfig(steps=2, threads=1, trackers=["tensorboard"]),
        eval=config.eval,
    )
    sft(supervised)
    steps = [evaluation["step"] for evaluation in read_evaluations(tmp_path / "sft")]
    assert steps == [0, 2]
    assert list((tmp_path / "sft" / "gpg-vl").glob("events.*"))


def test_a_used_folder_is_refused(config):
    train(replace(config, run=replace(config.run, steps=1)))
    with pytest.raises(RunFolderError, match="--resume auto"):
        train(config)


def test_resume_refuses_other_settings(config):
    train(replace(config, run=replace(config.run, steps=1)))
    other = replace(config, optim=OptimConfig(learning_rate=5e-4))
    with pytest.raises(ConfigurationError, match=r"optim\.learning_rate was 0\.001, now 0\.0005"):
        train(other, resume="auto")


def test_supervised_warm_start_learns_and_resumes(config, tmp_path):
    supervised = SftConfig(
        out=str(tmp_path / "sft"),
        batch_size=8,
        model=config.model,
        data=config.data,
        eval=config.eval,
        optim=OptimConfig(learning_rate=3e-3),
        run=RunConfig(steps=24, threads=1, save_every=12, keep_last=9),
    )
    whole = sft(supervised)
    losses = [line["loss"] for line in metrics(tmp_path / "sft")]
    assert losses[0] > 4 and losses[-1] < 1
    again = replace(supervised, out=str(tmp_path / "again"))
    sft(again)
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step_000024")
    resumed = sft(again, resume="auto")
    assert same(whole, resumed)


def test_signals_are_only_caught_while_running(config):
    before = signal.getsignal(signal.SIGINT)
    train(replace(config, run=replace(config.run, steps=1)))
    assert signal.getsignal(signal.SIGINT) == before


def test_trackers_get_the_metrics(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(config, run=replace(config.run, steps=2, trackers=["tensorboard"])))
    (events,) = (Path(config.out) / "gpg-vl").glob("events.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    rewards = [event.value for event in accumulator.Scalars("reward/mean")]
    assert rewards == pytest.approx([line["reward/mean"] for line in metrics(Path(config.out))])


class SignalledWhileAgreeing(World):
    """Processes that a signal reaches after they agreed that there was none."""

    def any(self, flag: bool) -> bool:
        agreed = super().any(flag)
        os.kill(os.getpid(), STOP_SIGNAL)
        return agreed


def test_a_signal_that_comes_while_processes_agree_stops_the_next_step(config):
    config = replace(config, run=replace(config.run, save_every=0))
    with RunFolder.open(config, resume=False) as folder, StopRequest() as stop:
        session = session_of(config)
        session.learner.world = SignalledWhileAgreeing()
        with open_run("train", session.learner, config, folder, stop) as run:
            run.save(last=False)
            assert list_checkpoints(folder.checkpoints) == []
            with pytest.raises(Stopped, match="after step 0"):
                run.save(last=False)
            assert len(list_checkpoints(folder.checkpoints)) == 1


def test_a_stop_during_an_evaluation_is_seen(config):
    with RunFolder.open(config, resume=False) as folder, StopRequest() as stop:
        session = session_of(config)
        with open_run("train", session.learner, config, folder, stop) as run:
            evaluate = partial(run.evaluate, session.answerer, session.validation, (), last=False)
            stop.asked = True
            with pytest.raises(Stopped, match="after step 0"):
                evaluate()
            assert not folder.evaluations.exists()
            stop.asked = False
            evaluate()
            assert [path.name for path in folder.evaluations.iterdir()] == ["step_000000.json"]
