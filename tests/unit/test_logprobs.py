"""The vocabulary head beside autograd's own chain over whole logits."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gpg_vl.logprobs import LOGITS_ROWS, Targets, VocabularyHead

HIDDEN, VOCABULARY, TEMPERATURE = 16, 1000, 0.8
SUPPRESSED = torch.tensor([3, *range(950, VOCABULARY)])
COUNTS = (1, 5, LOGITS_ROWS, 2 * LOGITS_ROWS + 188)

Gradients = tuple[Tensor, Tensor | None]


def inputs(count: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """A projection, hidden states, tokens, and the slopes of a loss that is linear in log-probabilities."""
    torch.manual_seed(count)
    projection = nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=dtype)
    hidden = torch.randn(count, HIDDEN, dtype=dtype, requires_grad=True)
    return projection, hidden, torch.randint(4, 950, (count,)), torch.randn(count, dtype=dtype)


def plain(projection: nn.Linear, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    logits = (projection(hidden) / TEMPERATURE).index_fill(-1, SUPPRESSED, float("-inf"))
    logprobs = logits.log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs.index_fill(-1, SUPPRESSED, 0.0)).sum(-1)
    return logprobs.gather(-1, tokens[:, None])[:, 0], entropies


def gradients(loss: Tensor, hidden: Tensor, projection: nn.Module, **options: Any) -> Gradients:
    hidden.grad = projection.weight.grad = None
    loss.backward(**options)
    assert hidden.grad is not None
    return hidden.grad, projection.weight.grad


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    "known",
    [
        lambda s: None,
        lambda s: s,
        lambda s: -3 * s,
        torch.zeros_like,
        lambda s: s.roll(1) + 1,
        torch.ones_like,
    ],
    ids=["unknown", "known", "but for a factor", "zero", "wrong", "equal"],
)
def test_gradients_are_right_whatever_was_known_ahead(count: int, known: Callable[[Tensor], Tensor | None]):
    projection, hidden, tokens, slopes = inputs(count)
    logprobs, entropies = plain(projection, hidden, tokens)
    expected = gradients((logprobs * slopes).sum(), hidden, projection)
    head = VocabularyHead(projection)
    found, spread = head(hidden, Targets(tokens, TEMPERATURE, SUPPRESSED, known(slopes)))
    torch.testing.assert_close((found, spread), (logprobs, entropies))
    assert not spread.requires_grad
    torch.testing.assert_close(gradients((found * slopes).sum(), hidden, head), expected)


def test_a_loss_that_is_not_linear():
    projection, hidden, tokens, slopes = inputs(300)
    expected = gradients(plain(projection, hidden, tokens)[0].square().sum(), hidden, projection)
    head = VocabularyHead(projection)
    logprobs, _ = head(hidden, Targets(tokens, TEMPERATURE, SUPPRESSED, slopes))
    torch.testing.assert_close(gradients(logprobs.square().sum(), hidden, head), expected)


def test_a_second_backward_pass_finds_the_same():
    projection, hidden, tokens, slopes = inputs(20)
    head = VocabularyHead(projection)
    loss = (head(hidden, Targets(tokens, TEMPERATURE, SUPPRESSED, slopes))[0] * slopes).sum()
    first = gradients(loss, hidden, head, retain_graph=True)
    torch.testing.assert_close(gradients(loss, hidden, head), first)


def test_without_targets_it_is_the_projection():
    projection, hidden, _, _ = inputs(7)
    head = VocabularyHead(projection)
    assert torch.equal(head(hidden), projection(hidden))
    assert head.weight is projection.weight and list(head.state_dict()) == ["weight"]


def test_bf16_arithmetic_is_that_of_the_sampler():
    """Log-probabilities of bf16 logits, and gradients as near to exact ones as bf16 is."""
    projection, hidden, tokens, slopes = inputs(300, torch.float32)
    head = VocabularyHead(projection)
    exact = gradients((plain(projection, hidden, tokens)[0] * slopes).sum(), hidden, projection)
    for known in (None, slopes):
        with torch.autocast("cpu", torch.bfloat16):
            expected, _ = plain_in_fp32(head(hidden), tokens)
            logprobs, entropies = head(hidden, Targets(tokens, TEMPERATURE, SUPPRESSED, known))
        assert logprobs.dtype == entropies.dtype == torch.float32
        torch.testing.assert_close(logprobs, expected)
        for found, right in zip(gradients((logprobs * slopes).sum(), hidden, head), exact, strict=True):
            assert found is not None and right is not None and found.dtype == torch.float32
            assert (found - right).norm() < 0.01 * right.norm()


def plain_in_fp32(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return plain(nn.Identity(), logits.float(), tokens)  # type: ignore[arg-type]


class Products(TorchDispatchMode):
    """Counts matrix products with the vocabulary among their dimensions."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.count += VOCABULARY in (*args[-1].shape, *args[-2].shape)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("trained", "known", "products"),
    [(True, False, 4), (True, True, 3), (False, False, 2), (False, True, 2)],
)
def test_products_with_the_vocabulary(trained: bool, known: bool, products: int):
    projection, hidden, tokens, slopes = inputs(LOGITS_ROWS)
    head = VocabularyHead(projection.requires_grad_(trained))
    with Products() as counter:
        wanted = Targets(tokens, TEMPERATURE, SUPPRESSED, slopes if known else None)
        (head(hidden, wanted)[0] * slopes).sum().backward()
    assert counter.count == products
    with torch.no_grad(), Products() as counter:
        head(hidden, wanted)
    assert counter.count == 1
