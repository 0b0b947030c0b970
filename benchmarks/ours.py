"""One step of this project: its own `train_step`."""

import tempfile
from pathlib import Path

import torch

from benchmarks import inputs
from benchmarks.phases import Phases, warm_and_measure
from benchmarks.workloads import Workload
from gpg_vl.config import AlgorithmConfig, DataConfig, ModelConfig, RolloutConfig, RunConfig, TrainConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.training.accelerator import build_accelerator
from gpg_vl.training.ahead import ScoringAhead
from gpg_vl.training.session import Session, build_session
from gpg_vl.training.train import train_step

MICRO_BATCH = RunConfig().micro_batch_tokens
"""Tokens of a forward and backward pass."""


def build(workload: Workload, model: Path, data: Path) -> Session:
    """A session on the workload; `data` is written and must not exist."""
    write_prepared(inputs.samples(workload), data, source="noise", converter="benchmarks", version="1")
    config = TrainConfig(
        out=str(data.parent),
        model=ModelConfig(path=str(model)),
        data=DataConfig(train=[str(data)], max_prompt_tokens=4096, workers=0),
        rollout=RolloutConfig(group_size=workload.group_size, max_new_tokens=workload.new_tokens, stop=[]),
        algorithm=AlgorithmConfig(questions_per_step=workload.questions, max_rounds=1),
        rewards={f"{inputs.__file__}:text_hash": 1.0},
        run=RunConfig(threads=torch.get_num_threads()),
    )
    session = build_session(config, build_accelerator(config), None)
    policy = session.learner.policy
    policy.suppress(inputs.suppressed_tokens(policy.processor, policy.model))
    return session


def run(workload: Workload, model: Path, phases: Phases) -> None:
    """Measure one step."""
    with tempfile.TemporaryDirectory() as folder:
        session = build(workload, model, Path(folder) / "data")
        learner = session.learner
        phases.hook_model(learner.policy.model)
        phases.wrap(session.answerer.engine, "generate", "decode")
        phases.wrap(ScoringAhead, "results", "rewards")
        phases.wrap(learner.model, "forward", "forward")
        phases.wrap(learner, "backward", "backward")
        phases.wrap(learner, "optimizer_step", "optimizer")
        warm_and_measure(lambda step: train_step(session, step), phases)
