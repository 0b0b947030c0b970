"""A workload's model and questions, as files that this project and its peers read alike."""

import hashlib
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.workloads import QUESTIONS, ModelSize, Workload
from gpg_vl.model.families.qwen2_vl import qwen2_vl
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

PROCESSOR = Path(__file__).resolve().parents[2] / "shared" / "models" / "qwen2vl_processor"
"""Qwen2-VL's published processor, beside the checkout."""
_TOKEN_FIELDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def text_score(text: str) -> float:
    """A score in [0, 1) that says nothing of the text, but differs between any two answers."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] / 256


@reward("text_hash", kind="shaping")
def text_hash(completion: Completion, sample: Sample) -> float:
    """`text_score` as a reward of this project."""
    return text_score(completion.text)


def samples(workload: Workload) -> list[Sample]:
    """The workload's questions, each about an image of noise."""
    generator = np.random.default_rng(0)
    return [
        Sample(
            str(number),
            "noise",
            question,
            "noise",
            "label",
            images=(noise(workload.side, generator),),
        )
        for number, question in enumerate(islice(cycle(QUESTIONS), workload.questions))
    ]


def noise(side: int, source: np.random.Generator | int) -> Image.Image:
    """A square image of `side` pixels, from a generator or a seed."""
    pixels = np.random.default_rng(source).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def suppressed_tokens(processor: Any, model: Any) -> list[int]:
    """What nobody samples: ends of text, so that all answers are equally long, and vision tokens, which would
    crash the forward behind them."""
    known = processor.tokenizer.get_vocab()
    ends = model.generation_config.eos_token_id
    return [
        *(ends if isinstance(ends, list) else [ends]),
        *(known[t] for t in qwen2_vl.image_markup if t in known),
    ]


def write_model(size: ModelSize, folder: Path, processor: Path) -> Path:
    """A randomly initialised model in fp32 with a copy of the processor. Returns `folder`."""
    import torch
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    files = AutoProcessor.from_pretrained(processor)
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(_config(size, files.tokenizer))
    ends = files.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = ends[-1]
    model.save_pretrained(folder)
    files.save_pretrained(folder)
    return folder


def _config(size: ModelSize, tokenizer: Any) -> Any:
    from transformers import Qwen2VLConfig

    pairs = size.hidden // size.heads // 2  # of rotary frequencies, shared out as in Qwen2-VL
    rope = {"mrope_section": [pairs // 4, pairs * 3 // 8, pairs * 3 // 8]}
    text = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, **rope},
        "tie_word_embeddings": True,
        "max_position_embeddings": 32_768,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    vision = {
        "embed_dim": size.vision_hidden,
        "hidden_size": size.hidden,
        "depth": size.vision_layers,
        "num_heads": size.vision_heads,
        "mlp_ratio": 4,
        "patch_size": 14,
        "spatial_merge_size": 2,
    }
    tokens = {name: tokenizer.convert_tokens_to_ids(text) for name, text in _TOKEN_FIELDS.items()}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **tokens)
