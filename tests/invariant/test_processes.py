"""Two processes with the same global batch make the same update as one: plain, ZeRO-2, ZeRO-3 (CPU, gloo).

Whatever the launcher says of accumulation, clipping and batch sizes.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpg_vl.config import AlgorithmConfig, DataConfig, TrainConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.adapt import merge
from gpg_vl.model.loading import load_policy
from gpg_vl.training.train import train
from tests.support.launched import ACCUMULATING, LAUNCHES, finish, sent_file, start
from tests.support.other_sampler import disagree
from tests.support.sent import assert_same, on_the_hub
from tests.support.training import metrics, weights


@pytest.fixture
def config(mixed_training: TrainConfig) -> TrainConfig:
    return mixed_training


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [
        *((kind, False) for kind in LAUNCHES),
        *(pytest.param(kind, True, marks=pytest.mark.slow) for kind in ("ddp", "zero3")),
    ],
)
def test_two_processes_update_like_one(config, kind, compiled, tmp_path):
    one = load_file(train(config) / "model.safetensors")
    two = replace(config, out=str(tmp_path / kind), model=replace(config.model, compile=compiled))
    finish(two, start(two, kind, sends=True))
    checkpoint = tmp_path / kind / "checkpoints" / "step_000003"
    assert (checkpoint / "state" / "deepspeed").is_dir() == (kind != "ddp")
    untrained = load_file(Path(config.model.path) / "model.safetensors")
    trained = load_file(checkpoint / "model" / "model.safetensors")
    assert trained.keys() == one.keys()
    assert_sent(two, checkpoint / "model")
    moved = max(float((one[name] - untrained[name]).abs().max()) for name in one)
    assert moved > 1e-2
    tolerance = 1e-4 if compiled else 1e-5  # compiled layers round elsewhere
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=tolerance * moved, msg=name)
    for ours, theirs in zip(metrics(tmp_path / kind), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "zero2"])
def test_two_processes_weigh_another_samplers_answers_like_one(config, kind, monkeypatch, tmp_path):
    """Ratios and how many were capped, over all of them; dummies keep step under ZeRO."""
    disagree(monkeypatch.setattr)
    config = replace(config, run=replace(config.run, steps=2))
    one = weights(train(config))
    two = replace(config, out=str(tmp_path / kind))
    finish(two, start(two, kind, off=True))
    trained = weights(tmp_path / kind / "checkpoints/step_000002/model")
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=1e-6, msg=name)
    for ours, theirs in zip(metrics(tmp_path / kind), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6) and 0 < ours["importance/capped"] < 1


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [
        ("ddp", False),
        ("zero3", False),
        *(pytest.param(*way, marks=pytest.mark.slow) for way in (("zero2", False), ("zero3", True))),
    ],
)
def test_two_processes_take_mini_batches_like_one(config, kind, compiled, scene_samples, tmp_path):
    """A step each, behind a pass without a gradient; of the smaller ones a process has no row.

    All with images: in a step without, DeepSpeed's optimizer goes on by the vision tower's momentum.
    """
    write_prepared(scene_samples[:8], tmp_path / "images", source="", converter="images", version="1")
    config = replace(config, data=DataConfig(train=[str(tmp_path / "images")]))
    knobs = {"mini_batches": 3, "updates_per_rollout": 2, "questions_per_step": 4, "max_rounds": 2}
    algorithm = AlgorithmConfig.of("grpo", **knobs, std_normalize=False, kl_beta=0.0)
    config = replace(config, algorithm=algorithm, run=replace(config.run, steps=2))
    one = weights(train(config))
    two = replace(config, out=str(tmp_path / kind), model=replace(config.model, compile=compiled))
    finish(two, start(two, kind))
    trained = weights(tmp_path / kind / "checkpoints/step_000002/model")
    off = 1e-4 if compiled else 1e-6
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=off, msg=name)
    for ours, theirs in zip(metrics(tmp_path / kind), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6) and ours["clipped_fraction"] > 0


def test_a_process_without_rows_updates_like_the_other(config, tmp_path):
    """It has no question, so its gradient is nothing; the vision tower has none on either, as on one."""
    algorithm = replace(config.algorithm, questions_per_step=1, min_valid_fraction=0.0)
    config = replace(config, algorithm=algorithm)
    one = load_file(train(config) / "model.safetensors")
    two = replace(config, out=str(tmp_path / "two"))
    finish(two, start(two, "ddp"))
    trained = load_file(tmp_path / "two/checkpoints/step_000003/model/model.safetensors")
    for name, weight in one.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=1e-7, msg=name)
    for ours, theirs in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_a_launchers_accumulation_changes_nothing_on_one_process(config, monkeypatch, tmp_path, capsys):
    train(config)
    for name, value in ACCUMULATING.items():
        monkeypatch.setenv(name, value)
    train(replace(config, out=str(tmp_path / "accumulating")))
    assert metrics(tmp_path / "accumulating") == metrics(tmp_path / "one")
    assert "gradient_accumulation_steps 4 (run.micro_batch_tokens decides)" in capsys.readouterr().err


def test_zero3_trains_adapters_like_one_process(config, tmp_path):
    model, run = replace(config.model, lora_rank=2), replace(config.run, steps=2)
    config = replace(config, model=model, run=run)
    one = train(config)
    two = replace(config, out=str(tmp_path / "zero3"))
    finish(two, start(two, "zero3", sends=True))
    other = tmp_path / "zero3" / "checkpoints" / "step_000002" / "model"
    expected = load_file(one / "adapter_model.safetensors")
    trained = load_file(other / "adapter_model.safetensors")
    assert trained.keys() == expected.keys()
    assert max(float(expected[name].abs().max()) for name in expected if "lora_B" in name) > 1e-2
    for name, weight in expected.items():
        torch.testing.assert_close(trained[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    for ours, theirs in zip(metrics(tmp_path / "zero3"), metrics(tmp_path / "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert load_policy(str(other)).has_adapter
    merge(str(other), tmp_path / "merged")
    assert_sent(two, tmp_path / "merged")


def assert_sent(config: TrainConfig, model: Path) -> None:
    """Each process had the weights of `model` to send, behind the last step."""
    expected = on_the_hub(load_policy(str(model)), model)
    for rank in range(2):
        assert_same(load_file(sent_file(config, rank)), expected)


@pytest.mark.parametrize(
    ("kind", "model", "optim"),
    [
        ("zero2", {"lora_rank": 2}, {}),
        ("ddp", {"lora_rank": 2, "frozen_precision": "nf4"}, {}),
        ("ddp", {"trained_precision": "bf16"}, {"kind": "adamw8bit"}),
        pytest.param("zero3", {"lora_rank": 2, "lora_vision": True}, {}, marks=pytest.mark.slow),
        pytest.param("zero2", {"freeze_vision": True}, {}, marks=pytest.mark.slow),
    ],
)
def test_weights_held_in_less_train_on_two_processes_as_on_one(config, kind, model, optim, tmp_path):
    """In bf16 arithmetic, whose sums round as they are cut: the two differ by less than a fifth of a step,
    behind which answers may differ."""
    held = replace(config.model, precision="bf16", **model)
    rate = replace(config.optim, learning_rate=1e-3, **optim)
    config = replace(config, model=held, optim=rate, run=replace(config.run, steps=2))
    one = weights(train(config))
    two = replace(config, out=str(tmp_path / "two"))
    finish(two, start(two, kind))
    trained = weights(tmp_path / "two/checkpoints/step_000002/model")
    assert {name: weight.dtype for name, weight in trained.items()} == {n: w.dtype for n, w in one.items()}
    off = sum(float((trained[name].float() - one[name].float()).abs().sum()) for name in one)
    moved = 2 * 1e-3 * sum(weight.numel() for name, weight in one.items() if "lora_A" not in name)
    assert off < 0.2 * moved
    first = [metrics(tmp_path / run)[0] for run in ("two", "one")]
    assert first[0]["loss"] == pytest.approx(first[1]["loss"], rel=0.05, abs=1e-3)


def test_another_layout_of_the_optimizer_is_refused_by_name(config, tmp_path):
    first = replace(config, run=replace(config.run, steps=1))
    train(first)
    started = start(replace(config, run=replace(config.run, steps=2)), "zero2", resume=True)
    assert [process.wait(timeout=300) for process in started] == [
        1,
        1,
    ]
    log = Path(config.out).with_suffix(".0.log").read_text()
    assert "holds the optimizer's state as 'whole', this launch needs 'ZeRO-2 on 2 processes'" in log
