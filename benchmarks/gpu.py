"""Decoding, training and memory of a full-size Qwen2-VL-2B on one GPU, beside what the GPU allows at most.

python -m benchmarks.gpu --processor Qwen/Qwen2-VL-2B-Instruct --out runs/gpu.json
python -m benchmarks.gpu --processor FOLDER --device cpu --small

Random weights in the real layer sizes, bf16 arithmetic (fp32 on a CPU), G 8, images of 616 pixels. `--small`
is a tiny model: it shows that everything runs, and is no measurement.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from benchmarks import decode_rate, full_size, gradient_rate, inputs, naive, ours
from benchmarks.limits import copy_bandwidth, matmul_rate
from benchmarks.machine import write_result
from benchmarks.scales import FULL, SMALL, Scale
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.fits import Machine, Plan, model_sizes
from gpg_vl.preflight.memory import GIB, forecast
from gpg_vl.tables import markdown_table, short_number
from gpg_vl.training.session import Session
from gpg_vl.training.train import train_step
from tests.support.tensor_memory import peak_on_cpu, peak_on_gpu

Figures = dict[str, Any]
"""By the names that the JSON file uses."""


def measure(model: Path, scale: Scale, device: torch.device, repeats: int) -> Figures:
    """Memory, gradient pass and decoding of this project, then transformers' decoding in its place."""
    with tempfile.TemporaryDirectory() as folder:
        session, memory = _two_steps(model, scale, Path(folder) / "data", device)
    _say(f"memory: {memory}")
    policy, prompts = session.learner.policy, session.learner.encoder.encode(inputs.samples(scale.workload))
    sizes, limit = model_sizes(session.config.model, download=False), session.micro_batch_tokens
    dtype = policy.compute_dtype
    del session  # AdamW's moments would leave less room for caches
    decode_rate.release()
    bandwidth, peak = copy_bandwidth(device, scale.copy), matmul_rate(device, dtype, scale.side)
    rows = gradient_rate.fullest_micro_batch(policy, prompts, scale.workload, limit)
    training = gradient_rate.measure(policy, rows, sizes, peak, repeats)
    _say(f"training: {training}")
    longest = max(prompt.length for prompt in prompts)
    decoding = []
    for count in scale.rows:
        tokens = decode_rate.ours(policy, prompts, scale, count, repeats)
        floor = decode_rate.floor(sizes, longest, scale, count, bandwidth, dtype.itemsize)
        decoding.append({"rows": count, "tokens/s": tokens, "floor": floor})
        _say(f"decoding: {decoding[-1]}")
    del policy
    decode_rate.release()
    _add_plain(decoding, model, scale, device, dtype, repeats)
    limits = {"copy bytes/s": bandwidth, "matmul FLOP/s": peak}
    return {"limits": limits, "decode": decoding, "training": training, "memory": memory}


def _two_steps(model: Path, scale: Scale, data: Path, device: torch.device) -> tuple[Session, Figures]:
    """A session behind two steps, and the peak of its memory beside the forecast: on a CPU of all tensors."""
    sessions: list[Session] = []

    def two_steps() -> None:
        sessions.append(ours.build(scale.workload, model, data))
        for step in (1, 2):
            train_step(sessions[0], step)

    measured = (peak_on_gpu if device.type == "cuda" else peak_on_cpu)(two_steps)
    [session] = sessions
    expected = _forecast(session, scale)
    return session, {"measured": measured, "forecast": expected, "ratio": expected / measured}


def _forecast(session: Session, scale: Scale) -> float:
    """Bytes at the peak."""
    encoder, data, machine = session.learner.encoder, session.learner.data, Machine()
    samples = [data[row] for row in range(len(data))]
    lengths = Lengths(max(map(encoder.prompt_length, samples)), max(map(encoder.image_tokens, samples)))
    plan = Plan(session.config, model_sizes(session.config.model, download=False), lengths, machine)
    return forecast(plan.sizes, plan.load(scale.workload.new_tokens), machine.cards).peak


def _add_plain(
    decoding: list[Figures], model: Path, scale: Scale, device: torch.device, dtype: torch.dtype, repeats: int
) -> None:
    """What transformers' `generate` does with as many rows, or with as many of them as fit."""
    loaded, processor = naive.load(model, dtype)
    loaded.to(device).eval()
    for row in decoding:
        row["generate rows"], row["generate tokens/s"] = decode_rate.largest_that_fits(
            lambda rows: decode_rate.plain(loaded, processor, scale, rows, repeats),
            row["rows"],
            scale.workload.group_size,
        )
        _say(f"generate: {row}")


def tables(figures: Figures) -> str:
    """In Markdown."""
    limits, training, memory = figures["limits"], figures["training"], figures["memory"]
    head = ["rows", "tokens/s", "at the bandwidth floor", "share", "generate, tokens/s", "ours / generate"]
    decode = markdown_table(head, [_decode_cells(row) for row in figures["decode"]])
    lines = {
        "copy bandwidth, GB/s": limits["copy bytes/s"] / 1e9,
        "matrix products, TFLOP/s": limits["matmul FLOP/s"] / 1e12,
        "training, tokens/s": training["tokens/s"],
        "training, TFLOP/s": training["FLOP/s"] / 1e12,
        "training, share of the matrix products": training["share of matmul peak"],
        "peak memory of two steps, GiB": memory["measured"] / GIB,
        "its forecast, GiB": memory["forecast"] / GIB,
        "forecast / measured": memory["ratio"],
    }
    rest = markdown_table(["", ""], [[name, short_number(value)] for name, value in lines.items()])
    return f"{decode}\n\n{rest}"


def _decode_cells(row: Figures) -> list[str]:
    plain = short_number(row["generate tokens/s"])
    if row["generate rows"] < row["rows"]:
        plain += f" ({row['generate rows']} rows: out of memory with more)"
    rates = [short_number(row[name]) for name in ("tokens/s", "floor")]
    share = f"{row['tokens/s'] / row['floor']:.0%}"
    return [str(row["rows"]), *rates, share, plain, short_number(row["tokens/s"] / row["generate tokens/s"])]


def _say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the tables, and write everything as JSON."""
    given = _arguments()
    device, scale = torch.device(given.device), SMALL if given.small else FULL
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        if given.small:
            inputs.write_model(scale.workload.model, model, given.processor)
        else:
            full_size.write_model(model, AutoProcessor.from_pretrained(given.processor))
        figures = measure(model, scale, device, given.repeats)
    if given.small:
        print("A tiny model: everything runs, and no figure means anything.\n")
    print(tables(figures))
    if given.out:
        write_result(given.out, "benchmarks.gpu", {"scale": asdict(scale)} | figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor", required=True, help="hub id or folder")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model and few rows")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nobody takes a GPU that is here
    elif not torch.cuda.is_available():
        parser.error("no CUDA device is here: use --device cpu --small")
    return given


if __name__ == "__main__":
    main()
