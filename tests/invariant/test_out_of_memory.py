"""One of two processes runs out of memory: both go on with less, or both end (CPU, gloo)."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from gpg_vl.config import AlgorithmConfig, TrainConfig
from tests.support.launched import finish, start
from tests.support.processes import ending
from tests.support.training import metrics, same

PLENTY = 10**9


@pytest.fixture
def config(mixed_training: TrainConfig) -> TrainConfig:
    """Two questions for each process, an answer a row."""
    return replace(
        mixed_training,
        algorithm=AlgorithmConfig(questions_per_step=4, max_rounds=1, min_valid_fraction=0.0),
        rollout=replace(mixed_training.rollout, max_concurrent=8),
        run=replace(mixed_training.run, steps=2, micro_batch_tokens=400, packing="none"),
    )


def log(config: TrainConfig, rank: int) -> str:
    return Path(config.out).with_suffix(f".{rank}.log").read_text()


def test_both_go_on_with_what_one_has_memory_for(config, tmp_path):
    """From the failed step on as a run that was set up so, bit for bit."""
    finish(config, start(config, "ddp", small=(4, 210)))
    undisturbed = replace(
        config,
        out=str(tmp_path / "undisturbed"),
        rollout=replace(config.rollout, max_concurrent=4),
        run=replace(config.run, micro_batch_tokens=200),
    )
    finish(undisturbed, start(undisturbed, "ddp"))
    said = [line for line in log(config, 0).splitlines() if "out of memory" in line]
    assert said == [
        "out of memory on rank 1: going on with rollout.max_concurrent 4",
        "out of memory on rank 1: going on with run.micro_batch_tokens 200",
    ]
    assert "out of memory" not in log(config, 1)
    model = Path("checkpoints/step_000002/model")
    assert same(Path(config.out) / model, Path(undisturbed.out) / model)
    untrained = load_file(Path(config.model.path) / "model.safetensors")
    trained = load_file(Path(config.out) / model / "model.safetensors")
    assert any(not weight.equal(trained[name]) for name, weight in untrained.items())
    lines, expected = metrics(Path(config.out)), metrics(Path(undisturbed.out))
    assert [line.pop("out_of_memory", 0) for line in lines] == [2, 0]
    for ours, theirs in zip(lines, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-7)
    records = [pq.read_table(Path(one.out) / "rollouts/step_000002.parquet") for one in (config, undisturbed)]
    assert records[0]["text"] == records[1]["text"]


@pytest.mark.parametrize(
    ("small", "error", "note"),
    [
        ((PLENTY, 1), "no memory for", "lower run.micro_batch_tokens"),
        ((3, PLENTY), "no memory for 4 answers", "lower rollout.group_size"),
    ],
)
def test_both_end_where_nothing_smaller_is_left(config, small, error, note):
    started = start(config, "ddp", small=small)
    with ending(*started):
        assert [process.wait(timeout=300) for process in started] == [1, 1]
    for rank, start_of_line in enumerate(("rank 1 of 2: ", "")):
        assert f"torch.OutOfMemoryError: {start_of_line}{error}" in log(config, rank)
        assert note in log(config, rank)


def test_deepspeed_does_not_try_again(config):
    started = start(config, "zero2", small=(PLENTY, 1))
    with ending(*started):  # the first waits inside a collective, as a launcher would find it
        assert started[1].wait(timeout=300) == 1
    assert "DeepSpeed's processes communicate in each pass" in log(config, 1)
    assert "lower run.micro_batch_tokens" in log(config, 1)
