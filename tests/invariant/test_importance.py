"""Answers of another sampler than the trainer: updates against plain transformers, and runs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from gpg_vl.algorithm.batch import Knobs, step_batch
from gpg_vl.algorithm.collect import Collection
from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.rollout.engine import Answer
from gpg_vl.runtime.parallel import World
from gpg_vl.training.learner import Learner
from gpg_vl.training.train import train, update
from gpg_vl.types import Metrics
from tests.support.inputs import encoder_of
from tests.support.other_sampler import OFF, disagree
from tests.support.steps import LENGTHS, REWARDS, TEMPERATURE, made_up, plain_logprobs
from tests.support.training import metrics, same

CAP, RATE = 1.5, 0.5
HIGH = 2.0
"""So far above `clip` that ratios lie between the two."""
PARTS = {
    (1, False): [(0, 2, 3)],
    (1, True): [(0, 1, 2, 3)],
    (2, False): [(0, 3), (2,)],
    (2, True): [(0, 2), (1, 3)],
    (8, False): [(0,), (2,), (3,)],
}
"""The groups of each mini-batch by their number, and by whether a KL term has the invalid one trained too."""
INVALID = 1
LIKE_GPG = {"std_normalize": False, "age": True, "normalize": "group", "kl_beta": 0.0}
CASES = {
    "gpg": AlgorithmConfig(importance_cap=CAP),
    "gpg, off": AlgorithmConfig(importance_cap=0.0),
    "gpg, hardly capped": AlgorithmConfig(importance_cap=2.5),
    "grpo": AlgorithmConfig.of("grpo", updates_per_rollout=3, importance_cap=CAP, **LIKE_GPG),
    "grpo, off": AlgorithmConfig.of("grpo", updates_per_rollout=3, importance_cap=0.0, **LIKE_GPG),
    "dr_grpo": AlgorithmConfig.of("dr_grpo", updates_per_rollout=2, importance_cap=CAP, **LIKE_GPG),
    "dapo": AlgorithmConfig.of(
        "dapo",
        updates_per_rollout=2,
        importance_cap=CAP,
        clip_high=HIGH,
        **LIKE_GPG | {"mask_truncated": False},
    ),
    "gspo": AlgorithmConfig.of("gspo", updates_per_rollout=3, importance_cap=CAP, **LIKE_GPG),
    "leave one out": AlgorithmConfig.of("rloo", updates_per_rollout=2, importance_cap=CAP, **LIKE_GPG),
    "with a KL term": AlgorithmConfig.of(
        "grpo", updates_per_rollout=2, importance_cap=CAP, **LIKE_GPG | {"kl_beta": 0.3}
    ),
    "mini-batches": AlgorithmConfig.of("grpo", mini_batches=2, importance_cap=CAP, **LIKE_GPG),
    "a group each": AlgorithmConfig.of("gspo", mini_batches=8, importance_cap=CAP, **LIKE_GPG),
    "mini-batches, twice": AlgorithmConfig.of(
        "grpo", mini_batches=2, updates_per_rollout=2, importance_cap=CAP, **LIKE_GPG | {"kl_beta": 0.3}
    ),
}
CUTS = {"whole": ("group", 10_000), "rows": ("none", 200), "answers": ("auto", 1)}
Weights = dict[str, Tensor]


@pytest.fixture
def collection(policy: Policy, mixed_samples, tiny_folder: Path) -> Collection:
    """Answers whose sampler's probabilities are off by up to e, either way."""
    reference = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    groups = []
    for group in made_up(policy, mixed_samples).groups:
        answers = []
        for answer in group.answered.answers:
            with torch.no_grad():
                logprobs = plain_logprobs(policy, reference, group, answer)
            off = 2 * torch.rand(len(logprobs), generator=generator) - 1
            answers.append(replace(answer, logprobs=tuple((logprobs + off).float().tolist())))
        groups.append(replace(group, answered=replace(group.answered, answers=tuple(answers))))
    return Collection(tuple(groups), 1)


def ours(
    policy: Policy, collection: Collection, algorithm: AlgorithmConfig, folder: Path, cut: str
) -> tuple[Weights, Metrics]:
    """Weights behind the updates of plain SGD, by all that carries them, and the figures."""
    packing, tokens = CUTS[cut]
    knobs = Knobs.of(algorithm, 16)
    batch, _ = step_batch(collection, knobs, packing=packing, max_tokens=150, token_cost=1.0)
    assert batch is not None
    trained = {name: weight for name, weight in policy.model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD(trained.values())
    here: Any = SimpleNamespace(device=torch.device("cpu"), state=SimpleNamespace(deepspeed_plugin=None))
    encoder, no_data = encoder_of(policy), mock.MagicMock()
    learner = Learner(here, World(), policy, policy, optimizer, encoder, no_data, no_data, 0, tokens)
    config = TrainConfig(
        "x",
        ModelConfig(path="x"),
        data=DataConfig(train=["x"]),
        rollout=RolloutConfig(temperature=TEMPERATURE),
        algorithm=algorithm,
        optim=OptimConfig(learning_rate=RATE, warmup_steps=0, schedule="constant", max_grad_norm=0.0),
        run=RunConfig(),
    )
    reference = load_policy(str(folder)).double() if algorithm.kl_beta else None
    answerer = SimpleNamespace(engine=SimpleNamespace(own=False))
    session: Any = SimpleNamespace(config=config, learner=learner, reference=reference, answerer=answerer)
    figures = update(session, batch, 1)
    return trained, figures


def by_hand(
    policy: Policy, collection: Collection, algorithm: AlgorithmConfig, folder: Path
) -> tuple[Weights, dict[str, float]]:
    """The same from one plain forward per answer."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64)
    frozen = {name for name, weight in policy.model.named_parameters() if not weight.requires_grad}
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in frozen)
    parts = PARTS[algorithm.mini_batches, algorithm.kl_beta > 0]
    answers = {(g, i): answer for g, i, answer in each_answer(collection) if g in sum(parts, ())}
    first, ratios = {}, {}
    for (g, i), answer in answers.items():
        first[g, i] = plain_logprobs(policy, model, collection.groups[g], answer).detach()  # (T,)
        ratios[g, i] = (first[g, i] - torch.tensor(answer.logprobs)).exp()
    for part in parts * algorithm.updates_per_rollout:
        total = torch.zeros((), dtype=torch.float64)
        for (g, i), answer in answers.items():
            if g in part:
                now = plain_logprobs(policy, model, collection.groups[g], answer)
                advantage = REWARDS[g][i] - sum(REWARDS[g]) / 3
                loss = answer_loss(now, first[g, i], ratios[g, i], advantage, algorithm, part)
                total = total + loss / sum(LENGTHS[g])
        model.zero_grad()
        total.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= RATE * (0.0 if weight.grad is None else weight.grad)
    return dict(model.named_parameters()), figures_of(torch.cat([*ratios.values()]), algorithm.importance_cap)


def each_answer(collection: Collection) -> Iterator[tuple[int, int, Answer]]:
    for g, group in enumerate(collection.groups):
        for i, answer in enumerate(group.answered.answers):
            yield g, i, answer


def answer_loss(
    now: Tensor,
    old: Tensor,
    ratios: Tensor,
    advantage: float,
    algorithm: AlgorithmConfig,
    part: tuple[int, ...],
) -> Tensor:
    """Of an answer's tokens, but for its group's divisor; the model of the KL term is that of `old`."""
    weights = ratios.clamp(max=algorithm.importance_cap) if algorithm.importance_cap else 1.0
    difference = old - now
    if algorithm.baseline == "leave_one_out":
        advantage *= 3 / 2
    ratio = (now - old).exp()
    if algorithm.ratio == "sequence":
        ratio = ratio.log().mean().detach().exp() * ratio / ratio.detach()
    gain = ratio * advantage
    if algorithm.preset != "gpg":
        high = algorithm.clip if algorithm.clip_high is None else algorithm.clip_high
        gain = torch.minimum(gain, ratio.clamp(1 - algorithm.clip, 1 + high) * advantage)
    penalty = (difference.exp() - difference - 1).sum() / len(part)
    return algorithm.kl_beta * penalty - (gain * weights).sum() / (len(part) - part.count(INVALID))


def figures_of(ratios: Tensor, cap: float) -> dict[str, float]:
    gap = ratios.log().abs()
    figures = {"logprob_gap": gap.mean(), "logprob_gap/max": gap.max()}
    figures |= {f"importance/{name}": getattr(ratios, name)() for name in ("min", "mean", "max")}
    figures |= {"importance/capped": (ratios > cap).double().mean()} if cap else {}
    return {name: float(value) for name, value in figures.items()}


def moved(found: Weights, start: Weights) -> Tensor:
    return torch.cat([(found[name].detach() - before).flatten() for name, before in start.items()])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", CASES)
def test_updates_are_the_formula(policy, tiny_folder, collection, case, cut):
    """However they are cut; warnings, such as one of wrong slopes, are errors."""
    policy, algorithm = policy.double(), CASES[case]
    start = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    expected, right = by_hand(policy, collection, algorithm, tiny_folder)
    found, figures = ours(policy, collection, algorithm, tiny_folder, cut)
    wanted = moved(expected, start)
    assert (moved(found, start) - wanted).norm() / wanted.norm() < 1e-6
    assert {name: figures[name] for name in right} == pytest.approx(right, rel=1e-6)
    assert ("importance/capped" in figures) == (algorithm.importance_cap > 0)
    assert 0.0 < figures.get("importance/capped", 0.5) < 1.0
    assert figures.get("clipped_fraction", 1.0) > 0  # else there is nothing to see in later updates


def test_dummies_weigh_nothing(policy, tiny_folder, collection):
    """Where only the vision tower is trained, one stands behind every micro-batch without an image."""
    policy, algorithm = policy.double(), CASES["gpg"]
    choose_weights(policy, ModelConfig(path="x", freeze_language=True))
    start = {n: w.detach().clone() for n, w in policy.model.named_parameters() if w.requires_grad}
    expected, right = by_hand(policy, collection, algorithm, tiny_folder)
    found, figures = ours(policy, collection, algorithm, tiny_folder, "answers")
    wanted = moved(expected, start)
    assert (moved(found, start) - wanted).norm() / wanted.norm() < 1e-6
    assert {name: figures[name] for name in right} == pytest.approx(right, rel=1e-6)


def test_the_trainers_own_answers_weigh_exactly_one(config, tmp_path):
    """With any cap: the same weights bit for bit, and figures without ratios."""
    config = replace(config, data=replace(config.data, validation=[]), run=replace(config.run, steps=2))
    folders = []
    for cap in (0.0, 1.0, 2.0):
        out = str(tmp_path / f"cap-{cap:g}")
        folders.append(
            train(replace(config, out=out, algorithm=replace(config.algorithm, importance_cap=cap)))
        )
    lines = [metrics(folder.parents[2]) for folder in folders]
    assert all(same(folders[0], folder) for folder in folders) and lines[0] == lines[1] == lines[2]
    assert "logprob_gap" in lines[0][0]
    assert not [name for name in lines[0][0] if name.startswith(("importance", "logprob_gap/"))]


def test_a_run_says_that_its_sampler_is_off(config, monkeypatch, capsys, tmp_path):
    disagree(monkeypatch.setattr)
    config = replace(config, data=replace(config.data, validation=[]), run=replace(config.run, steps=2))
    corrected = train(config)
    told = "step 1: logprob_gap is above rollout.gap_warning 0.02: the sampler's probabilities are not"
    assert capsys.readouterr().err.count(told) == 1
    for line in metrics(Path(config.out)):
        assert 0.3 < line["logprob_gap"] < line["logprob_gap/max"] <= OFF + 1e-3
        assert 0.3 < line["importance/min"] < 1 < line["importance/mean"] < line["importance/max"] < 3.33
        assert 0 < line["importance/capped"] < 1
    records = pq.read_table(Path(config.out) / "rollouts" / "step_000001.parquet")
    assert set(records["version"].to_pylist()) == {7}
    silent = replace(config.rollout, gap_warning=0.0)
    off = replace(config.algorithm, importance_cap=0.0)
    plain = train(replace(config, out=str(tmp_path / "off"), rollout=silent, algorithm=off))
    assert "gap_warning" not in capsys.readouterr().err
    assert "importance/capped" not in metrics(tmp_path / "off")[0] and not same(corrected, plain)
