"""What only a GPU shows: `make test-gpu`; skipped where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpg_vl.cli.main import main
from gpg_vl.config import AlgorithmConfig, DataConfig, ModelConfig, RolloutConfig, RunConfig, TrainConfig
from gpg_vl.model.loading import load_policy
from gpg_vl.model.tiny import TinySize, save_tiny
from gpg_vl.rollout.decoding import DecodeOptions
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from tests.support.inputs import encoder_of
from tests.support.memory import TOLERANCE, forecast_and_peak
from tests.support.packed import by_answer, rows_of
from tests.support.tensor_memory import peak_on_gpu
from tests.support.training import REWARD

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


OPTIONS = [
    DecodeOptions(8, 64, graphs=graphs, fused=fused) for graphs in (False, True) for fused in (False, True)
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_on_the_gpu_are_those_of_the_cpu(tiny_folder, mixed_samples, options, temperature):
    """Of different lengths and ages, so that slots are given up and taken, and caches grow and shrink."""
    samples = [replace(s, id=f"{s.id}/{copy}") for copy in range(4) for s in mixed_samples]
    answers = {}
    for device in ("cpu", "cuda"):
        policy = load_policy(str(tiny_folder), precision="fp32", device=device)
        requests = [
            Request(p, s.id) for p, s in zip(encoder_of(policy).encode(samples), samples, strict=True)
        ]
        sampling = Sampling(max_new_tokens=150, temperature=temperature, stop=("e",))
        engine = OwnEngine(policy, max_concurrent=24, options=options if device == "cuda" else None)
        answers[device] = [answer for group in engine.generate(requests, 4, sampling) for answer in group]
    # a draw may fall beside a token's edge by rounding
    same = [
        cpu
        for cpu, cuda in zip(answers["cpu"], answers["cuda"], strict=True)
        if cpu.token_ids == cuda.token_ids
    ]
    assert len(same) >= 0.9 * len(samples) * 4
    for cpu, cuda in zip(answers["cpu"], answers["cuda"], strict=True):
        if cpu.token_ids == cuda.token_ids:
            assert cuda.logprobs == pytest.approx(cpu.logprobs, abs=1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bf16_answers_have_the_log_probabilities_of_training(tiny_folder, mixed_samples, options):
    policy = load_policy(str(tiny_folder), precision="bf16", device="cuda")
    prompts = encoder_of(policy).encode(mixed_samples)
    requests = [Request(p, s.id) for p, s in zip(prompts, mixed_samples, strict=True)]
    groups = OwnEngine(policy, max_concurrent=64, options=options).generate(
        requests, 3, Sampling(60, temperature=0.9)
    )
    rows = rows_of([(p, [a.token_ids for a in g]) for p, g in zip(prompts, groups, strict=True)], "group")
    with torch.no_grad():
        trained = by_answer(policy, rows, 10_000).cpu()
    sampled = torch.tensor([value for group in groups for answer in group for value in answer.logprobs])
    assert (trained - sampled).abs().mean() < 0.02


@pytest.mark.parametrize(("precision", "gap"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_training_on_the_gpu(tiny_folder, scenes_folder, tmp_path, precision, gap):
    options = {
        "--out": tmp_path / "run",
        "--model.path": tiny_folder,
        "--model.precision": precision,
        "--data.train": json.dumps([str(scenes_folder)]),
        "--rewards": json.dumps({f"{REWARD}:letters": 1.0}),
        "--rollout.max_new_tokens": 12,
        "--algorithm.questions_per_step": 4,
        "--run.steps": 3,
    }
    main(["train", *(str(word) for pair in options.items() for word in pair)])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["logprob_gap"] < gap for line in lines)
    model = Path(tmp_path / "run" / "checkpoints" / "step_000003" / "model")
    assert load_policy(str(model)).model.dtype == torch.float32


@pytest.mark.parametrize(
    "model", [ModelConfig(), ModelConfig(gradient_checkpointing=True), ModelConfig(precision="fp32")]
)
def test_memory_forecast_on_the_gpu(model, scenes_folder, tmp_path):
    """Large enough for weights and activations to outweigh the libraries' workspaces."""
    size = TinySize(hidden=1024, layers=12, heads=8, kv_heads=2, feed_forward=4096, vocabulary=50_000)
    path = save_tiny(tmp_path / "model", ["Which is nearer?"], size)
    config = TrainConfig(
        out=str(tmp_path / "run"),
        model=replace(model, path=str(path)),
        data=DataConfig(train=[str(scenes_folder)]),
        rollout=RolloutConfig(max_new_tokens=100, stop=[]),
        algorithm=AlgorithmConfig(questions_per_step=16, max_rounds=1),
        rewards={f"{REWARD}:letters": 1.0},
        run=RunConfig(micro_batch_tokens=4096),
    )
    expected, measured = forecast_and_peak(config, peak_on_gpu)
    assert expected == pytest.approx(measured, rel=TOLERANCE)
