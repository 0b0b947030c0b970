"""One GPG step of a full-size Qwen2-VL-2B with LoRA: random weights, its real layer sizes, one large image.

python -m benchmarks.full_size --processor Qwen/Qwen2-VL-2B-Instruct

The folder of a downloaded processor does as well. The model file takes 4.4 GB of disk under --out.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.workloads import TEXT, VISION
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

SIZE = (448, 896)
"""Height and width in pixels: 401,408, the limit of the published recipe, and 512 image tokens."""


@reward("vowels", kind="shaping")
def vowels(completion: Completion, sample: Sample) -> float:
    """Share of vowels, in [0, 1]: answers of random weights differ in little else."""
    letters = [c for c in completion.text.lower() if c.isalpha()]
    return sum(c in "aeiou" for c in letters) / max(1, len(letters))


def write_model(folder: Path, processor: Any, device: torch.device | str = "cpu") -> None:
    """A randomly initialised model in bf16, made on `device`, with its processor."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    token = processor.tokenizer.convert_tokens_to_ids
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    tokens = {name: token(text) for name, text in names.items()}
    ends = {"bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>")}
    towers = {"text_config": TEXT | ends, "vision_config": VISION}
    config = Qwen2VLConfig(**towers, **tokens, tie_word_embeddings=True, dtype=torch.bfloat16)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_data(folder: Path) -> None:
    """Two questions about an image of noise."""
    from gpg_vl.data.ingest import write_prepared

    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    images = (Image.fromarray(pixels),)
    samples = [Sample(str(i), "noise", "What is it?", "noise", "label", images=images) for i in range(2)]
    write_prepared(samples, folder, source="noise", converter="benchmarks.full_size", version="1")


def main() -> None:
    """Write model and data, train one step in a process of its own, and print what that took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processor", required=True, help="hub id or folder")
    parser.add_argument("--out", default="runs/full_size", help="folder; must not hold a run")
    parser.add_argument("--max_new_tokens", type=int, default=32)
    given, overrides = parser.parse_known_args()
    out = Path(given.out)
    if not (out / "model" / "config.json").is_file():
        from transformers import AutoProcessor

        write_model(out / "model", AutoProcessor.from_pretrained(given.processor))
        write_data(out / "data")
    options = {
        "out": out / "run",
        "model.path": out / "model",
        "model.lora_rank": 16,
        "model.gradient_checkpointing": "true",
        "model.max_pixels": SIZE[0] * SIZE[1],
        "data.train": f'["{out / "data"}"]',
        "rollout.group_size": 8,
        "rollout.max_new_tokens": given.max_new_tokens,
        "algorithm.questions_per_step": 1,
        "rewards": f'{{"{__file__}:vowels": 1.0}}',
        "run.steps": 1,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "gpg_vl", "train", *words, *overrides], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print((out / "run" / "metrics.jsonl").read_text().strip())
    print(f"{time.perf_counter() - start:.0f} s with loading and saving, peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    main()
