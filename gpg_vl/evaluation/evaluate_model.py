"""`gpg-vl eval`: a model folder or hub id on a benchmark."""

import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console

import gpg_vl
from gpg_vl.config import ModelConfig
from gpg_vl.data.manifest import read_manifest
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.evaluation.benchmarks import Benchmark, find_benchmark
from gpg_vl.evaluation.evaluate import evaluate, write_evaluation
from gpg_vl.evaluation.grading import check_rewards
from gpg_vl.evaluation.model import Model, choose_prompt, load, own_encoder, own_stop
from gpg_vl.evaluation.own_rewards import own_rewards
from gpg_vl.evaluation.partial import PartialFile
from gpg_vl.evaluation.settings import EvalSettings
from gpg_vl.model.adapter_files import base_of
from gpg_vl.model.frontend import Frontend, read_frontend
from gpg_vl.model.loading import computes_in_bf16
from gpg_vl.prompting.card import read_card
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.rollout.answering import Answerer, check_room
from gpg_vl.rollout.engine import Engine
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm.asking import Asking
from gpg_vl.rollout.vllm.in_process import VllmEngine
from gpg_vl.rollout.vllm.server import ServerEngine
from gpg_vl.runs.files import Evaluation
from gpg_vl.runtime.parallel import World, joining
from gpg_vl.runtime.progress import ProgressBar
from gpg_vl.scoring.scorer import Scorer

_PATIENCE = timedelta(days=1)
"""How long processes wait for each other: answers of 32,768 tokens take longer than the usual ten minutes."""


def evaluate_model(
    settings: EvalSettings,
    model: Model | None = None,
    *,
    kept: Path | None = None,
    card: Mapping[str, Any] | None = None,
    max_prompt_tokens: int | None = None,
) -> Evaluation | None:
    """Evaluate, and write `settings.out`. Every process of a launch calls it; the first gets the evaluation.

    model: `settings.model`, where it is loaded already. kept: the file that a killed evaluation goes on from;
    None is one beside `settings.out`, if that is set. card: how to ask, in place of the model's own.
    max_prompt_tokens: leave longer prompts out, and those that cannot be made, as training does. Raises a
    UserError for a model, a benchmark or settings that the user can mend.
    """
    base_of(settings.model)  # a LoRA checkpoint without peft or base is refused before data is read
    benchmark, folder = find_benchmark(settings.benchmark, settings.data)
    data = PreparedDataset.open([folder]).head(settings.limit)
    check_rewards(benchmark, data.column("answer_type"))
    state = _joined()
    if model is None and settings.engine == "own":
        model = load(settings.model, device=state.device)
    frontend = model.frontend if model else read_frontend(settings.model)
    if card is None:
        card = model.card if model else read_card(settings.model) or {}
    encoder = own_encoder(frontend, card, choose_prompt(card, benchmark, settings.prompt))
    data = _within(data, max_prompt_tokens, encoder, state)
    longest = max(data.lengths(encoder.prompt_length))
    rewards = _own_rewards(settings, card, World(state.process_index, state.num_processes))
    sampling = settings.sampling(
        _max_new_tokens(settings, benchmark, frontend.context, longest), own_stop(card)
    )
    engine = _engine(settings, model, frontend, encoder, longest + sampling.max_new_tokens, state)
    answerer, partial = Answerer(encoder, engine), None
    kept = kept or (Path(f"{settings.out}.partial.jsonl") if settings.out else None)
    if kept and state.is_main_process:
        partial = PartialFile(kept, _fingerprint(settings, benchmark, data, answerer, sampling, rewards))
    own = closing(engine) if model is None else nullcontext()  # another's stays open
    with own, ProgressBar("evaluate", len(data), console=_console(state)) as bar:
        if partial and partial.note:
            bar.say(partial.note)
        evaluation = evaluate(
            answerer,
            data,
            sampling,
            benchmark=benchmark,
            samples=settings.samples,
            scorer=Scorer(rewards) if rewards else None,
            partial=partial,
            progress=bar.advance,
        )
    if not state.is_main_process:
        return None
    by = {"model": settings.model, "engine": settings.engine, "rewards": rewards}
    evaluation = {"step": 0, **by, **evaluation}
    if settings.out:
        write_evaluation(Path(settings.out), evaluation)
    if partial:
        partial.path.unlink()
    return evaluation


def _joined() -> PartialState:
    """The processes of a launch, together."""
    # Without `cpu`, a launch on a machine without GPUs would be so many evaluations of one process each.
    with joining():
        return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def _within(
    data: PreparedDataset, max_tokens: int | None, encoder: PromptEncoder, state: PartialState
) -> PreparedDataset:
    """Only rows of at most `max_tokens` tokens, the others are counted and told; None takes all."""
    if max_tokens is None:
        return data
    data = data.within(max_tokens, encoder.prompt_length)
    if (note := data.left_out_note()) and state.is_main_process:
        print(note, file=sys.stderr)
    return data


def _engine(
    settings: EvalSettings,
    model: Model | None,
    frontend: Frontend,
    encoder: PromptEncoder,
    max_len: int,
    state: PartialState,
) -> Engine:
    """The loaded model's own, or else vLLM with its weights, for sequences of up to `max_len` tokens.

    Raises EngineError where a server has others, ConfigurationError for a LoRA checkpoint.
    """
    if model is not None:
        return model.seeded(settings.seed, settings.max_concurrent)
    asking, world = Asking(frontend, settings.seed), World(state.process_index, state.num_processes)
    if settings.engine == "server":
        return ServerEngine(
            settings.server,
            asking,
            max_concurrent=settings.max_concurrent,
            world=world,
            model=settings.model,
            max_len=max_len,
        )
    return VllmEngine(
        settings.vllm,
        ModelConfig(settings.model, min_pixels=encoder.min_pixels, max_pixels=encoder.max_pixels),
        asking,
        bf16=computes_in_bf16("auto", state.device),
        max_len=settings.vllm.max_model_len or max_len,
        max_concurrent=settings.max_concurrent,
        world=world,
    )


def _own_rewards(settings: EvalSettings, card: Mapping[str, Any], world: World) -> Mapping[str, Any] | None:
    """`own_rewards`, but none where one of the processes, on a machine of its own, cannot have them."""
    table, note = world.together(lambda: own_rewards(settings.rewards, card, settings.model))
    notes = [note for note in world.gather([note]) if note]
    if notes and world.main:
        print(notes[0], file=sys.stderr)
    return None if notes else table


def _max_new_tokens(settings: EvalSettings, benchmark: Benchmark, context: int, longest: int) -> int:
    """As set, or the benchmark's, but no more than the model's context leaves after the longest prompt.

    Raises ConfigurationError if it leaves nothing, or less than is set.
    """
    option = "an answer of" if settings.max_new_tokens is None else "--max_new_tokens"
    check_room(context, longest, settings.max_new_tokens or 1, option)
    return settings.max_new_tokens or min(benchmark.max_new_tokens, context - longest)


def _fingerprint(
    settings: EvalSettings,
    benchmark: Benchmark,
    data: PreparedDataset,
    answerer: Answerer,
    sampling: Sampling,
    rewards: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What must be the same for answers of a killed run to be taken up."""
    encoder = answerer.encoder
    weights = [file for file in sorted(Path(settings.model).glob("*")) if file.is_file()]
    return {
        "version": gpg_vl.__version__,
        "model": settings.model,
        "model files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weights],
        "data": [read_manifest(Path(folder))["sha256"] for folder in data.folders],
        "rows": len(data),
        "benchmark": benchmark.name,
        "prompt": encoder.prompt.to_dict(),
        "pixels": [encoder.min_pixels, encoder.max_pixels],
        "sampling": vars(sampling),
        "samples": settings.samples,
        "seed": settings.seed,
        "engine": settings.engine,
        "rewards": rewards,
    }


def _console(state: PartialState) -> Console:
    """The terminal for the first process, silence for the others."""
    return Console(stderr=True, quiet=not state.is_main_process)
