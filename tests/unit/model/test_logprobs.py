"""The vocabulary head beside autograd's own chain over whole logits."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gpg_vl.errors import GpgError, ModelError
from gpg_vl.model import logprobs as module
from gpg_vl.model.importance import Importance
from gpg_vl.model.logprobs import LOGITS_ROWS, Targets, VocabularyHead, _scaled_unseen
from tests.support.products import multiplied_rows

HIDDEN, VOCABULARY = 16, 1000
SUPPRESSED = torch.tensor([3, *range(950, VOCABULARY)])

Known = Callable[[Tensor], Tensor | None]
Gradients = tuple[Tensor, Tensor | None]


def inputs(count: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A projection, hidden states, tokens, and the slopes of a loss that is linear in log-probabilities."""
    torch.manual_seed(count)
    projection = nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=dtype)
    hidden = torch.randn(count, HIDDEN, dtype=dtype, requires_grad=True)
    return projection, hidden, torch.randint(4, 950, (count,)), torch.randn(count, dtype=dtype)


def plain(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    logprobs = (logits / temperature).index_fill(-1, SUPPRESSED, float("-inf")).log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs.index_fill(-1, SUPPRESSED, 0.0)).sum(-1)
    return logprobs.gather(-1, tokens[:, None])[:, 0], entropies


def gradients(loss: Tensor, hidden: Tensor, projection: nn.Linear, **options: Any) -> Gradients:
    hidden.grad = projection.weight.grad = None
    loss.backward(**options)
    assert hidden.grad is not None
    return hidden.grad, projection.weight.grad


@pytest.mark.parametrize("count", [1, 5, LOGITS_ROWS, 2 * LOGITS_ROWS + 188])
@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("known", [lambda s: None, lambda s: -3 * s], ids=["unknown", "known"])
def test_it_is_autograd_s_own_chain(known: Known, trained: bool, temperature: float, count: int):
    projection, hidden, tokens, slopes = inputs(count)
    projection.requires_grad_(trained)
    logprobs, entropies = plain(projection(hidden), tokens, temperature)
    expected = gradients((logprobs * slopes).sum(), hidden, projection)
    head = VocabularyHead(projection)
    found, spread = head(hidden, Targets(tokens, temperature, SUPPRESSED, known(slopes)))
    torch.testing.assert_close((found, spread), (logprobs, entropies))
    assert not spread.requires_grad
    loss = (found * slopes).sum()
    torch.testing.assert_close(gradients(loss, hidden, head, retain_graph=True), expected)
    torch.testing.assert_close(gradients(loss, hidden, head), expected)


def sampler_of(logprobs: Tensor, cap: float) -> Importance:
    """A sampler whose probabilities are off by up to e³, either way."""
    torch.manual_seed(1)
    return Importance(logprobs.detach() + torch.empty_like(logprobs).uniform_(-3, 3), cap)


@pytest.mark.parametrize("count", [1, 5, 2 * LOGITS_ROWS + 188])
@pytest.mark.parametrize("cap", [1.0, 2.0, 1e9])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_importance_weights_are_taken_in_the_same_pass(
    dtype: torch.dtype, trained: bool, cap: float, count: int
):
    """Beside autograd with the weights as constants; the slopes that it was told of lack them, and it warns
    of none that are wrong."""
    projection, hidden, tokens, slopes = inputs(count, dtype)
    projection.requires_grad_(trained)
    logprobs, _ = plain(projection(hidden), tokens, 0.8)
    importance = sampler_of(logprobs, cap)
    weights = (logprobs.detach() - importance.sampled).exp().minimum(torch.tensor(cap))
    assert count < 9 or 0.2 < (weights < cap).double().mean() <= 1
    expected = gradients((logprobs * slopes * weights).sum(), hidden, projection)
    head = VocabularyHead(projection)
    with Work() as work:
        found, _ = head(hidden, Targets(tokens, 0.8, SUPPRESSED, -3 * slopes, importance))
        loss = (found * slopes * importance.weights(found)).sum()
        ours = gradients(loss, hidden, head, retain_graph=True)
    assert work.matrices == int(trained)
    torch.testing.assert_close(ours, expected, rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=1e-5)
    torch.testing.assert_close(gradients(loss, hidden, head), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cap", [None, 2.0, 3.0])
def test_weights_that_the_loss_does_not_have_are_noticed(cap: float | None):
    projection, hidden, tokens, slopes = inputs(300)
    logprobs, _ = plain(projection(hidden), tokens)
    importance = sampler_of(logprobs, 2.5)
    weights = Importance(importance.sampled, cap).weights(logprobs) if cap else 1.0
    expected = gradients((logprobs * slopes * weights).sum(), hidden, projection)
    head = VocabularyHead(projection)
    found, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, slopes, importance))
    with pytest.warns(UserWarning, match="known ahead"):
        ours = gradients((found * slopes * weights).sum(), hidden, head)
    torch.testing.assert_close(ours, expected)


def test_importance_weights_of_tokens_that_one_of_both_never_gives():
    """Far beyond what fp32 can raise e to, either way, and a dummy, which weighs nothing."""
    logprobs = torch.tensor([-1.0, -200.0, -3.0], requires_grad=True)
    importance = Importance(torch.tensor([-200.0, -1.0, 0.0]), 2.0)
    assert torch.equal(importance.weights(logprobs)[:2], torch.tensor([2.0, 0.0]))
    assert not importance.weights(logprobs).requires_grad
    torch.testing.assert_close(importance.weights(logprobs[2:], slice(2, 3)), torch.tensor([-3.0]).exp())


def _one_off(slopes: Tensor) -> Tensor:
    return torch.cat([slopes[:-1], 1.0001 * slopes[-1:]])


@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize(
    "known", [torch.zeros_like, torch.ones_like, lambda s: s.roll(1), _one_off], ids=lambda f: f.__name__
)
def test_wrong_slopes_are_noticed(known: Known, size: float):
    projection, hidden, tokens, slopes = inputs(300)
    slopes = size * slopes
    expected = gradients((plain(projection(hidden), tokens)[0] * slopes).sum(), hidden, projection)
    head = VocabularyHead(projection)
    logprobs, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, known(slopes)))
    with pytest.warns(UserWarning, match="known ahead"):
        found = gradients((logprobs * slopes).sum(), hidden, head)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0.0)


@pytest.mark.parametrize(
    "known", [torch.zeros_like, torch.ones_like, lambda s: s.roll(1), _one_off], ids=lambda f: f.__name__
)
def test_wrong_slopes_are_noticed_without_waiting(known: Known, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU: no gradient of the matrix rather than a wrong one, and an error when asked."""
    monkeypatch.setattr(module, "_scaled", lambda *slopes: _scaled_unseen(*slopes, note=head._note))
    projection, hidden, tokens, slopes = inputs(300)
    expected = gradients((plain(projection(hidden), tokens)[0] * slopes).sum(), hidden, projection)
    head = VocabularyHead(projection)
    for given, right in ((known(slopes), False), (-2 * slopes, True)):
        logprobs, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, given))
        by_hidden, by_weight = gradients((logprobs * slopes).sum(), hidden, head)
        torch.testing.assert_close(by_hidden, expected[0])
        assert by_weight is not None
        if right:
            torch.testing.assert_close(by_weight, expected[1])
        else:
            assert by_weight.isnan().all()
    with pytest.raises(GpgError, match="known ahead"):
        head.check_slopes()
    head.check_slopes()  # said once


def test_a_broken_loss_without_waiting_is_no_mistake_of_the_slopes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_scaled", lambda *slopes: _scaled_unseen(*slopes, note=head._note))
    projection, hidden, tokens, slopes = inputs(20)
    head = VocabularyHead(projection)
    for factor in (0.0, float("nan")):
        logprobs, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, slopes))
        _, by_weight = gradients((logprobs * slopes * factor).sum(), hidden, head)
        assert by_weight is not None
        assert by_weight.isnan().all() if factor else not by_weight.any()
        head.check_slopes()


def test_known_slopes_of_many_tokens():
    """Equal slopes, whose sums fp32 rounds: those of supervised training."""
    _, hidden, tokens, _ = inputs(100_000, torch.float32)
    head = VocabularyHead(nn.Linear(HIDDEN, 960, bias=False))
    wanted = Targets(tokens.clamp(max=900), 1.0, SUPPRESSED[:1], -torch.ones(100_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (-head(hidden, wanted)[0] / 100_003).sum().backward()


def test_a_broken_loss_is_no_mistake_of_the_slopes():
    projection, hidden, tokens, slopes = inputs(20)
    head = VocabularyHead(projection)
    logprobs, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, slopes))
    found = gradients((logprobs * slopes * float("nan")).sum(), hidden, head)
    assert all(gradient is not None and gradient.isnan().all() for gradient in found)


def test_a_loss_without_a_gradient():
    projection, hidden, tokens, slopes = inputs(20)
    head = VocabularyHead(projection)
    logprobs, _ = head(hidden, Targets(tokens, 1.0, SUPPRESSED, slopes))
    assert not any(found.any() for found in gradients((logprobs * 0).sum(), hidden, head))


def test_without_targets_it_is_the_projection():
    projection, hidden, _, _ = inputs(7)
    head = VocabularyHead(projection)
    assert torch.equal(head(hidden), projection(hidden))
    assert head.weight is projection.weight and list(head.state_dict()) == ["weight"]


def test_anything_but_a_plain_matrix_is_refused():
    class Adapted(nn.Linear):
        """A matrix with something beside it."""

    for projection in (nn.Linear(2, 3), Adapted(2, 3, bias=False)):
        with pytest.raises(ModelError, match="gpg-vl merge"):
            VocabularyHead(projection)


def test_bf16_arithmetic_is_that_of_the_sampler():
    """Log-probabilities of bf16 logits, and gradients as near to exact ones as bf16 is."""
    projection, hidden, tokens, slopes = inputs(300, torch.float32)
    head = VocabularyHead(projection)
    exact = gradients((plain(projection(hidden), tokens)[0] * slopes).sum(), hidden, projection)
    for known in (None, slopes):
        with torch.autocast("cpu", torch.bfloat16):
            expected, _ = plain(head(hidden).float(), tokens)
            logprobs, entropies = head(hidden, Targets(tokens, 1.0, SUPPRESSED, known))
        assert logprobs.dtype == entropies.dtype == torch.float32
        torch.testing.assert_close(logprobs, expected)
        for found, right in zip(gradients((logprobs * slopes).sum(), hidden, head), exact, strict=True):
            assert found is not None and right is not None and found.dtype == torch.float32
            assert (found - right).norm() < 0.01 * right.norm()


class Work(TorchDispatchMode):
    """Counts matrix products with the vocabulary, and tensors as large as its matrix."""

    products = 0
    matrices = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        self.products += multiplied_rows(func, args, VOCABULARY, HIDDEN) // LOGITS_ROWS
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.new_zeros, torch.ops.aten.mm):
            self.matrices += made.shape == (VOCABULARY, HIDDEN)
        return made


@pytest.mark.parametrize(
    ("trained", "known", "products"),
    [(True, False, 4), (True, True, 3), (False, False, 2), (False, True, 2)],
)
def test_products_with_the_vocabulary(trained: bool, known: bool, products: int):
    projection, hidden, tokens, slopes = inputs(LOGITS_ROWS)
    head = VocabularyHead(projection.requires_grad_(trained))
    wanted = Targets(tokens, 1.0, SUPPRESSED, slopes if known else None)
    with Work() as work:
        (head(hidden, wanted)[0] * slopes).sum().backward()
    assert (work.products, work.matrices) == (products, int(trained))
    with torch.no_grad(), Work() as work:
        head(hidden, wanted)
    assert (work.products, work.matrices) == (1, 0)
