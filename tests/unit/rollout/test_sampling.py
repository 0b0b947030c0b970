import math

import numpy as np
import pytest
import torch

from gpg_vl.errors import ConfigurationError
from gpg_vl.model.tiny import tiny_processor
from gpg_vl.rollout.sampling import Sampling, StopTexts, draw, uniform_stream

PROBABILITIES = (0.5, 0.25, 0.125, 0.125)
LARGEST = 1 - 2.0**-24


def logits(probabilities=PROBABILITIES, rows=1):
    return torch.tensor(probabilities).log().repeat(rows, 1)


def uniforms(*values):
    """(n, 1): one draw from each of n distributions."""
    return torch.tensor(values, dtype=torch.float64)[:, None]


def drawn(logits, uniforms, sampling):
    """Tokens and log-probabilities (n,) of one draw each."""
    tokens, logprobs = draw(logits, uniforms, sampling)
    assert tokens.shape == logprobs.shape == (len(logits), 1)
    return tokens[:, 0], logprobs[:, 0]


def streams(keys, length):
    return torch.stack([uniform_stream(key, length) for key in keys])


def drawn_over(sampling, probabilities=PROBABILITIES, steps=1000):
    """The tokens that a thousand evenly spaced draws give."""
    even = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps)[:, None]
    tokens, _ = drawn(logits(probabilities, steps), even, sampling)
    return torch.bincount(tokens, minlength=len(probabilities)).tolist()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_processor(["How many balls are there? It ends here."]).tokenizer


def test_greedy_takes_the_likeliest():
    tokens, logprobs = drawn(
        torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]), uniforms(0.9, 0.9), Sampling(5, temperature=0)
    )
    assert tokens.tolist() == [1, 0]
    expected = [-math.log(1 + math.exp(-1) + math.exp(-2)), -math.log(1 + 2 * math.exp(-3))]
    assert logprobs.tolist() == pytest.approx(expected, rel=1e-6)
    assert Sampling(5, temperature=0).logit_temperature == 1.0
    assert Sampling(5, temperature=0.5).logit_temperature == 0.5


def test_a_draw_is_the_inverse_of_the_cumulative_distribution():
    values = uniforms(0.0, 0.499, 0.501, 0.749, 0.751, 0.874, 0.876, LARGEST)
    tokens, logprobs = drawn(logits(rows=8), values, Sampling(5))
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert logprobs.tolist() == pytest.approx([math.log(PROBABILITIES[t]) for t in tokens.tolist()], rel=1e-6)


def test_frequencies_match_the_probabilities():
    count = 20_000
    draws = streams([(0, 0, "q", n) for n in range(count)], 1)
    tokens, _ = drawn(logits(rows=count), draws, Sampling(5))
    for p, seen in zip(PROBABILITIES, torch.bincount(tokens, minlength=4).tolist(), strict=True):
        assert abs(seen - p * count) < 3.5 * math.sqrt(count * p * (1 - p))


def test_impossible_tokens_are_never_drawn():
    probabilities = (0.0, 0.5, 0.0, 0.5, 0.0)
    tokens, logprobs = drawn(logits(probabilities, 4), uniforms(0.0, 0.4999, 0.5, LARGEST), Sampling(5))
    assert tokens.tolist() == [1, 1, 3, 3]
    assert torch.isfinite(logprobs).all()
    counts = drawn_over(Sampling(5), probabilities)
    assert counts == [0, 500, 0, 500, 0]


def test_a_large_vocabulary_keeps_its_last_token_in_reach_and_no_further():
    size = 150_000
    flat = torch.zeros(2, size)
    tokens, _ = drawn(flat, uniforms(0.0, LARGEST), Sampling(5))
    assert tokens.tolist() == [0, size - 1]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"top_k": 1}, [2]),
        ({"top_k": 2}, [1, 2]),
        ({"top_k": 99}, [0, 1, 2, 3]),
        ({"top_p": 0.39}, [2]),
        ({"top_p": 0.41}, [1, 2]),
        ({"top_p": 0.69}, [1, 2]),
        ({"top_p": 0.71}, [1, 2, 3]),
        ({"top_p": 0.91}, [0, 1, 2, 3]),
        ({"top_p": 1e-9}, [2]),
        ({"min_p": 0.24}, [0, 1, 2, 3]),
        ({"min_p": 0.26}, [1, 2, 3]),
        ({"min_p": 0.76}, [2]),
        ({"top_k": 3, "min_p": 0.6}, [1, 2]),
        ({"top_k": 3, "top_p": 0.3}, [2]),
    ],
)
def test_filters_keep_the_right_tokens_in_proportion(filters, kept):
    probabilities = (0.1, 0.3, 0.4, 0.2)
    counts = drawn_over(Sampling(5, **filters), probabilities)
    total = sum(probabilities[t] for t in kept)
    expected = [1000 * p / total if t in kept else 0 for t, p in enumerate(probabilities)]
    assert counts == pytest.approx(expected, abs=1)
    assert [t for t, count in enumerate(counts) if count] == kept


def test_log_probabilities_are_those_before_the_filter():
    sampling = Sampling(5, top_k=1, top_p=0.5, min_p=0.5)
    tokens, logprobs = drawn(logits(), uniforms(0.9), sampling)
    assert tokens.tolist() == [0]
    assert logprobs.item() == pytest.approx(math.log(0.5), rel=1e-6)


def test_the_same_key_gives_the_same_draws():
    key = (1, 2, "question", 3)
    first = uniform_stream(key, 8)
    assert torch.equal(first, uniform_stream(key, 8))
    assert torch.equal(first[:5], uniform_stream(key, 5))  # a longer answer starts alike
    for other in ((2, 2, "question", 3), (1, 3, "question", 3), (1, 2, "questiom", 3), (1, 2, "question", 4)):
        assert not torch.equal(first, uniform_stream(other, 8))
    apart = streams([(1, 2, "q", 34), (12, 0, "q", 34), (1, 20, "q", 34)], 8)
    assert len({tuple(row) for row in apart.tolist()}) == 3


def test_several_draws_from_one_distribution():
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(3, 1300, generator=generator)  # several blocks, the last one not full
    values = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    tokens, logprobs = draw(some.clone(), values, Sampling(5))
    cumulative = some.double().softmax(-1).cumsum(-1)
    assert torch.equal(tokens, torch.searchsorted(cumulative, values))
    assert torch.allclose(logprobs, some.log_softmax(-1).gather(-1, tokens), atol=1e-6)
    assert tokens.max() > 1024


def test_logits_that_are_not_numbers_show_in_the_log_probabilities():
    broken = torch.full((2, 3000), float("nan"))
    tokens, logprobs = draw(broken, torch.full((2, 3), 0.7, dtype=torch.float64), Sampling(5))
    assert tokens.max() < 3000 and logprobs.isnan().all()


def test_a_nucleus_wider_than_the_first_look():
    """Two thousand equally likely tokens and one likelier: a half needs a thousand of them."""
    wide = torch.zeros(1, 3000)
    wide[0, 2500] = 1.0
    even = ((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)[None]
    tokens, _ = draw(wide, even, Sampling(5, top_p=0.9))
    assert len(tokens.unique()) == 3000  # ties of the least likely one stay
    wide[0, :1000] = -0.001
    tokens, _ = draw(wide, even, Sampling(5, top_p=0.6))
    assert tokens.min() == 1000 and len(tokens.unique()) == 2000


def test_draws_are_uniform_and_below_one_in_every_float_type():
    draws = streams([(0, 0, "q", n) for n in range(100)], 100)
    assert draws.dtype == torch.float64
    assert draws.min() >= 0
    assert draws.float().max() < 1
    assert torch.equal(draws * 2**24, (draws * 2**24).floor())
    assert draws.mean().item() == pytest.approx(0.5, abs=3.5 * math.sqrt(1 / 12 / draws.numel()))
    counts = np.histogram(draws.numpy(), bins=10, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-square with 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 5, "temperature": -1},
        {"max_new_tokens": 5, "top_p": 0},
        {"max_new_tokens": 5, "top_p": 1.1},
        {"max_new_tokens": 5, "top_k": -1},
        {"max_new_tokens": 5, "min_p": 1},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigurationError):
        Sampling(**settings)


def first_stop(stops, ids):
    """How many tokens are drawn until the engine would stop."""
    for count in range(1, len(ids) + 1):
        if stops.complete(ids[:count]):
            return count
    return None


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("It ends here. More.", "ends here.", "It ends here."),  # several tokens
        ("a</answer>b", "</answer>", "a</answer>"),  # one token
        ("ab. cd", "b. c", "ab. c"),
        ("wait。more", "。", "wait。"),  # a character of three byte tokens
        ("It ends", "never", None),
    ],
)
def test_stop_texts_are_found_across_tokens(tokenizer, text, stop, kept):
    stops = StopTexts(tokenizer, [stop], len(tokenizer) + 3)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    count = first_stop(stops, ids)
    if kept is None:
        assert count is None
        assert stops.cut(text) == text
    else:
        # The token that completes the stop text may go on behind it: the text is cut, the tokens are not.
        assert tokenizer.decode(ids[:count]).startswith(kept)
        assert stop not in tokenizer.decode(ids[: count - 1])
        assert stops.cut(tokenizer.decode(ids[:count])) == kept


def test_only_tokens_with_a_last_character_are_looked_at(tokenizer):
    stops = StopTexts(tokenizer, ["</answer>"], len(tokenizer) + 3)
    assert len(stops.may_complete) == len(tokenizer) + 3
    assert not stops.may_complete[-3:].any()
    assert not stops.may_complete[tokenizer.convert_tokens_to_ids("a")]
    assert stops.may_complete[tokenizer.convert_tokens_to_ids("</answer>")]
    assert not StopTexts(tokenizer, [], len(tokenizer)).may_complete.any()


@pytest.mark.parametrize(
    ("stop", "text", "cut"),
    [
        (["b"], "abcb", "ab"),
        (["zz", "c"], "abc zz", "abc"),
        (["bcd", "c"], "abcd", "abc"),  # what ends first
        (["b", "ab"], "ab", "ab"),
        ([], "abc", "abc"),
        (["x"], "", ""),
    ],
)
def test_cut(tokenizer, stop, text, cut):
    assert StopTexts(tokenizer, stop, len(tokenizer)).cut(text) == cut
