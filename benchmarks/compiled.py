"""Seconds of the gradient pass with and without `model.compile`, and those of its warm-up.

python -m benchmarks.compiled --workload 336-g8-48
python -m benchmarks.compiled --workload quickstart
"""

import argparse
import os
import tempfile
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from benchmarks import inputs
from benchmarks.gradient_rate import fullest_micro_batch, gradient_of
from benchmarks.limits import timed
from benchmarks.workloads import WORKLOADS, Workload
from gpg_vl.config import ModelConfig
from gpg_vl.model.loading import load_policy
from gpg_vl.model.tiny import TinySize, save_tiny
from gpg_vl.prompting.prompts import Prompt, question_text
from gpg_vl.registry import converters
from gpg_vl.rollout.answering import build_encoder
from gpg_vl.types import Sample

QUICKSTART = Workload(side=112, group_size=8, new_tokens=12, questions=16)
"""As large as the quickstart's steps, with its model and its scenes."""
MICRO_BATCH_TOKENS = 8192


def prepare(name: str, folder: Path, processor: Path) -> tuple[Workload, list[Sample]]:
    """Write the model to `folder`; what it is asked."""
    if name != "quickstart":
        workload = WORKLOADS[name]
        inputs.write_model(workload.model, folder, processor)
        return workload, inputs.samples(workload)
    scenes = converters.get("scenes").function("", split="train", seed=0)
    samples = list(islice(scenes, QUICKSTART.questions))
    save_tiny(folder, [question_text(sample) for sample in samples], TinySize())
    return QUICKSTART, samples


def measure(workload: Workload, samples: list[Sample], model: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of the first pass and of `repeats` more, which alternate."""
    passes, spent = {}, {}
    for name, compiled in (("eager", False), ("compiled", True)):
        policy = load_policy(str(model), compiled=compiled)
        encoder = build_encoder(policy, Prompt(), ModelConfig(path=str(model)))
        rows = fullest_micro_batch(policy, encoder.encode(samples), workload, MICRO_BATCH_TOKENS)
        passes[name] = gradient_of(policy, rows)
        spent[name] = [timed(passes[name], policy.device)]
    for _ in range(repeats):
        for name, gradient in passes.items():
            spent[name].append(timed(gradient, torch.device("cpu")))
    return spent


def main() -> None:
    """Measure with empty caches of compiled code, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=["quickstart", *WORKLOADS], required=True)
    parser.add_argument("--processor", type=Path, default=inputs.PROCESSOR, help="hub id or folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/compiled"
        workload, samples = prepare(given.workload, Path(folder) / "model", given.processor)
        spent = measure(workload, samples, Path(folder) / "model", given.repeats)
    for name, (first, *others) in spent.items():
        print(f"{name}: first pass {first:.2f} s, then {median(others):.3f} s (median of {len(others)})")


if __name__ == "__main__":
    main()
