"""One size for an image, wherever it is worked out: planned, encoded, and the space of its boxes."""

import json

import numpy as np
import pytest
from PIL import Image
from qwen_vl_utils import smart_resize

from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.model.families.qwen2_vl import qwen2_5_vl, qwen2_vl
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.image_size import seen_size
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.types import Sample
from tests.support.inputs import noise

SIDES = (1, 13, 28, 29, 57, 60, 100, 640, 1333, 4452, 9000)
LIMITS = (
    (784, 784),
    (784, 50_176),
    (3136, 401_408),
    (800, 800),
    (3000, 3135),
    (400_000, 401_408),
    (4, 2**25),
)


@pytest.mark.parametrize("factor", [28, 32])
@pytest.mark.parametrize(("low", "high"), LIMITS)
def test_sizes_are_whole_tokens_within_the_limits(factor, low, high):
    high = max(high, factor**2)
    for width in SIDES:
        for height in (side for side in SIDES if max(side, width) <= 200 * min(side, width)):
            size = seen_size(width, height, factor=factor, min_pixels=low, max_pixels=high)
            assert min(size) >= factor and size[0] % factor == size[1] % factor == 0
            assert size[0] * size[1] <= high
            tall, wide = smart_resize(height, width, factor, low, high)
            if 0 < tall * wide <= high:  # Qwen's own rule wherever it gives a size within its limits
                assert size == (wide, tall)


def encoder(policy, family=qwen2_vl, low=3136, high=401_408):
    return PromptEncoder(policy.processor, Prompt(), family=family, min_pixels=low, max_pixels=high)


@pytest.mark.parametrize(
    ("width", "height", "low", "high", "seen"),
    [
        (9000, 60, 3136, 401_408, (7756, 28)),  # 150:1, and 277:1 once shrunk
        (60, 9000, 3136, 401_408, (28, 7756)),
        (7000, 100, 3136, 50_176, (1792, 28)),  # one token thick
        (28, 28, 784, 401_408, (28, 28)),
        (60, 30, 784, 784, (28, 28)),
        (4452, 3600, 3136, 2**25, (4452, 3612)),  # above the 12.8 megapixels of qwen-vl-utils
    ],
)
def test_what_is_encoded_is_what_was_planned(policy, width, height, low, high, seen):
    one = encoder(policy, qwen2_5_vl, low, high)
    gold = json.dumps([[0, 0, width, height]])
    sample = Sample("a", "t", "Where?", gold, "boxes", images=(noise(width, height),))
    (prompt,) = one.encode([sample])
    assert prompt.grid.tolist() == [[1, seen[1] // 14, seen[0] // 14]]
    assert prompt.length == one.prompt_length(sample)
    assert one.view(sample).resized == seen
    assert f"(0,0),({seen[0]},{seen[1]})" in one.target(sample)


def test_the_resize_is_one_bicubic_step(policy):
    image = noise(100, 70)
    one = encoder(policy)
    (prompt,) = one.encode([Sample("a", "t", "What?", "x", "label", images=(image,))])
    (again,) = one.encode([Sample("a", "t", "What?", "x", "label", images=(image.resize((112, 56)),))])
    assert np.array_equal(prompt.pixel_values, again.pixel_values)


def test_less_than_a_token_is_refused(policy):
    with pytest.raises(ConfigurationError, match=r"model\.max_pixels 700 holds no token.*28×28 = 784"):
        encoder(policy, low=4, high=700)


def test_an_image_that_cannot_be_seen_is_named(policy):
    sample = Sample("strip", "t", "What?", "x", "label", images=(Image.new("RGB", (5628, 28)),))
    for work in (encoder(policy).prompt_length, lambda one: encoder(policy).encode([one])):
        with pytest.raises(DataError, match="'strip': image 5628×28"):
            work(sample)


def test_a_processor_that_does_otherwise_is_noticed(policy, mixed_samples, monkeypatch):
    plain = type(policy.processor).__call__

    def resizing(self, *args, do_resize, **kwargs):
        size = {"shortest_edge": 3136, "longest_edge": 3136}
        return plain(self, *args, do_resize=True, size=size, **kwargs)

    monkeypatch.setattr(type(policy.processor), "__call__", resizing)
    with pytest.raises(DataError, match=r"sample 'one': the processor made patches of .* should be"):
        encoder(policy).encode(mixed_samples[:1])
