"""Whole runs on vLLM: its log-probabilities stay the trainer's, whatever happens to servers."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpg_vl.config import TrainConfig
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout_config import ServerConfig, VllmConfig
from tests.support.launched import finish, start
from tests.support.server_engines import tokens
from tests.support.training import metrics, session_of, weights
from tests.support.vllm_engines import IN_BF16, REAL, STEPS, config_of, differences, move

pytestmark = REAL
NEAR = 1e-5


def served(server, **options: object) -> dict[str, object]:
    return {"engine": "server", "server": ServerConfig(url=[server.url()], **options)}


def assert_sound(config: TrainConfig) -> None:
    """All steps were done on answers of the trainer's own weights, which are no longer the first ones."""
    lines = metrics(Path(config.out))
    assert [line["step"] for line in lines] == list(range(1, config.run.steps + 1))
    assert all(line["logprob_gap"] < NEAR for line in lines), lines
    assert sum(line["skipped"] for line in lines) < config.run.steps / 3
    (last,) = Path(config.out).glob("checkpoints/*/model")
    before, after = weights(Path(config.model.path)), weights(last)
    assert all(not torch.equal(before[name], weight) for name, weight in after.items() if weight.dim() > 1)


def test_a_run_on_a_server(server, model_of, data_of, tmp_path):
    config = config_of(model_of("qwen2_vl"), data_of("qwen2_vl"), tmp_path / "run", served(server))
    finish(config, start(config, "ddp", processes=1))
    assert_sound(config)
    assert all(line["sync_bytes"] > 0 for line in metrics(tmp_path / "run"))


@pytest.mark.parametrize(("family", "size", "steps"), [("qwen2_vl", 1, STEPS), ("qwen2_5_vl", 2, 4)])
def test_a_run_of_two_processes_with_vllm_in_them(family, size, steps, model_of, data_of, tmp_path):
    """Each with a model of its own, or both with one."""
    vllm = VllmConfig(tensor_parallel_size=size)
    rollout = {"engine": "vllm", "vllm": vllm}
    config = config_of(model_of(family), data_of(family), tmp_path / "run", rollout)
    config = replace(config, run=replace(config.run, steps=steps))
    finish(config, start(config, "ddp"))
    assert_sound(config)


def test_a_rollout_outlives_its_server(server, model_of, data_of, scene_samples, tmp_path):
    """All of vLLM's processes are killed once the first group is complete, and it is started again."""
    rollout = served(server, connections=2)
    session = session_of(config_of(model_of("qwen2_vl"), data_of("qwen2_vl"), tmp_path / "run", rollout))
    answerer, sampling = session.answerer, Sampling(48)
    killed: list[bool] = []

    def kill(seen: list[list[int]]) -> None:
        if any(seen) and not killed:
            server.restart()
            killed.append(not all(seen))

    with closing(answerer.engine):
        move(session.learner.policy)
        answerer.engine.sync(1)
        calm = answerer.answer(scene_samples[:24], 4, sampling, step=1)
        answered = answerer.answer(scene_samples[:24], 4, sampling, step=1, watch=kill)
        assert killed == [True]
        assert tokens(answered) == tokens(calm)
        assert differences(session.learner.policy, answered, 1.0).max() < NEAR


def test_adapters_are_merged_on_their_way(server, model_of, data_of, questions, tmp_path):
    """The server has the base; everything that an adapter stands on changes."""
    rollout = served(server)
    model, data = model_of("qwen2_vl"), data_of("qwen2_vl")
    session = session_of(config_of(model, data, tmp_path / "run", rollout, lora_rank=2, lora_vision=True))
    policy, answerer = session.learner.policy, session.answerer
    with closing(answerer.engine):
        gaps = []
        for version in (0, 1):
            answerer.engine.sync(version)
            found = answerer.answer(questions, 4, Sampling(24))
            gaps.append(float(differences(policy, found, 1.0).max()))
            move(policy)
            gaps.append(float(differences(policy, found, 1.0).max()))
    assert gaps[0] < NEAR and gaps[2] < NEAR
    assert gaps[1] > 1e-2 and gaps[3] > 1e-2


@pytest.mark.parametrize("family", ["qwen2_vl", *IN_BF16])
def test_answers_in_bf16_are_near(in_process, questions, family):
    """Each rounds in places of its own."""
    session = in_process(family, precision="bf16")
    policy, answerer = session.learner.policy, session.answerer
    answerer.engine.sync(0)
    move(policy)
    answerer.engine.sync(1)
    answered = answerer.answer(questions, 4, Sampling(24))
    assert policy.bf16 and differences(policy, answered, 1.0).mean() < 0.05
