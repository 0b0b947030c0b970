"""The memory forecast's arithmetic, against numbers worked out by hand."""

from dataclasses import replace

import pytest

from gpg_vl.model.sizes import ModelSizes, States, Tower
from gpg_vl.preflight.layers import kept_beside_states, kept_of_chunks
from gpg_vl.preflight.memory import Load, forecast, rollout_parts, shape, update_parts
from gpg_vl.preflight.states import BUCKET, DEEPSPEED_BUCKET, Cards, Updater

TEXT = Tower(2, width=10, feed_forward=30, query=8, key=4, repeats_keys=True, gated=True, trained=True)
VISION = Tower(
    3,
    width=6,
    feed_forward=24,
    query=6,
    key=6,
    repeats_keys=False,
    gated=False,
    trained=True,
    inner=3,
    joint=True,
    projections=1,
)
SIZES = ModelSizes(
    weights=1000,
    trained=800,
    held=4000,
    trained_bytes=3200,
    cast=700,
    kept_cast=500,
    largest=300,
    vocabulary=100,
    vocabulary_gradient=0,
    token_cost=1e9,
    tied=False,
    text=TEXT,
    vision=None,
    decoded=600,
    untrained=2100,
    moments_8bit=1640,
)
LOAD = Load(
    prompt_tokens=20,
    image_tokens=0,
    answer_tokens=6,
    group_size=4,
    questions=3,
    groups=5,
    max_concurrent=8,
    micro_batch_tokens=100,
    packing="group",
    bf16=False,
    checkpointing=False,
)


CPU = Cards(cuda=False)
W, G, A = "weights", "gradients", "AdamW's moments"
MASTERS = "DeepSpeed's fp32 masters"
DEEPSPEED = {"DeepSpeed's gradient bucket": DEEPSPEED_BUCKET}
HALVES = replace(SIZES, held=2400, trained_bytes=1600, halves=790, largest_half=290)
"""The model with trained matrices in bf16."""


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (Cards(), {W: 4000, A: 6400, G: 3200}),
        (Cards(4), {W: 4000, A: 6400, G: 3200}),
        (Cards(4, 1), {W: 4000, A: 1600, G: 3200, MASTERS: 800, **DEEPSPEED}),
        (Cards(4, 2), {W: 4000, A: 1600, G: 800, MASTERS: 800, **DEEPSPEED}),
        (Cards(4, 3), {W: 1000, A: 1600, G: 800, **DEEPSPEED}),
        (Cards(4, 2, offload=True), {W: 4000, G: 800, **DEEPSPEED}),
        (Cards(4, 3, offload=True), {G: 800, **DEEPSPEED}),
    ],
)
def test_states_by_stage(cards, expected):
    found = forecast(SIZES, LOAD, cards)
    parts = {**found.states, G: found.phases["update"][G]}
    assert {name: size for name, size in parts.items() if size} == expected


def test_a_reference_model_is_held_whole():
    load = replace(LOAD, reference=True)
    assert forecast(SIZES, load, Cards(4, 3)).states["reference model"] == 4000
    halved = replace(load, bf16=True)
    assert forecast(SIZES, halved, Cards(4, 3)).states["reference model"] == 2100


def test_zero3_gathers_all_weights_for_a_rollout():
    assert forecast(SIZES, LOAD, Cards(4, 3)).phases["rollout"]["gathered weights"] == 4000
    assert "gathered weights" not in forecast(SIZES, LOAD, Cards(4, 2)).phases["rollout"]


def test_sixteen_bytes_a_trained_weight_and_four_a_frozen_one():
    found = forecast(SIZES, LOAD, Cards())
    assert sum(found.states.values()) + found.phases["update"]["gradients"] == 16 * 800 + 4 * 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # a row of 20 + 4·5 = 40 tokens; 100 tokens hold 2.5 of them, of three questions, with 10 answers
        ({}, (100, 40, 3, 60, True)),
        # a step of one group is one row
        ({"groups": 1}, (40, 40, 1, 24, True)),
        # only 2 answers fit behind one prompt: rows of 30 tokens
        ({"micro_batch_tokens": 32}, (32, 30, 1, 12, True)),
        # a row longer than the budget stands alone
        ({"micro_batch_tokens": 10}, (25, 25, 1, 6, False)),
        ({"packing": "none"}, (100, 25, 1, 24, False)),
        ({"answer_tokens": 1}, (100, 20, 5, 20, True)),
    ],
)
def test_the_fullest_micro_batch(changes, expected):
    micro = shape(SIZES, replace(LOAD, **changes))
    assert (micro.tokens, micro.row_tokens, micro.prompts, micro.targets, micro.masked) == expected


def test_activations_of_a_packed_pass_in_fp32():
    # per token and layer: norms 4·4·10 + inputs 4·2·10 + attention 4·(2·8 + 8 + 8) + 4·4·30 = 848
    # 60 targets' hidden states of 40 bytes, and their gradients; the mask of 100·40 pairs, 4 bytes each
    parts = update_parts(SIZES, LOAD, CPU)
    assert parts["text activations"] == 2 * (100 * 848) + 2 * 60 * 40
    assert parts["attention mask"] == 4 * 4000
    assert "vision activations" not in parts and "bf16 weights" not in parts
    # log-probabilities of 60·100 and their gradients; wider than a layer's gradients
    assert parts["logits or widest layer"] == 2 * 4 * 60 * 100


def test_flex_attention_has_no_mask_and_repeats_no_keys():
    # rows of 40 tokens become 128; attention 4·(2·8 + 4 + 4) a token instead of 4·(2·8 + 8 + 8)
    flex = replace(LOAD, flex=True)
    assert shape(SIZES, flex).row_tokens == 128
    parts = update_parts(SIZES, flex, Cards())
    assert parts["attention mask"] == 0
    assert parts["text activations"] == 2 * (128 * 816) + 2 * shape(SIZES, flex).targets * 40
    assert shape(SIZES, replace(flex, packing="none")).row_tokens == 25


def test_bf16_halves_what_is_not_a_norm_and_copies_weights():
    # norms 160 + inputs of five products 2·5·10 + attention 2·(2·8 + 8 + 8) + 2·4·30 = 564
    parts = update_parts(SIZES, replace(LOAD, bf16=True), CPU)
    assert parts["text activations"] == 2 * (100 * 564) + 2 * 60 * 40
    assert parts["bf16 weights"] == 1400


def test_checkpointing_keeps_one_input_a_layer_and_one_whole_layer():
    parts = update_parts(SIZES, replace(LOAD, checkpointing=True), CPU)
    assert parts["text activations"] == 2 * 100 * 40 + 100 * 848 + 2 * 60 * 40


def test_images_go_through_a_trained_tower_once_a_prompt():
    sizes = replace(SIZES, vision=VISION, pixels=12, patches=4)
    parts = update_parts(sizes, replace(LOAD, image_tokens=5), CPU)
    patches = 3 * 5 * 4
    assert parts["images"] == patches * 12 * 4
    # per patch and layer: norms 2·4·6 + 4·(9·6 + 3·24) = 552
    # and the projection 4·6 + 3·4·6 = 96
    assert parts["vision activations"] == patches * (3 * 552 + 96)
    frozen = replace(sizes, vision=replace(VISION, trained=False))
    assert "vision activations" not in update_parts(frozen, replace(LOAD, image_tokens=5), CPU)


def test_a_cpu_holds_all_images_of_a_step_and_steps_weight_by_weight():
    sizes = replace(SIZES, vision=VISION, pixels=12, patches=4)
    found = forecast(sizes, replace(LOAD, image_tokens=5), Cards(cuda=False))
    assert found.states["images of a step"] == 5 * 5 * 4 * 12 * 4
    assert found.phases["optimizer step"]["temporaries"] == 2 * 4 * 300


@pytest.mark.parametrize(
    ("cards", "expected"),
    [(Cards(), 0), (Cards(4), 3200), (Cards(4, 2), 800), (Cards(4, 2, offload=True), 2400)],
)
def test_a_gpu_steps_in_place_where_processes_join_no_gradients(cards, expected):
    assert forecast(SIZES, LOAD, cards).phases["optimizer step"]["temporaries"] == expected


def test_processes_add_up_gradients_a_bucket_at_a_time():
    assert forecast(SIZES, LOAD, Cards(4)).phases["optimizer step"]["temporaries"] == 3200
    large = replace(SIZES, trained_bytes=10**9)
    assert forecast(large, LOAD, Cards(4)).phases["optimizer step"]["temporaries"] == BUCKET


@pytest.mark.parametrize(
    ("sizes", "updater", "expected"),
    [
        (SIZES, Updater(), {A: 6400}),
        (SIZES, Updater(eight_bit=True), {A: 1640}),
        (HALVES, Updater(eight_bit=True), {A: 1640}),
        (HALVES, Updater(eight_bit=True, kahan=True), {A: 1640, "rests of bf16 weights": 1580}),
        # in the machine's memory but for the step
        (HALVES, Updater(eight_bit=True, offload=True), {}),
    ],
)
def test_moments_by_optimizer(sizes, updater, expected):
    found = forecast(sizes, replace(LOAD, updater=updater), Cards())
    assert found.states == {W: sizes.held, **expected}
    assert found.phases["update"][G] == sizes.trained_bytes
    assert found.phases["optimizer step"].get(A) == (1640 if updater.offload else None)


def test_a_cpu_has_its_moments_in_its_memory_already():
    offloaded = replace(LOAD, updater=Updater(offload=True))
    assert forecast(SIZES, offloaded, CPU).states[A] == 6400


@pytest.mark.parametrize(
    ("sizes", "kahan", "cards", "expected"),
    [
        (SIZES, False, Cards(), 0),
        # 290 numbers in fp32, with a mask of a byte, and 4 of noise; or bf16 and a rest of 2 each
        (HALVES, False, Cards(), 9 * 290),
        (HALVES, True, Cards(), 9 * 290),
        # on a CPU, five copies of 300 numbers in fp32; of a bf16 weight, its own and its gradient's too
        (SIZES, False, CPU, 5 * 4 * 300),
        (HALVES, False, CPU, 7 * 4 * 290),
    ],
)
def test_the_step_of_8_bit_adamw(sizes, kahan, cards, expected):
    load = replace(LOAD, updater=Updater(eight_bit=True, kahan=kahan))
    assert forecast(sizes, load, cards).phases["optimizer step"]["temporaries"] == expected


def test_weights_held_in_bf16_have_no_copies():
    held = replace(SIZES, cast=0, kept_cast=0, decoded=0, vocabulary_bytes=2)
    load = replace(LOAD, bf16=True)
    assert update_parts(held, load, CPU)["bf16 weights"] == 0
    assert rollout_parts(held, load, CPU)["bf16 weights"] == 0
    # 60·100 logits in two fp32 buffers and a bf16 copy of one, and no copy of the 100·10 matrix
    assert update_parts(held, load, CPU)["logits or widest layer"] == 2.5 * 4 * 60 * 100


def test_a_4_bit_weight_is_unpacked_to_be_multiplied():
    # 640 numbers in bf16, 10 scales in fp32; backward in fp32 too
    quantised = replace(SIZES, packed=640)
    assert rollout_parts(quantised, LOAD, CPU)["a 4-bit weight unpacked"] == 2 * 640 + 4 * 10
    assert update_parts(quantised, LOAD, CPU)["a 4-bit weight unpacked"] == 2 * 640 + 4 * 10


@pytest.mark.parametrize(("cards", "rows"), [(CPU, 256), (Cards(), 2048)], ids=["cpu", "cuda"])
def test_logits_exist_for_some_answer_tokens_at_a_time(cards, rows):
    # two buffers of so many of 2,400 targets; a gradient of 60,000 numbers is wider
    load = replace(LOAD, micro_batch_tokens=5000, groups=1, group_size=80, answer_tokens=30)
    sizes = replace(SIZES, vocabulary=1000, vocabulary_gradient=60_000)
    assert shape(sizes, load).targets == 2400
    assert update_parts(sizes, load, cards)["logits or widest layer"] == 2 * 4 * rows * 1000 + 4 * 60_000
    halved = update_parts(sizes, replace(load, bf16=True), cards)
    expected = 2.5 * 4 * rows * 1000 + 4 * 60_000 + 2 * 1000 * SIZES.text.width
    assert halved["logits or widest layer"] == expected
    assert (
        forecast(sizes, load, cards).phases["update"]["logits or widest layer"]
        == 2 * 4 * rows * 1000 + 240_000
    )


def test_caches():
    # 2 questions at a time, 8 answers; a token is 2·2·4 numbers; answers' caches begin at 64 places
    parts = rollout_parts(SIZES, LOAD, Cards())
    assert parts["prompt caches"] == 2 * 20 * 16 * 4
    assert parts["answer caches"] == 8 * 6 * 16 * 4
    assert rollout_parts(SIZES, replace(LOAD, answer_tokens=66), Cards())["answer caches"] == 8 * 66 * 16 * 4
    halved = rollout_parts(SIZES, replace(LOAD, bf16=True), Cards())
    assert halved["answer caches"] == 8 * 6 * 16 * 2 and halved["bf16 weights"] == 1200


def test_each_kind_of_attention_has_a_mask():
    assert update_parts(replace(SIZES, masks=2), LOAD, CPU)["attention mask"] == 2 * 4 * 4000


def test_layers_with_states_have_no_keys():
    # one of two layers; 2 prompts and 8 answers with 3 states of 2·5 numbers each
    sizes = replace(SIZES, states=States(layers=1, heads=3, key=2, value=5, channels=27))
    parts = rollout_parts(sizes, LOAD, Cards())
    assert parts["prompt caches"] == 2 * 20 * 8 * 4
    assert parts["states"] == 10 * 3 * 10 * 4


def test_answers_have_copies_of_a_prompts_keys_where_states_are_forked():
    # 100 tokens of 3 prompts and 10 answers, filled up to 64 tokens each; a layer with attention keeps 848 a
    # token, and 10 copies of 20 keys and values as wide as queries, 4·2·8
    states = States(layers=1, heads=3, key=2, value=5, channels=27)
    parts = update_parts(replace(SIZES, states=states), LOAD, CPU)
    attention = 100 * 848 + 10 * 20 * 64
    state = 100 * kept_beside_states(TEXT, states, 4) + 13 * 64 * kept_of_chunks(states, 4)
    assert parts["text activations"] == attention + state + 2 * 60 * 40
