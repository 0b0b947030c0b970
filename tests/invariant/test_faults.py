"""Things that go wrong on hour nine: no finite gradient, no memory, a phase that hangs."""

import json
import math
import shutil
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from gpg_vl.config import AlgorithmConfig, EvalConfig, OptimConfig, RunConfig, SftConfig
from gpg_vl.errors import ConfigurationError, DivergedError, ModelError
from gpg_vl.evaluation.evaluate_model import EvalSettings, evaluate_model
from gpg_vl.model.policy import Policy
from gpg_vl.model.step import StepModel
from gpg_vl.preflight.model import Trial
from gpg_vl.preflight.plan import Machine
from gpg_vl.preflight.preflight import preflight
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.runs.best import Best, read_best
from gpg_vl.runs.files import read_evaluations
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.resume import list_checkpoints, step_of
from gpg_vl.runtime.shutdown import StopRequest
from gpg_vl.runtime.watchdog import watched
from gpg_vl.training.run import open_run
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft
from tests.support.training import same, session_of, weights


def metrics(config) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(config.out, "metrics.jsonl").read_text().splitlines()]


def spoiled(monkeypatch, factor):
    """The policy's log-probabilities times `factor(call)` in training."""
    plain, calls = Policy.forward, []

    def forward(self, batch, temperature, *known):
        logprobs, entropies = plain(self, batch, temperature, *known)
        if not torch.is_grad_enabled():  # the look before saving
            return logprobs, entropies
        calls.append(1)
        return logprobs * factor(len(calls)), entropies

    monkeypatch.setattr(Policy, "forward", forward)


def test_a_run_without_finite_gradients_stops_and_names_the_last_good_checkpoint(config, monkeypatch):
    spoiled(monkeypatch, lambda call: 1.0 if call == 1 else math.nan)
    run = replace(config.run, steps=9, max_nonfinite=3, micro_batch_tokens=100_000, save_every=1)
    with pytest.raises(DivergedError, match=r"in 3 steps in a row, up to step 4; .*step_000003"):
        train(replace(config, run=run))
    assert [line["nonfinite"] for line in metrics(config)] == [0, 1, 1, 1]


def test_single_steps_without_a_finite_gradient_are_skipped_and_counted(config, monkeypatch):
    spoiled(monkeypatch, lambda call: math.inf if call % 2 else 1.0)
    run = replace(config.run, steps=4, max_nonfinite=2, micro_batch_tokens=100_000)
    train(replace(config, run=run))
    assert [line["nonfinite"] for line in metrics(config)] == [1, 0, 1, 0]


def test_steps_with_some_finite_gradients_go_on(config, monkeypatch, capsys):
    """One of two mini-batches has none in each step; the other's is followed."""
    spoiled(monkeypatch, lambda call: math.inf if call % 2 else 1.0)
    run = replace(config.run, steps=3, max_nonfinite=2, micro_batch_tokens=100_000)
    algorithm = AlgorithmConfig.of("grpo", questions_per_step=4, mini_batches=2)
    train(replace(config, run=run, algorithm=algorithm))
    assert [line["nonfinite"] for line in metrics(config)] == [1, 1, 1]
    assert all(line["grad_norm"] > 0 for line in metrics(config))
    told = capsys.readouterr().err
    assert told.count("one of the step's optimizer steps was dropped") == 1 and "changed nothing" not in told


def test_weights_that_diverge_are_not_saved_over_good_ones(config):
    """A rate that breaks the weights in the third step, whose gradient was still fine."""
    run = replace(config.run, steps=9, keep_last=1)
    optim = OptimConfig(learning_rate=1e30, warmup_steps=0, max_grad_norm=0.0)
    good = train(replace(config, run=replace(run, steps=2)))
    with pytest.raises(DivergedError, match=r"weights or their log-probabilities.*step 1; .* is none\."):
        train(replace(config, out=f"{config.out}-bad", optim=optim, run=run))
    assert not Path(f"{config.out}-bad", "checkpoints").exists()
    assert list_checkpoints(good.parents[1]) == [good.parent]


def test_log_probabilities_that_are_not_finite_are_counted_and_not_followed(config, monkeypatch, capsys):
    """Of the sampler: what it draws from NaN is scored like any answer, and may look valid."""
    plain, steps = OwnEngine.generate, []

    def generate(self, requests, *rest, done, **options):
        steps.append(requests[0].step)

        def spoil(place, answers):
            nan = [replace(one, logprobs=(math.nan, *one.logprobs[1:])) for one in answers]
            done(place, nan if 1 < steps[-1] < 5 else answers)

        return plain(self, requests, *rest, done=spoil, **options)

    monkeypatch.setattr(OwnEngine, "generate", generate)
    config = replace(config, data=replace(config.data, validation=[]))
    run = replace(config.run, steps=9, max_nonfinite=3)
    with pytest.raises(DivergedError, match=r"in 3 steps in a row, up to step 4; .*step_000003"):
        train(replace(config, run=run))
    assert [line["nonfinite"] for line in metrics(config)] == [0, 1, 1, 1]
    assert [("grad_norm" in line) for line in metrics(config)] == [True, False, False, False]
    folder = Path(config.out, "checkpoints")
    assert same(folder / "step_000001/model", folder / "step_000003/model")
    assert capsys.readouterr().err.count("not finite, so the step changed nothing") == 1


def overflowing(folder: Path, out: Path) -> Path:
    """Weights that are numbers, and log-probabilities that are none."""
    shutil.copytree(folder, out)
    stored = load_file(out / "model.safetensors")
    for part in ("gate", "up", "down"):
        stored[f"model.layers.0.mlp.{part}_proj.weight"] *= 1e15
    save_file(stored, out / "model.safetensors", {"format": "pt"})
    return out


def test_evaluation_and_preflight_say_that_a_model_computes_no_numbers(config, tiny_folder, tmp_path):
    model = str(overflowing(tiny_folder, tmp_path / "broken"))
    with pytest.raises(ModelError, match="log-probabilities are not finite"):
        evaluate_model(EvalSettings(model=model, benchmark=config.data.train[0], limit=2, max_new_tokens=4))
    broken = replace(config, model=replace(config.model, path=model))
    report = preflight(broken, Machine(), Trial(2, 2), resume=False)
    assert report.failed
    (finding,) = (one for one in report.findings if one.check == "sampling")
    assert finding.level == "fail" and "log-probabilities are not finite" in finding.text
    with pytest.raises(ModelError, match="log-probabilities are not finite"):  # the first evaluation
        train(broken)


def test_out_of_memory_halves_the_micro_batches(config, monkeypatch, capsys, tmp_path):
    whole = train(config)
    plain, sizes = Policy.forward, []

    def forward(self, batch, temperature, *known):
        sizes.append(batch.token_ids.numel())
        if len(sizes) == 2:  # in the middle of a step
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch, temperature, *known)

    monkeypatch.setattr(Policy, "forward", forward)
    run = replace(config.run, micro_batch_tokens=300)
    config = replace(config, out=str(tmp_path / "halved"), run=run)
    halved = train(config)
    assert "going on with run.micro_batch_tokens 150" in capsys.readouterr().err
    assert max(sizes[2:]) <= 150 < max(sizes[:2])
    assert [line.get("out_of_memory") for line in metrics(config)] == [1, None, None, None]
    for name, weight in weights(whole).items():  # nothing of the failed attempt is left in the gradient
        torch.testing.assert_close(weights(halved)[name], weight, rtol=1e-4, atol=1e-5)


def test_out_of_memory_with_an_answer_alone_ends_the_run(config, monkeypatch):
    answers = []

    def forward(self, batch, temperature, *known):
        answers.append(len(batch.answer_index.unique()))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Policy, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train(config)
    assert "lower run.micro_batch_tokens" in caught.value.__notes__[0]
    assert sorted(answers, reverse=True) == answers and answers[0] > 1 and answers[-2:] != [1, 1]
    assert answers[-1] == 1


def test_the_second_update_of_a_rollout_may_run_out_of_memory(config, monkeypatch, tmp_path):
    """Its ratios are to log-probabilities of micro-batches that were cut otherwise."""
    grpo = AlgorithmConfig.of("grpo", questions_per_step=4, updates_per_rollout=2)
    config = replace(config, algorithm=grpo, run=replace(config.run, steps=1))
    config = replace(config, optim=OptimConfig(eps=1.0, learning_rate=1.0))
    whole = train(config)
    plain, calls = Policy.forward, []

    def forward(self, batch, temperature, *known):
        calls.append(batch.token_ids.numel())
        if len(calls) == 2:  # the first micro-batch held everything
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch, temperature, *known)

    monkeypatch.setattr(Policy, "forward", forward)
    again = replace(config, out=str(tmp_path / "again"))
    halved = train(again)
    assert len(calls) > 3 and max(calls[2:]) < calls[0] == calls[1]
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(halved)[name], weight, rtol=1e-5, atol=1e-7)
    (found,), (expected,) = metrics(again), metrics(config)
    for name in ("loss", "entropy", "grad_norm", "clipped_fraction"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-7)


def test_supervised_training_goes_on_with_smaller_micro_batches(config, monkeypatch, capsys, tmp_path):
    supervised = SftConfig(out=str(tmp_path / "whole"), model=config.model, data=config.data, batch_size=6)
    supervised = replace(supervised, run=replace(config.run, steps=2), eval=config.eval)
    whole = sft(supervised)
    plain = Policy.forward

    def forward(self, batch, temperature, *known):
        if torch.is_grad_enabled() and batch.token_ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch, temperature, *known)

    monkeypatch.setattr(Policy, "forward", forward)
    again = replace(supervised, out=str(tmp_path / "again"))
    halved = sft(again)
    assert "going on with run.micro_batch_tokens 256" in capsys.readouterr().err
    assert metrics(again)[0]["out_of_memory"] >= 1 and "out_of_memory" not in metrics(again)[1]
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(halved)[name], weight, rtol=1e-4, atol=1e-5)


def test_an_evaluation_goes_on_with_fewer_answers_at_a_time(config, monkeypatch, capsys):
    plain = StepModel.read

    def read(self, tokens, *rest):
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, tokens, *rest)

    monkeypatch.setattr(StepModel, "read", read)
    session = session_of(config)
    with RunFolder.open(config, resume=False) as folder, StopRequest() as stop:
        with open_run("train", session.learner, config, folder, stop) as run:
            run.evaluate(session.answerer, session.validation, (), last=False)
        assert (folder.evaluations / "step_000000.json").is_file()
    assert "out of memory: going on with rollout.max_concurrent 2" in capsys.readouterr().err
    assert session.learner.shortages() == {"out_of_memory": 1}
    assert session.learner.shortages() == {}


def test_what_the_failed_pass_held_is_free_before_memory_is_given_back(config, monkeypatch):
    plain, held, alive = Policy.forward, [], []

    def forward(self, batch, temperature, *known):
        logprobs, entropies = plain(self, batch, temperature, *known)
        if not held:
            held.append(weakref.ref(logprobs))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logprobs, entropies

    monkeypatch.setattr(Policy, "forward", forward)
    monkeypatch.setattr("gpg_vl.training.learner.release_memory", lambda: alive.append(held[0]() is not None))
    train(replace(config, run=replace(config.run, steps=1)))
    assert alive == [False]


def test_out_of_memory_lets_fewer_answers_grow(config, monkeypatch, capsys, tmp_path):
    """The same answers, and groups that were complete are not sampled again."""
    config = replace(config, data=replace(config.data, validation=[]))
    whole = train(config)
    plain, generate, rows, asked = StepModel.read, OwnEngine.generate, [], []

    def read(self, tokens, *rest):
        rows.append(len(tokens))
        if len(rows) == 12:  # the first two groups end with the ninth
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, tokens, *rest)

    def count(self, requests, *rest, **options):
        asked.append(len(requests))
        return generate(self, requests, *rest, **options)

    monkeypatch.setattr(StepModel, "read", read)
    monkeypatch.setattr(OwnEngine, "generate", count)
    rollout = replace(config.rollout, max_concurrent=8)
    again = train(replace(config, out=str(tmp_path / "again"), rollout=rollout))
    assert "out of memory: going on with rollout.max_concurrent 4" in capsys.readouterr().err
    assert max(rows[:12]) == 8 and max(rows[12:]) == 4
    assert asked[:2] == [4, 2]
    for step in range(1, 5):
        found = [
            pq.read_table(out / f"rollouts/step_{step:06d}.parquet")
            for out in (whole.parents[2], tmp_path / "again")
        ]
        assert found[0]["text"] == found[1]["text"] and found[0]["rewards"] == found[1]["rewards"]
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(again)[name], weight, rtol=1e-4, atol=1e-5)


def test_out_of_memory_with_a_group_alone_ends_the_run(config, monkeypatch):
    rows = []

    def read(self, tokens, *_):
        rows.append(len(tokens))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StepModel, "read", read)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train(replace(config, data=replace(config.data, validation=[])))
    assert "lower rollout.group_size" in caught.value.__notes__[0]
    assert rows == [16, 8, 4]


def test_the_watchdog_prints_rank_phase_and_stack(capfd):
    with watched("rollout", rank=3, limit=0.05):
        time.sleep(0.4)
    with watched("update", rank=3, limit=5):
        pass
    err = capfd.readouterr().err
    assert "rank 3 has been in phase 'rollout' for 0.05 s" in err
    assert "test_the_watchdog_prints_rank_phase_and_stack" in err
    assert "update" not in err


def test_the_best_checkpoint_outlives_the_rotation(config):
    run = RunConfig(steps=4, threads=1, save_every=1, keep_last=1, keep_best=True)
    train(replace(config, run=run, eval=EvalConfig(every=2, limit=4, max_new_tokens=10)))
    folder = Path(config.out, "checkpoints")
    values = {one["step"]: one["totals"]["accuracy"]["mean"] for one in read_evaluations(Path(config.out))}
    best = max(values, key=lambda step: (values[step], -step))
    assert read_best(folder) == Best(best, "accuracy", values[best])
    kept = {step_of(path) for path in list_checkpoints(folder)}
    assert kept == {best, 4} - {0}


def test_validation_knows_the_rewards_and_the_best_may_go_by_them(config):
    """Evaluations have the run's own rewards; a killed run that goes on keeps the best of both parts."""
    own = next(iter(config.rewards))
    run = RunConfig(steps=4, threads=1, save_every=2, keep_last=1, keep_best=True, best_by=f"reward/{own}")
    config = replace(config, run=run, eval=EvalConfig(every=1, limit=4, max_new_tokens=10))
    train(replace(config, run=replace(run, steps=2), optim=replace(config.optim, schedule="constant")))
    folder = Path(config.out, "checkpoints")
    (folder / "best.json").unlink()  # as if killed before it was written
    train(replace(config, optim=replace(config.optim, schedule="constant")), resume="auto")
    evaluations = read_evaluations(Path(config.out))
    assert [one["step"] for one in evaluations] == [0, 1, 2, 3, 4]
    for one in evaluations:
        assert one["rewards"] == config.rewards
        for item in one["items"]:
            assert item["rewards"][own] == item["output"].count("e")
    values = {one["step"]: one["totals"][f"reward/{own}"]["mean"] for one in evaluations}
    there = {step for step in values if step in (0, 2, 4) or values[step] == max(values.values())}
    best = read_best(folder)
    assert best is not None and best.value == max(values[step] for step in there) == values[best.step]


def test_the_figure_of_the_best_must_be_one_that_is_evaluated(config):
    with pytest.raises(ConfigurationError, match=r"unknown run\.best_by 'reward/formal'.*'reward/format'"):
        replace(config, run=RunConfig(best_by="reward/formal"))
    with pytest.raises(ConfigurationError, match=r"unknown run\.best_by 'reward'; known: accuracy, format"):
        SftConfig(out=config.out, model=config.model, data=config.data, run=RunConfig(best_by="reward"))


def test_keep_best_needs_evaluations(config):
    with pytest.raises(ConfigurationError, match=r"run\.keep_best goes by evaluations: set eval\.every"):
        replace(config, run=RunConfig(keep_best=True), eval=EvalConfig(every=0))


def test_a_reward_that_grades_nothing_is_told_once(config, tmp_path, capsys):
    (tmp_path / "silent.py").write_text("def silent(completion, sample):\n    return None\n")
    silent = f"{tmp_path / 'silent.py'}:silent"
    train(replace(config, rewards={silent: {"allow_ungraded": True}}))
    said = capsys.readouterr().err
    assert said.count("silent' could grade no group") == 1
    assert said.count("no group was valid") == 1


def test_a_reward_that_grades_nothing_ends_the_run_after_its_first_step(config, tmp_path):
    (tmp_path / "silent.py").write_text("def silent(completion, sample):\n    return None\n")
    with pytest.raises(ConfigurationError, match=r"silent' gave no answer of the first step .*allow_un"):
        train(replace(config, rewards={f"{tmp_path / 'silent.py'}:silent": 1.0, "choice": 1.0}))
    assert len(Path(config.out, "metrics.jsonl").read_text().splitlines()) == 1


def test_unused_routes_and_weights_below_0_are_said_once(config, capsys):
    rewards = {"by_task": {"scenes": {"choice": 1.0, "format": -0.5}, "math": {"math": 1.0}}}
    train(replace(config, rewards=rewards))
    said = capsys.readouterr().err
    assert said.count("rewards.by_task.math is used by no row of the data") == 1
    assert said.count("rewards.by_task.scenes.format has the weight -0.5") == 1
