"""FlexAttention computes what SDPA does with a mask.

Its kernels exist on GPUs only. The operator that torch runs without a compiler has the same values and
gradients on a CPU, once the check that refuses those is off.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import flex_attention as torchs

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ConfigurationError
from gpg_vl.model import flex
from gpg_vl.model.flex import BLOCK, block_mask, check_flex
from gpg_vl.model.loading import load_policy
from gpg_vl.model.masks import Sight, additive_mask
from gpg_vl.model.packing import collate, join
from gpg_vl.model.policy import Policy
from gpg_vl.rollout.engine import Request
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.sampling import Sampling
from tests.support.inputs import encoder_of
from tests.support.packed import by_answer, gradient, rows_of

# Dynamo, which torch runs the operator with, reads the gradients of its arguments.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """FlexAttention on a CPU without a compiler: the shapes of its queries."""
    shapes = []

    def eager(query, *arguments, **options):
        shapes.append(query.shape)
        return torchs.flex_attention(query, *arguments, **options)

    monkeypatch.setattr(torchs, "_validate_device", lambda *_: None)
    monkeypatch.setattr(torchs, "_WARNINGS_SHOWN", {"flex_attention_performance"})
    monkeypatch.setattr(flex, "_compiled", lambda: eager)
    torch._dynamo.reset()
    return shapes


@pytest.mark.parametrize(("packing", "joined"), [("group", False), ("group", True), ("none", True)])
def test_flex_equals_sdpa(policy: Policy, groups, calls, packing, joined):
    rows = rows_of(groups, packing, 130)
    rows = join(rows, 400) if joined else rows
    found = {}
    for policy.flex in (False, True):
        logprobs = by_answer(policy, rows, 600)
        found[policy.flex] = logprobs.detach(), gradient(policy, logprobs)
    assert (found[True][0] - found[False][0]).abs().max() < 2e-6
    assert (found[True][1] - found[False][1]).norm() / found[False][1].norm() < 2e-6
    assert calls and len(calls) % policy.layers == 0
    assert all(shape[2] % BLOCK == 0 for shape in calls)


def test_autocast_reaches_it(policy: Policy, groups, calls, monkeypatch):
    plain, kinds = flex._compiled(), []

    def noted(query, key, value, **options):
        kinds.append({tensor.dtype for tensor in (query, key, value)})
        return plain(query, key, value, **options)

    monkeypatch.setattr(flex, "_compiled", lambda: noted)
    policy.flex = policy.bf16 = True
    with torch.no_grad():
        logprobs = by_answer(policy, rows_of(groups, "group"), 10_000)
        policy.flex = False
        expected = by_answer(policy, rows_of(groups, "group"), 10_000)
    assert kinds == [{torch.bfloat16}] * policy.layers
    assert (logprobs - expected).abs().max() < 0.05


@pytest.mark.parametrize("sight", [Sight(), Sight(60), Sight(60, True)], ids=str)
def test_blocks_that_nobody_reads_are_left_out(groups, sight: Sight):
    tree = collate(join(rows_of(groups, "group"), 10_000), BLOCK).tree
    blocks = block_mask(tree, sight).to_dense()[:, 0] > 0
    allowed = additive_mask(tree, torch.float32, sight)[:, 0] == 0  # (R, S, S)
    read = allowed.unflatten(2, (-1, BLOCK)).unflatten(1, (-1, BLOCK)).any(4).any(2)
    assert torch.equal(blocks, read)
    assert 0 < int(read.sum()) < read.shape[1] * (read.shape[1] + 1) // 2  # less than causal attention's


def test_causal_rows_and_rollouts_never_meet_it(policy: Policy, groups, mixed_samples, calls):
    policy.flex = True
    by_answer(policy, rows_of(groups, "none"), 10_000)
    requests = [Request(prompt, "a") for prompt in encoder_of(policy).encode(mixed_samples[:2])]
    OwnEngine(policy, max_concurrent=4).generate(requests, 2, Sampling(4))
    assert not calls


def test_where_it_cannot_train_it_is_refused(tiny_folder, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"model\.attention 'flex' needs a GPU, not 'cpu'.*sdpa"):
        load_policy(str(tiny_folder), attention="flex")
    cuda = torch.device("cuda")
    with pytest.raises(ConfigurationError, match=r"attention_dropout is 0\.1"):
        monkeypatch.setattr(flex, "find_spec", lambda _: True)
        check_flex(SimpleNamespace(attention_dropout=0.1), cuda)
    check_flex(SimpleNamespace(attention_dropout=0.0), cuda)
    monkeypatch.setattr(flex, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="package triton"):
        check_flex(SimpleNamespace(), cuda)


def test_it_is_off_by_default(policy: Policy):
    assert ModelConfig().attention == "sdpa" and not policy.flex


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("precision", "nats", "share"), [("fp32", 1e-4, 1e-3), ("bf16", 0.1, 0.1)])
def test_kernels_of_the_gpu_equal_sdpa(tiny_folder, groups, precision, nats, share):
    """Two shapes, for which it compiles once."""
    found = {}
    for attention in ("sdpa", "flex"):
        policy = load_policy(str(tiny_folder), precision=precision, attention=attention, device="cuda")
        for count in (len(groups), 2):
            rows = join(rows_of(groups[:count], "group"), 10_000)
            logprobs, _ = policy(policy.collate(rows).to(policy.device), 1.0)
            found[attention, count] = logprobs.detach(), gradient(policy, logprobs)
    for count in (len(groups), 2):
        (expected, slopes), (logprobs, theirs) = found["sdpa", count], found["flex", count]
        assert (logprobs - expected).abs().max() < nats
        assert (theirs - slopes).norm() / slopes.norm() < share
