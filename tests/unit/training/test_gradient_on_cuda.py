"""The gradient pass at the size of Qwen2-VL-2B on CUDA without a card: no wait for it, and what it launches.

Backward passes and fused attention need a card; the rest of an update is run as it is.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from gpg_vl.algorithm.batch import StepBatch
from gpg_vl.config import AlgorithmConfig, DataConfig, ModelConfig, RunConfig, TrainConfig
from gpg_vl.model.flex import BLOCK, block_mask
from gpg_vl.model.importance import Importance
from gpg_vl.model.logprobs import LOGITS_ROWS_ON_CUDA, Targets, _scaled_unseen
from gpg_vl.model.packing import Row, collate, pack
from gpg_vl.model.policy import Policy
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.runtime.parallel import World
from gpg_vl.training.learner import Learner
from gpg_vl.training.metrics import UpdateFigures
from gpg_vl.training.train import update
from tests.support.fake_cuda import QWEN2_VL_2B, Kernels, fake_cuda, fake_policy

PROMPT, GROUP, LONGEST = 300, 8, 128
KERNELS = 1506
"""Of one forward pass of packed rows, 425 of them casts; a change that raises it says why."""
PER_PART = 19
"""Of the vocabulary, for each 2,048 targets, its matrix's gradient included."""


def rows_of(groups: int) -> list[Row]:
    """Text prompts with eight answers of 121 to 128 tokens behind each."""
    rows: list[Row] = []
    for group in range(groups):
        prompt = EncodedPrompt(
            token_ids=torch.arange(PROMPT),
            position_ids=torch.arange(PROMPT).expand(3, -1),
            image_mask=torch.zeros(PROMPT, dtype=torch.bool),
            pixel_values=None,
            grid=torch.zeros(0, 3, dtype=torch.long),
        )
        answers = [(GROUP * group + g, tuple(range(LONGEST - g))) for g in range(GROUP)]
        rows += pack(prompt, answers, packing="group", max_tokens=8192, token_cost=1.0)
    return rows


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels]:
    """What is launched; `launched["pinned"]` counts tensors that were pinned."""
    with fake_cuda() as counted:

        def pin_memory(tensor: Tensor) -> Tensor:
            counted.launched["pinned"] += 1
            return tensor

        def addmm(total: Tensor, *_: Any, **__: Any) -> Tensor:
            counted.launched["addmm"] += 1
            return total

        monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
        if torch.__version__ < "2.12":  # it cannot fake an addmm with another type of output
            monkeypatch.setattr(torch, "addmm", addmm)
        yield counted


@pytest.fixture
def policy(kernels: Kernels) -> Policy:
    """Of two layers: more of them say the same, later."""
    return fake_policy(QWEN2_VL_2B | {"text_config": QWEN2_VL_2B["text_config"] | {"num_hidden_layers": 2}})


def test_a_micro_batch_is_copied_without_waiting(kernels: Kernels, monkeypatch: pytest.MonkeyPatch):
    plain, options = Tensor.to, []

    def to(tensor: Tensor, device: torch.device, **given: Any) -> Tensor:
        options.append(given)
        return plain(tensor, device, **given)

    collated = collate(rows_of(2))
    monkeypatch.setattr(Tensor, "to", to)
    batch = collated.to(torch.device("cuda"))
    assert batch.grid.device.type == "cpu"  # the vision tower reads its numbers
    tensors = [v for name, v in vars(batch).items() if isinstance(v, Tensor) and name != "grid"]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
    assert kernels.launched == {"pinned": len(tensors), "_to_copy": len(tensors)}
    assert len(options) >= len(tensors)
    assert all(given == {"non_blocking": True} for given in options)
    # ids instead of a mask of 2 bytes for each pair of tokens
    assert sum(tensor.nbytes for tensor in tensors) < 0.05 * 2 * 2 * batch.tree.shape[2] ** 2


def test_a_forward_pass_waits_for_nothing(kernels: Kernels):
    policy = fake_policy()
    batch = collate(rows_of(2)).to(policy.device)
    kernels.reset()
    logprobs, entropies = policy(batch, 1.0, torch.empty(len(batch.targets), device="cuda"))
    assert (kernels.total, kernels.copies_back) == (KERNELS, 0)
    print("GB", kernels.bytes / 1e9)
    assert kernels.launched["scaled_dot_product_attention"] == policy.layers
    for values in (logprobs, entropies):
        assert values.shape == batch.targets.shape
        assert (values.dtype, values.device.type) == (torch.float32, "cuda")
    assert logprobs.requires_grad


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_the_vocabulary_comes_in_parts_of_2048_targets(cap: float, kernels: Kernels, policy: Policy):
    launched = {}
    for parts in (1, 2, 3):
        count = (parts - 1) * LOGITS_ROWS_ON_CUDA + 1
        hidden = torch.empty(count, 1536, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        tokens = torch.empty(count, device="cuda", dtype=torch.long)
        slopes = torch.empty(count, device="cuda")
        importance = Importance(torch.empty(count, device="cuda"), cap) if cap else None
        kernels.reset()
        with policy.autocast():
            policy.model.lm_head(hidden, Targets(tokens, 1.0, policy.suppressed_ids, slopes, importance))
        launched[parts] = Counter(kernels.launched)
        assert kernels.copies_back == 0
    weighing = 0 if importance is None else 4
    part = launched[2] - launched[1]
    assert part.total() == (launched[3] - launched[2]).total() == PER_PART + weighing
    # logits and their gradient by the hidden states; by the matrix, in place; only the gradient is rounded
    assert (part["mm"], part["addmm"], part["_to_copy"]) == (2, 1, 2)


def test_known_slopes_are_checked_without_waiting(kernels: Kernels):
    notes: list[Tensor] = []
    slopes = torch.empty(300, device="cuda")
    _scaled_unseen(torch.empty(10, 4, device="cuda"), slopes, slopes.clone(), notes.append)
    assert kernels.copies_back == 0
    assert [note.dtype for note in notes] == [torch.bool]


def test_a_block_mask_is_made_without_waiting(kernels: Kernels):
    batch = collate(rows_of(2), BLOCK).to(torch.device("cuda"))
    assert batch.tree.shape[2] == 11 * BLOCK  # 1,288 tokens
    assert block_mask(batch.tree).shape == (2, 1, 11 * BLOCK, 11 * BLOCK)
    assert kernels.copies_back == 0


class Fake(Learner):
    """Leaves out what needs a card, and says when."""

    def backward(self, loss: Tensor, micro: Any) -> None:
        assert loss.device.type == "cuda"

    def optimizer_step(self, rate: float, max_grad_norm: float) -> float:
        return 1.0


@pytest.mark.parametrize("own", [True, False], ids=["own", "another sampler"])
@pytest.mark.parametrize(
    "algorithm",
    [
        AlgorithmConfig(),
        AlgorithmConfig.of("grpo", updates_per_rollout=2),
        AlgorithmConfig.of("dr_grpo"),
        AlgorithmConfig.of("dapo", mini_batches=2),
    ],
    ids=lambda algorithm: f"{algorithm.preset}",
)
def test_micro_batches_of_an_update_wait_for_nothing(
    algorithm: AlgorithmConfig, own: bool, kernels: Kernels, policy: Policy, monkeypatch: pytest.MonkeyPatch
):
    config = TrainConfig("x", ModelConfig(path="x"), data=DataConfig(train=["x"]), run=RunConfig())
    config = replace(config, algorithm=algorithm)
    accelerator: Any = SimpleNamespace(device=torch.device("cuda"))
    accelerator.state = SimpleNamespace(deepspeed_plugin=None)
    unused: Any = mock.MagicMock()
    learner = Fake(accelerator, World(), policy, policy, unused, unused, unused, unused, 0, 2600)
    reference = policy if algorithm.kl_beta else None
    answerer = SimpleNamespace(engine=SimpleNamespace(own=own))
    session: Any = SimpleNamespace(config=config, learner=learner, reference=reference, answerer=answerer)
    monkeypatch.setattr(UpdateFigures, "metrics", lambda self, world: {"tokens": self._tokens})
    parts = algorithm.mini_batches
    answers, rows = 4 * GROUP * parts, rows_of(4 * parts)
    batch = StepBatch(
        mini_batches=tuple(tuple(rows[part::parts]) for part in range(parts)),
        advantages=torch.randn(answers),
        weights=torch.ones(answers),
        kl_weights=torch.ones(answers),
        sampled_logprobs=tuple(tuple([-1.0] * (LONGEST - index % GROUP)) for index in range(answers)),
        sources=tuple(range(answers)),
    )
    kernels.reset()
    figures = update(session, batch, 1)
    assert kernels.copies_back == 0
    assert kernels.launched["scaled_dot_product_attention"] % (2 * policy.layers) == 0  # two each
    assert figures["tokens"] == algorithm.updates_per_rollout * sum(row.targets for row in rows)
