"""How much work a step is, counted: what a clock would only show on a quiet machine.

Nothing here depends on speed or on which tokens are drawn: end-of-text is suppressed, so every answer is
equally long. An engine that does less work lowers the numbers in WORK; a change that raises them says why.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpg_vl.config import (
    AlgorithmConfig,
    DataConfig,
    ModelConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from gpg_vl.data.ingest import write_prepared
from gpg_vl.model.step import StepModel
from gpg_vl.model.tiny import TinySize, save_tiny
from gpg_vl.rollout import sampling as sampling_module
from gpg_vl.training.accelerator import build_accelerator
from gpg_vl.training.session import Session, build_learner
from gpg_vl.training.train import train_step
from gpg_vl.training.warmstart import sft_step, supervised_rows
from gpg_vl.types import Sample
from tests.support.products import multiplied_rows
from tests.support.training import REWARD, session_of

TOKENS = 24
"""Of every answer: 384 for 4 questions with 4 answers, more than the vocabulary is projected for at once."""
SIZE = TinySize(
    hidden=48, layers=2, heads=3, kv_heads=1, feed_forward=96, vision_hidden=48, vocabulary=20_000
)


@dataclass
class Work:
    """What one half of a step does."""

    text_calls: int = 0
    """Of the text model."""
    text_tokens: int = 0
    """That went through it, padding included."""
    vision_calls: int = 0
    vision_patches: int = 0
    projected: int = 0
    """Rows that were multiplied with the vocabulary's matrix or gave its gradient, each time anew."""
    largest: tuple[int, ...] = ()
    """Shape of the tensor that took most bytes."""


WORK = {
    # Tokens are drawn in blocks of 128: 20,096 for a vocabulary of 20,000.
    # Prompts of 133 to 188 tokens, padded: 4·188 of them, and 23 of every answer; its last is never read.
    4: (
        Work(24, 4 * 188 + 23 * 16, 1, 180, projected=4 + 23 * 16, largest=(16, 20_096)),
        Work(1, 4 * 188 + 23 * 16, 1, 180, projected=3 * 384, largest=(256, 20_000)),
    ),
    8: (
        Work(24, 4 * 188 + 23 * 32, 1, 180, projected=4 + 23 * 32, largest=(32, 20_096)),
        Work(1, 4 * 188 + 23 * 32, 1, 180, projected=3 * 768, largest=(256, 20_000)),
    ),
}
"""By group size, for 4 questions: sampling, and training. Images and prompts cost 8 answers as much as 4."""


class Counter(TorchDispatchMode):
    """Counts into `work`, which may be exchanged meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()
        self._bytes = 0

    def use(self, work: Work) -> None:
        if self.work is not work:
            self.work, self._bytes = work, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.work.projected += multiplied_rows(func, args, SIZE.vocabulary, SIZE.hidden)
        given = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if isinstance(t, Tensor)}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
                self._see(made)
        return result

    def _see(self, made: Tensor) -> None:
        if made.nbytes > self._bytes:
            self._bytes, self.work.largest = made.nbytes, tuple(made.shape)

    def text(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.read(kwargs["inputs_embeds"][..., 0])

    def read(self, tokens: Tensor) -> None:
        self.work.text_calls += 1
        self.work.text_tokens += tokens.numel()

    def vision(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.work.vision_calls += 1
        self.work.vision_patches += len(args[0])


def counted(session: Session) -> tuple[Work, Work]:
    """One step's sampling, and its training; the optimizer's state is there before."""
    policy, counter = session.learner.policy, Counter()
    policy.suppress(policy.eos_token_ids)
    train_step(session, 1)
    sampling, training = Work(), Work()
    counter.use(sampling)
    hooks: list[tuple[Any, Callable[..., None]]] = [
        (policy.text_model, counter.text),
        (policy.vision_tower, counter.vision),
        (session.learner.model, lambda *_: counter.use(training)),
    ]
    read = StepModel.read

    def counted_read(self: StepModel, tokens: Tensor, *args: Any) -> Tensor:
        counter.read(tokens)
        return read(self, tokens, *args)

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepModel, "read", counted_read)
        for module, hook in hooks:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        stack.enter_context(counter)
        train_step(session, 2)
    return sampling, training


@pytest.fixture
def config(mixed_samples: list[Sample], tmp_path: Path) -> TrainConfig:
    """Four questions a step, all of which are valid."""
    save_tiny(tmp_path / "model", ["?"], SIZE)
    write_prepared(mixed_samples, tmp_path / "data", source="", converter="test", version="1")
    return TrainConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(path=str(tmp_path / "model")),
        data=DataConfig(train=[str(tmp_path / "data")], shuffle=False),
        rollout=RolloutConfig(group_size=4, max_new_tokens=TOKENS, stop=[]),
        algorithm=AlgorithmConfig(questions_per_step=len(mixed_samples), max_rounds=1),
        rewards={f"{REWARD}:distinct": 1.0},
        run=RunConfig(threads=1, packing="group"),
    )


@pytest.mark.parametrize("group_size", WORK)
def test_work_of_a_step(group_size: int, config: TrainConfig):
    rollout = replace(config.rollout, group_size=group_size)
    sampling, training = counted(session_of(replace(config, rollout=rollout)))
    assert (sampling, training) == WORK[group_size]


def test_logits_of_sampling_do_not_grow_with_the_answers(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampling_module, "DRAW_ELEMENTS", 12 * SIZE.vocabulary)
    for group_size in (4, 8):
        rollout = replace(config.rollout, group_size=group_size)
        sampling, _ = counted(session_of(replace(config, rollout=rollout)))
        assert sampling.largest == (12, 20_096)


@pytest.mark.parametrize(
    ("algorithm", "products"),
    [
        ({"preset": "grpo"}, 3),
        ({"preset": "dr_grpo"}, 3),
        ({"preset": "grpo", "updates_per_rollout": 2}, 3 + 4),
        ({"preset": "grpo", "mini_batches": 2}, (3 + 1 + 4) // 2),
        ({"preset": "grpo", "kl_beta": 0.1}, 1 + 4),
    ],
    ids=str,
)
def test_products_with_the_vocabulary(algorithm: dict[str, Any], products: int, config: TrainConfig):
    """One less where the loss's slopes are known ahead; a reference model takes one of its own, as does a
    mini-batch that weights are changed before."""
    _, training = counted(session_of(replace(config, algorithm=replace(config.algorithm, **algorithm))))
    assert training.projected == products * 4 * 4 * TOKENS


def test_products_with_the_vocabulary_in_supervised_training(config: TrainConfig):
    supervised = SftConfig(out=config.out, model=config.model, data=config.data, batch_size=4, run=config.run)
    learner, counter = build_learner(supervised, build_accelerator(supervised), None), Counter()
    rows = supervised_rows([learner.data[i] for i in range(4)], learner.encoder, 0)
    with counter:
        sft_step(learner, supervised)
    assert counter.work.projected == 3 * sum(row.targets for row in rows)
