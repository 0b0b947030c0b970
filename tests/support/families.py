"""Tiny models of every supported family, on the tokenizer of the tiny Qwen2-VL."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

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


def _qwen2_5_vl(tokens: dict[str, int]) -> Any:
    sections = [HEAD // 8, HEAD // 2 * 3 // 8, HEAD // 2 * 3 // 8]
    text = TEXT | {
        "vocab_size": tokens["size"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections},
        "eos_token_id": tokens["<|im_end|>"],
        "bos_token_id": None,
        "pad_token_id": tokens["<|endoftext|>"],
    }
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
        text_config=text,
        vision_config=vision,
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _text(config: type, model: type, **extra: Any) -> Callable[[dict[str, int]], Any]:
    def make(tokens: dict[str, int]) -> Any:
        ids = {"eos_token_id": tokens["<|im_end|>"], "bos_token_id": None, "pad_token_id": None}
        return model(config(**TEXT, **ids, **extra, vocab_size=tokens["size"]))

    return make


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, Callable[[dict[str, int]], Any]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2": _text(Qwen2Config, Qwen2ForCausalLM, tie_word_embeddings=True),
    "qwen3": _text(Qwen3Config, Qwen3ForCausalLM),
    "llama": _text(LlamaConfig, LlamaForCausalLM, rope_parameters=LLAMA3_ROPE),
}


def save_family(family: str, out: Path, tiny: Path) -> Path:
    """Write a model of `family` with the processor (or tokenizer) of the tiny Qwen2-VL in `tiny`."""
    processor = AutoProcessor.from_pretrained(tiny)
    tokenizer = processor.tokenizer
    tokens = {"size": len(tokenizer) + 3, **tokenizer.get_vocab()}
    torch.manual_seed(0)
    model = MODELS[family](tokens)
    model.generation_config.eos_token_id = tokens["<|im_end|>"]
    model.generation_config.pad_token_id = tokens["<|endoftext|>"]
    model.save_pretrained(out)
    if model.config.model_type.endswith("_vl"):
        processor.save_pretrained(out)
    else:
        tokenizer.chat_template = processor.chat_template
        tokenizer.save_pretrained(out)
    return out


def save_endless(out: Path, tiny: Path) -> Path:
    """A copy of the model in `tiny` whose end of text is a token that it may not write."""
    shutil.copytree(tiny, out)
    file = out / "generation_config.json"
    pad = AutoProcessor.from_pretrained(tiny).tokenizer.convert_tokens_to_ids("<|video_pad|>")
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [pad]}))
    return out
