"""This project's engine beside vLLM: tokens per second of the same rollouts, prompts included.

python -m benchmarks.rollout --made tiny --prompts 16,512 --answers 16,128
python -m benchmarks.rollout --model Qwen/Qwen2.5-VL-3B-Instruct --side 616
python -m benchmarks.rollout --model runs/model --data data/validation --engine server --url http://127.0.0.1:8000

Both have the same weights, prompts, images, number of answers and threads; ends of text are banned, so that
all answers are equally long. They take turns, with other questions and the weights anew at each one, and the
medians count. vLLM's own processor reads the images within its time, as in training, where this project has
read them ahead. vLLM runs in this process, and has to be installed here, or behind --url: a server's threads
are its own.
"""

import argparse
import os
import tempfile
from contextlib import closing
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.machine import write_result
from benchmarks.rollout_rate import Figures, Rates, Source, cells, checks, made_up, never_end, table
from benchmarks.workloads import ModelSize
from gpg_vl.config import ModelConfig
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import UserError
from gpg_vl.evaluation.evaluate_model import own_encoder
from gpg_vl.model.frontend import Frontend
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.model.published import published
from gpg_vl.model.tiny import save_tiny
from gpg_vl.prompting.card import read_card
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt, question_text
from gpg_vl.registry import converters
from gpg_vl.rollout.engine import Engine
from gpg_vl.rollout.own import OwnEngine
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.in_process import VllmEngine
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.rollout_config import ServerConfig, VllmConfig

VOCABULARY = ModelSize(layers=4, feed_forward=512, vision_layers=1)
"""43 million weights, of which 39 are the published vocabulary's."""
_DATA = "data"
_SLACK = 32
"""Tokens by which made-up questions of a length may differ."""


def make(name: str, folder: Path, processor: Path) -> Path:
    """Write a randomly initialised model: `tiny` is the quickstart's, `vocabulary` has a real one."""
    if name == "vocabulary":
        return inputs.write_model(VOCABULARY, folder, processor)
    scenes = converters.get("scenes").function("", split="train", seed=0)
    return save_tiny(folder, [question_text(sample) for sample in islice(scenes, 64)])


def sources(given: argparse.Namespace, encoder: PromptEncoder) -> tuple[dict[str, Source], int]:
    """Where questions come from, by name, and the tokens of the longest one."""
    if given.data:
        data = PreparedDataset.open([given.data])
        return {_DATA: lambda number: data[number % len(data)]}, max(data.lengths(encoder.prompt_length))
    side = given.side if encoder.takes_images else 0
    made: dict[str, Source] = {
        str(tokens): partial(made_up, encoder.tokenizer, tokens, side) for tokens in given.prompts
    }
    return made, max(encoder.prompt_length(source(0)) for source in made.values()) + _SLACK


def beside(given: argparse.Namespace, policy: Policy, model: ModelConfig, max_len: int) -> Engine:
    """The engine that is compared, with the policy's weights."""
    asking = Asking(Frontend.of(policy), 0)
    weights = partial(published, policy, dtype=torch.bfloat16 if policy.bf16 else None)
    shared: dict[str, Any] = {"max_concurrent": given.rows, "weights": weights}
    if given.engine == "server":
        return ServerEngine(ServerConfig(given.url), asking, device=policy.device, **shared)
    return VllmEngine(VllmConfig(), model, asking, bf16=policy.bf16, max_len=max_len, **shared)


def run(given: argparse.Namespace, path: str) -> str:
    """Measure every cell of a model, and write what is known after each; the table."""
    policy = load_policy(path, device=given.device)
    never_end(policy)
    card = read_card(path) or {}
    prompt = Prompt.from_dict(card["prompt"]) if "prompt" in card else Prompt()
    encoder = own_encoder(Frontend.of(policy), card, prompt)
    asked, longest = sources(given, encoder)
    model = ModelConfig(path, min_pixels=encoder.min_pixels, max_pixels=encoder.max_pixels)
    own = OwnEngine(policy, max_concurrent=given.rows)
    measured: list[Figures] = []
    greedy: list[Figures] = []
    with closing(beside(given, policy, model, longest + max(given.answers))) as other:
        engines = {"own": own, "vLLM": other}
        rates = Rates(policy, encoder, engines, asked, rows=given.rows, repeats=given.repeats)
        greedy += [rates.greedy(name, max(given.answers)) for name in asked]
        for cell in cells(given.groups, list(asked), given.answers):
            measured.append(rates.measure(cell))
            if given.out:
                figures = {
                    "threads": given.threads,
                    "vLLM": _vllm(given),
                    "greedy": greedy,
                    "cells": measured,
                }
                write_result(given.out, "benchmarks.rollout", figures)
    weights = sum(weight.numel() for weight in policy.parameters()) / 1e6
    name = f"{policy.model_type}, {weights:,.1f} M, {'bf16' if policy.bf16 else 'fp32'}"
    return f"{table(name, given.engine, measured)}\n\n{checks(measured, greedy)}"


def _vllm(given: argparse.Namespace) -> str:
    """Its version, or where it runs."""
    return given.url or str(import_module("vllm").__version__)


def main() -> None:
    """Measure, and print the table; exits with one line where something is missing."""
    given = _arguments()
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # vLLM would take a GPU that is here
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = given.model or str(make(given.made, Path(folder) / "model", given.processor))
            print(run(given, path))
        except UserError as error:
            raise SystemExit(str(error)) from error


def positive(text: str) -> list[int]:
    """Numbers between commas."""
    numbers = [int(number) for number in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no list of positive numbers")
    return numbers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--model", help="hub id or folder")
    models.add_argument(
        "--made", choices=["tiny", "vocabulary"], help="random weights, 0.9 M; 43 M with the vocabulary"
    )
    add("--processor", type=Path, default=inputs.PROCESSOR, help="hub id or folder, for --made vocabulary")
    add("--data", help="prepared data, as it is; default: made-up questions")
    add("--prompts", type=positive, default=[16, 512], help="tokens of made-up questions; default 16,512")
    add("--side", type=int, default=112, help="pixels of their images; 0: none; default 112")
    add("--groups", type=positive, default=[1, 4, 16], help="answers a question; default 1,4,16")
    add("--answers", type=positive, default=[16, 128], help="tokens of an answer; default 16,128")
    add("--rows", type=int, default=32, help="answers of a rollout, all at once; default 32")
    add("--engine", choices=["vllm", "server"], default="vllm")
    add("--url", default="", help="of what `gpg-vl serve` started with this model, for --engine server")
    add("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, default=1, help="on a CPU; default 1")
    add("--repeats", type=int, default=3, help="turns that count; default 3")
    add("--out", type=Path, help="JSON file, written anew after every cell")
    given = parser.parse_args()
    if any(given.rows % size for size in given.groups):
        parser.error(f"--rows {given.rows} is no multiple of each of --groups")
    if (given.engine == "server") != bool(given.url):
        parser.error("--engine server and --url belong together")
    if given.engine == "vllm" and find_spec("vllm") is None:
        raise SystemExit(
            "vLLM is not installed here: pip install vllm, or --engine server with the --url of a `gpg-vl "
            "serve` (docs/rollout_engines.md)"
        )
    return given


if __name__ == "__main__":
    main()
