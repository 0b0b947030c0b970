"""What a model's sizes count, against numbers worked out by hand."""

from typing import Any

import pytest
from transformers import Qwen2VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig

from gpg_vl.model.families import families
from gpg_vl.model.sizes import ModelSizes, sizes_of, skeleton

WIDTH, EXPERTS, CHOSEN, INNER, LAYERS = 24, 6, 2, 100, 3
TEXT = {
    "vocab_size": 50,
    "hidden_size": WIDTH,
    "intermediate_size": CHOSEN * INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
}
VISION = {"hidden_size": 16, "out_hidden_size": WIDTH, "intermediate_size": 32, "depth": 2, "num_heads": 2}
DEEP = {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
CHOICE = {"num_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "moe_intermediate_size": INNER}
ATTENTION = 2 * WIDTH * 24 + 2 * WIDTH * 8
"""Numbers in a layer's four matrices of attention: queries and output of 3·8, keys and values of 1·8."""
STACKS = EXPERTS * 3 * WIDTH * INNER


def sizes(family: str, config: Any) -> ModelSizes:
    return sizes_of(skeleton(config, families.get(family)))


def dense() -> ModelSizes:
    return sizes("qwen3_vl", Qwen3VLConfig(text_config=TEXT, vision_config=VISION | DEEP))


def mixture() -> ModelSizes:
    config = Qwen3VLMoeConfig(text_config=TEXT | CHOICE, vision_config=VISION | DEEP)
    return sizes("qwen3_vl_moe", config)


def test_a_token_costs_the_experts_that_it_goes_through():
    # two experts of 100 are a feed-forward part of 200; on top are the router's 6·24 numbers a layer, by 2·24
    assert mixture().token_cost == pytest.approx(dense().token_cost + EXPERTS / 2)
    norms = 2 * WIDTH + 2 * 8
    assert dense().token_cost == (ATTENTION + 3 * WIDTH * CHOSEN * INNER + norms) / (2 * WIDTH)


def test_experts_are_weights_that_rollouts_hold_no_copies_of():
    both = dense(), mixture()
    feed = LAYERS * 3 * WIDTH * CHOSEN * INNER
    more = LAYERS * (STACKS + EXPERTS * WIDTH)
    assert both[1].weights - both[0].weights == more - feed
    assert both[1].cast - both[0].cast == LAYERS * STACKS - feed
    assert both[1].kept_cast - both[0].kept_cast == LAYERS * STACKS - feed
    assert both[1].decoded == LAYERS * ATTENTION + 50 * WIDTH
    assert both[1].largest == EXPERTS * 2 * INNER * WIDTH


def test_what_a_layer_of_experts_is_as_wide_as():
    text = mixture().text
    assert (text.experts, text.feed_forward) == (CHOSEN, CHOSEN * INNER)
    assert (dense().text.experts, dense().text.feed_forward) == (0, CHOSEN * INNER)
    assert text.norms == 2 and text.normed_heads


def test_a_tower_has_a_projection_for_each_layer_that_deepstack_takes():
    vision = dense().vision
    assert (vision.projections, vision.taps, vision.joint, vision.inner) == (3, 4, True, 2)


@pytest.mark.parametrize(
    ("family", "config", "pixels"),
    [
        ("qwen2_vl", Qwen2VLConfig(text_config=TEXT, vision_config={"embed_dim": 16, "depth": 1}), 784),
        ("qwen3_vl", Qwen3VLConfig(text_config=TEXT, vision_config=VISION | DEEP), 1024),
    ],
)
def test_pixels_of_an_image_token(family, config, pixels):
    # patches of 14 and of 16 pixels, four of them a token
    assert sizes(family, config).token_pixels == pixels
