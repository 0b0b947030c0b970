"""Which way to train which published model fits which card: the table of docs/memory.md.

    python -m benchmarks.memory_table

It forecasts from layer widths as published in config.json, and needs neither weights nor a GPU. The
recipe is that of configs/qwen2_vl_2b_sat_cvbench.yaml: 8 answers of up to 700 tokens to prompts of 1,024.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoConfig

from gpg_vl.config import AlgorithmConfig, DataConfig, ModelConfig, RolloutConfig, TrainConfig
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import GIB
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.preflight.ways import CARDS, WAYS, Found, compare

PROMPT, ANSWER, GROUP, QUESTIONS, ROUNDS = 1024, 700, 8, 8, 4
"""The recipe's tokens of a prompt and of an answer, answers, questions and rounds of a step."""


@dataclass(frozen=True)
class Published:
    """A model as its config.json publishes it."""

    model_type: str
    billions: float
    """Weights, as the hub counts them in its safetensors files."""
    image_tokens: int
    """Of one image of the recipe's 401,408 pixels, or of as many tiles as a prompt holds."""
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    more: Mapping[str, Any]

    def write(self, folder: Path) -> Path:
        """A folder with its config.json."""
        parts = {"text_config": dict(self.text), "vision_config": dict(self.vision)}
        config = AutoConfig.for_model(self.model_type, **parts, **self.more)
        config.save_pretrained(folder)
        return folder


def _text(width: int, feed_forward: int, layers: int, heads: int, keys: int, words: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": words,
        "max_position_embeddings": 32768,
    }


_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
_MROPE3 = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}}
_TIED, _APART = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def _qwen2(billions: float, text: dict[str, Any], tied: Mapping[str, bool]) -> Published:
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
    vision["hidden_size"] = text["hidden_size"]
    return Published("qwen2_vl", billions, 512, text | _MROPE | tied, vision, tied)


def _qwen2_5(billions: float, text: dict[str, Any], tied: Mapping[str, bool]) -> Published:
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    vision["out_hidden_size"] = text["hidden_size"]
    return Published("qwen2_5_vl", billions, 512, text | _MROPE | tied, vision, tied)


def _qwen3(billions: float, text: dict[str, Any], tied: Mapping[str, bool], *, large: bool) -> Published:
    small = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304} if large else small
    taps = {"deepstack_visual_indexes": [8, 16, 24] if large else [5, 11, 17]}
    vision |= {"num_heads": 16, "out_hidden_size": text["hidden_size"], "num_position_embeddings": 2304}
    return Published(
        "qwen3_vl", billions, 392, text | {"head_dim": 128} | _MROPE3 | tied, vision | taps, tied
    )


def _internvl(billions: float, text: dict[str, Any]) -> Published:
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    vision |= {"image_size": [448, 448], "patch_size": [14, 14]}
    return Published("internvl", billions, PROMPT, {"model_type": "qwen2"} | text | _APART, vision, _APART)


_SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_QWEN_7B = (3584, 18944, 28, 28, 4)
MODELS = {
    "Qwen2-VL-2B": _qwen2(2.209, _text(1536, 8960, 28, 12, 2, 151936), _TIED),
    "Qwen2-VL-7B": _qwen2(8.291, _text(*_QWEN_7B, 152064), _APART),
    "Qwen2.5-VL-3B": _qwen2_5(3.755, _text(2048, 11008, 36, 16, 2, 151936), _TIED),
    "Qwen2.5-VL-7B": _qwen2_5(8.292, _text(*_QWEN_7B, 152064), _APART),
    "Qwen3-VL-2B": _qwen3(2.128, _text(2048, 6144, 28, 16, 8, 151936), _TIED, large=False),
    "Qwen3-VL-4B": _qwen3(4.438, _text(2560, 9728, 36, 32, 8, 151936), _TIED, large=False),
    "Qwen3-VL-8B": _qwen3(8.767, _text(4096, 12288, 36, 32, 8, 151936), _APART, large=True),
    "InternVL3-2B": _internvl(2.089, _text(1536, 8960, 28, 12, 2, 151674)),
    "InternVL3-8B": _internvl(7.944, _text(*_QWEN_7B, 151674)),
    "SmolVLM2-2.2B": Published(
        "smolvlm",
        2.247,
        PROMPT,
        {"model_type": "llama"} | _text(2048, 8192, 24, 32, 32, 49280) | _APART,
        _SIGLIP | {"image_size": 384, "patch_size": 14},
        {"scale_factor": 3} | _APART,
    ),
    "Gemma-3-4B": Published(
        "gemma3",
        4.300,
        256,
        _text(2560, 10240, 34, 8, 4, 262208) | {"head_dim": 256, "sliding_window": 1024} | _TIED,
        _SIGLIP | {"image_size": 896, "patch_size": 14, "vision_use_head": False},
        {"mm_tokens_per_image": 256} | _TIED,
    ),
}
"""By name; the hub's are longer."""


def plan_of(model: Published, folder: Path) -> Plan:
    """The recipe on one GPU, its numbers of tokens and answers at a time as they are by default."""
    path = str(model.write(folder))
    config = TrainConfig(
        out="runs/forecast",
        model=ModelConfig(path=path),
        data=DataConfig(train=["data"], max_prompt_tokens=PROMPT),
        rollout=RolloutConfig(group_size=GROUP, max_new_tokens=ANSWER),
        algorithm=AlgorithmConfig(questions_per_step=QUESTIONS, max_rounds=ROUNDS),
        rewards={"choice": 1.0},
    )
    machine = Machine(card_gib=max(CARDS.values()))
    sizes = model_sizes(config.model, download=False, bf16=True)
    return Plan(config, sizes, Lengths(PROMPT, model.image_tokens), machine)


def lines(models: Mapping[str, Published] = MODELS) -> Iterator[str]:
    """The Markdown table, a line at a time."""
    yield f"| model | way | GiB | least | {' | '.join(CARDS)} |"
    yield f"|---|---|---:|---:|{'---|' * len(CARDS)}"
    for name, model in models.items():
        with TemporaryDirectory() as folder:
            found = compare(plan_of(model, Path(folder)))
        for number, one in enumerate(found):
            yield _line(name if number == 0 else "", one)


def _line(model: str, found: Found) -> str:
    cards = [_cell(less) for less in found.cards.values()]
    sizes = [f"{size / GIB:.1f}" for size in (found.peak, found.least)]
    return f"| {' | '.join([model, found.way, *sizes, *cards])} |"


def _cell(less: Mapping[str, Any] | None) -> str:
    """`yes`, with the numbers that have to be smaller than the defaults: tokens, then answers."""
    if less is None:
        return "–"
    words = {"run.micro_batch_tokens": "{} tokens", "rollout.max_concurrent": "{} answers"}
    return ", ".join(words[name].format(value) for name, value in less.items()) or "yes"


def settings() -> Iterator[str]:
    """What makes each way, to copy."""
    yield "| way | settings, besides `--model.gradient_checkpointing true` |"
    yield "|---|---|"
    for way in WAYS:
        words = {f"model.{name}": value for name, value in way.model.items()}
        words |= {f"optim.{name}": value for name, value in way.optim.items()}
        shown = (f"--{name} {json.dumps(value).strip(chr(34))}" for name, value in words.items())
        yield f"| {way.name} | {' '.join(f'`{one}`' for one in shown) or 'none'} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=[*MODELS], action="append", help="only this one")
    chosen = parser.parse_args(arguments).model or [*MODELS]
    print("\n".join(settings()), end="\n\n")
    for line in lines({name: MODELS[name] for name in chosen}):
        print(line, flush=True)


if __name__ == "__main__":
    main()
