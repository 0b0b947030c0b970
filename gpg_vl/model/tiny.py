"""A small, randomly initialised but real Qwen2-VL with its own processor, made in place.

The quickstart and the tests use it: the same classes, special tokens and chat format as the published
models, at a size that a CPU trains in minutes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WHOLE_TOKENS = ("<think>", "</think>", "<answer>", "</answer>", *(f"({c})" for c in "ABCDEF"))
"""Texts that the small tokenizer keeps whole, so that an answer is a handful of tokens."""

# Qwen2-VL's chat format without its default system turn, which would be a third of the small prompts.
CHAT_TEMPLATE = """{%- for turn in messages -%}
<|im_start|>{{ turn['role'] }}
{% if turn['content'] is string -%}
{{- turn['content'] -}}
{%- else -%}
{%- for part in turn['content'] -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""


@dataclass(frozen=True)
class TinySize:
    """Layer sizes; the defaults learn the quickstart's scenes."""

    hidden: int = 96
    layers: int = 3
    heads: int = 3
    kv_heads: int = 1
    feed_forward: int = 288
    vision_hidden: int = 96
    vision_layers: int = 2
    vocabulary: int = 420
    """Rows of the embedding; a processor with more tokens gets more."""


def tiny_processor(texts: Iterable[str], vocabulary: int = TinySize.vocabulary) -> Qwen2VLProcessor:
    """A Qwen2-VL processor whose byte-level BPE is trained on `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS) - len(WHOLE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    chat = "<|im_start|>user\nassistant\n"
    tokenizer.train_from_iterator((chat + text for text in texts), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in WHOLE_TOKENS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=fast,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )


def tiny_model(
    processor: Qwen2VLProcessor, size: TinySize | None = None, seed: int = 0
) -> Qwen2VLForConditionalGeneration:
    """A randomly initialised Qwen2-VL in fp32 that fits `processor`'s vocabulary.

    Wider initialisation than the published 0.02: at this width that learns nothing within two minutes.
    """
    size = size or TinySize()
    token = processor.tokenizer.convert_tokens_to_ids
    head_dim = size.hidden // size.heads
    sections = [head_dim // 8, head_dim // 2 * 3 // 8, head_dim // 2 * 3 // 8]
    text = {
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "vocab_size": max(size.vocabulary, len(processor.tokenizer)),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections},
        "tie_word_embeddings": True,
        "initializer_range": 0.08,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }
    vision = {
        "embed_dim": size.vision_hidden,
        "hidden_size": size.hidden,
        "depth": size.vision_layers,
        "num_heads": 3,
        "mlp_ratio": 4,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "initializer_range": 0.05,
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [token("<|im_end|>"), token("<|endoftext|>")]
    model.generation_config.pad_token_id = token("<|endoftext|>")
    return model


def save_tiny(out: Path, texts: Iterable[str], size: TinySize | None = None, seed: int = 0) -> Path:
    """Write a tiny model with its processor, as `from_pretrained` reads it. Returns `out`."""
    size = size or TinySize()
    processor = tiny_processor(texts, size.vocabulary)
    tiny_model(processor, size, seed).save_pretrained(out)
    processor.save_pretrained(out)
    return out
