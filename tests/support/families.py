"""Tiny models of every supported family, on the tokenizer of the tiny Qwen2-VL."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoProcessor,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from tests.support.processors import TILE, TILE_TOKENS, processor_of

HEAD = 16
TEXT: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "initializer_range": 0.08,
    "max_position_embeddings": 4096,
}
THREE_LAYERS = TEXT | {
    "num_hidden_layers": 3,
    "initializer_range": 0.14,  # below, greedy answers are often one token over and over
}
TOWER: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "initializer_range": 0.08,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

Tokens = dict[str, int]
"""Ids by token, and the rows of the embedding under "size"."""


def _chat_ids(tokens: Tokens) -> dict[str, Any]:
    """What a text config says of the tokens of Qwen's chat format."""
    return {
        "vocab_size": tokens["size"],
        "eos_token_id": tokens["<|im_end|>"],
        "bos_token_id": None,
        "pad_token_id": tokens["<|endoftext|>"],
    }


def _image_ids(tokens: Tokens) -> dict[str, int]:
    """What a config says of the tokens around an image of Qwen's."""
    return {
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
    }


def _trained(model: Any) -> Any:
    """`model` with random numbers where it begins with zeros, which would hide what it does with them:
    biases, position embeddings, Gemma's projection and norms. A head of its own is as wide as TEXT says,
    since wider logits are rounded more coarsely."""
    for weight in model.parameters():
        if not weight.any():
            nn.init.normal_(weight, std=0.08)
    head = model.get_output_embeddings().weight
    if head is not model.get_input_embeddings().weight:
        nn.init.normal_(head, std=TEXT["initializer_range"])
    return model


def _qwen2_5_vl(tokens: Tokens) -> Any:
    sections = [HEAD // 8, HEAD // 2 * 3 // 8, HEAD // 2 * 3 // 8]
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections}
    vision = {
        "hidden_size": 48,
        "out_hidden_size": 48,
        "intermediate_size": 96,
        "depth": 3,
        "num_heads": 3,
        "window_size": 56,  # two merged patches: images of three and more have several windows
        "fullatt_block_indexes": [1],
        "initializer_range": 0.08,
    }
    config = Qwen2_5_VLConfig(
        text_config=TEXT | _chat_ids(tokens) | {"rope_parameters": rope},
        vision_config=vision,
        **_image_ids(tokens),
    )
    return Qwen2_5_VLForConditionalGeneration(config)


QWEN3_TOWER: dict[str, Any] = {
    "hidden_size": 48,
    "out_hidden_size": 48,
    "intermediate_size": 96,
    "depth": 4,
    "num_heads": 3,
    "num_position_embeddings": 36,  # a grid of 6 x 6: larger and smaller images are interpolated
    "initializer_range": 0.08,
}


def _qwen3_vl(config: type, model: type, **extra: Any) -> Callable[[Tokens], Any]:
    """Features of two of the vision tower's layers enter behind the first two of the three text layers."""

    def make(tokens: Tokens) -> Any:
        rope = {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        }
        made = config(
            text_config=THREE_LAYERS | _chat_ids(tokens) | {"rope_parameters": rope} | extra,
            vision_config=QWEN3_TOWER | {"deepstack_visual_indexes": [0, 2]},
            **_image_ids(tokens),
        )
        return _trained(model(made))

    return make


def _qwen3_5(config: type, model: type, **extra: Any) -> Callable[[Tokens], Any]:
    """Linear attention in two of four layers; a quarter of a head of the others turns with the position."""

    def make(tokens: Tokens) -> Any:
        rope = {
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.25,
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
        }
        text = TEXT | {
            "num_hidden_layers": 4,
            "initializer_range": 0.06,  # above, the recurrence magnifies what is rounded
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "head_dim": 32,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": rope,
        }
        made = config(
            text_config=text | _chat_ids(tokens) | extra, vision_config=QWEN3_TOWER, **_image_ids(tokens)
        )
        return _trained(model(made))

    return make


def _internvl(text: str) -> Callable[[Tokens], Any]:
    """InternVL with a text model of the type `text`: qwen2 in InternVL3, qwen3 in InternVL3.5."""

    def make(tokens: Tokens) -> Any:
        config = InternVLConfig(
            text_config=THREE_LAYERS | _chat_ids(tokens) | {"model_type": text},
            vision_config=TOWER | {"image_size": TILE, "patch_size": 14, "attention_bias": True},
            image_token_id=tokens["<IMG_CONTEXT>"],
            image_seq_length=TILE_TOKENS,
            tie_word_embeddings=False,
        )
        return _trained(InternVLForConditionalGeneration(config))

    return make


def _tiled(config: type, model: type) -> Callable[[Tokens], Any]:
    """SmolVLM or Idefics3: a llama that reads the tiles of an image and then the whole of it."""

    def make(tokens: Tokens) -> Any:
        ids = {
            "eos_token_id": tokens["<end_of_utterance>"],
            "bos_token_id": tokens["<|im_start|>"],
            "pad_token_id": tokens["<|im_end|>"],
        }
        made = config(
            text_config=THREE_LAYERS | ids | {"model_type": "llama", "vocab_size": tokens["size"]},
            vision_config=TOWER | {"image_size": TILE, "patch_size": 14},
            image_token_id=tokens["<image>"],
            pad_token_id=ids["pad_token_id"],
            scale_factor=2,
        )
        return _trained(model(made))

    return make


def _gemma3_text_config(tokens: Tokens) -> dict[str, Any]:
    """Windows of fewer tokens than any prompt has, and positions that differ between the kinds of layers."""
    return THREE_LAYERS | {
        "initializer_range": 0.03,  # above, the head, which is the embedding, favours the token read last
        "vocab_size": tokens["size"],
        "eos_token_id": [tokens["<eos>"], tokens["<end_of_turn>"]],
        "bos_token_id": tokens["<bos>"],
        "pad_token_id": tokens["<pad>"],
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 9,
        "query_pre_attn_scalar": 24,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        },
    }


def _gemma3_text(tokens: Tokens) -> Any:
    return _trained(Gemma3ForCausalLM(Gemma3TextConfig(**_gemma3_text_config(tokens))))


def _gemma3(tokens: Tokens) -> Any:
    config = Gemma3Config(
        text_config=_gemma3_text_config(tokens),
        vision_config=TOWER | {"image_size": TILE, "patch_size": 14, "vision_use_head": False},
        mm_tokens_per_image=TILE_TOKENS,
        boi_token_index=tokens["<start_of_image>"],
        eoi_token_index=tokens["<end_of_image>"],
        image_token_index=tokens["<image_soft_token>"],
    )
    return _trained(Gemma3ForConditionalGeneration(config))


def _text(config: type, model: type, **extra: Any) -> Callable[[Tokens], Any]:
    def make(tokens: Tokens) -> Any:
        return model(config(**(TEXT | _chat_ids(tokens) | {"pad_token_id": None} | extra)))

    return make


def _qwen2_sliding(tokens: Tokens) -> Any:
    """Full attention in the first layer; windows of fewer tokens than any prompt has in the other two."""
    windows = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    return _trained(Qwen2ForCausalLM(Qwen2Config(**(THREE_LAYERS | _chat_ids(tokens) | windows))))


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, Callable[[Tokens], Any]] = {
    "qwen2_vl": lambda _: None,  # the tiny model itself
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl(Qwen3VLConfig, Qwen3VLForConditionalGeneration),
    "qwen3_vl_moe": _qwen3_vl(
        Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, **MOE, mlp_only_layers=[1]
    ),
    "qwen3_5": _qwen3_5(Qwen3_5Config, Qwen3_5ForConditionalGeneration),
    "qwen3_5_moe": _qwen3_5(
        Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration, **MOE, shared_expert_intermediate_size=32
    ),
    "internvl": _internvl("qwen2"),
    "internvl3_5": _internvl("qwen3"),
    "smolvlm": _tiled(SmolVLMConfig, SmolVLMForConditionalGeneration),
    "idefics3": _tiled(Idefics3Config, Idefics3ForConditionalGeneration),
    "gemma3": _gemma3,
    "gemma3_text": _gemma3_text,
    "qwen2": _text(Qwen2Config, Qwen2ForCausalLM, tie_word_embeddings=True),
    "qwen2_sliding": _qwen2_sliding,
    "qwen3": _text(Qwen3Config, Qwen3ForCausalLM),
    "llama": _text(LlamaConfig, LlamaForCausalLM, rope_parameters=LLAMA3_ROPE),
}


def save_family(family: str, out: Path, tiny: Path, **changes: Any) -> Path:
    """Write a model of `family` with its processor (or tokenizer), on the tokenizer of the tiny Qwen2-VL in
    `tiny`. Returns `out`.

    changes: other values of its config.json, and in sections of it, such as `text_config`.
    """
    if family == "qwen2_vl":
        shutil.copytree(tiny, out)
        return out
    processor = processor_of(family, AutoProcessor.from_pretrained(tiny))
    tokenizer = getattr(processor, "tokenizer", processor)
    tokens = {"size": len(tokenizer) + 3, **tokenizer.get_vocab()}
    torch.manual_seed(0)
    model = MODELS[family](tokens)
    if changes:
        model = _resized(model, changes)
    model.generation_config.eos_token_id = model.config.get_text_config().eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


def _resized(model: Any, changes: dict[str, Any]) -> Any:
    values = model.config.to_dict()
    for name, changed in changes.items():
        values[name] = values[name] | changed if isinstance(changed, dict) else changed
    return _trained(type(model)(type(model.config).from_dict(values)))


def save_endless(out: Path, tiny: Path) -> Path:
    """A copy of the model in `tiny` whose end of text is a token that it may not write."""
    shutil.copytree(tiny, out)
    file = out / "generation_config.json"
    pad = AutoProcessor.from_pretrained(tiny).tokenizer.convert_tokens_to_ids("<|video_pad|>")
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [pad]}))
    return out
