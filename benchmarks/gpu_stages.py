"""The stages of `benchmarks.gpu_session`, each run in a process of its own by that module.

A stage yields figures, and every dictionary is a line of the session's file as soon as it is there: what a
time limit cuts off later does not take it away.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoProcessor

from benchmarks import decode_rate, full_size, gpu_probes, gradient_rate, inputs, naive, ours
from benchmarks.kernels import Spent, activity
from benchmarks.limits import copy_bandwidth, matmul_rate, synchronize, timed
from benchmarks.machine import machine
from benchmarks.scales import FULL, SMALL, Scale
from benchmarks.stage_process import Figures
from gpg_vl.cli.main import main as gpg_vl
from gpg_vl.config import ModelConfig
from gpg_vl.environment import environment
from gpg_vl.model.adapt import choose_weights
from gpg_vl.model.compiling import compile_layers
from gpg_vl.model.holding import Holding
from gpg_vl.model.loading import load_policy
from gpg_vl.model.policy import Policy
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import forecast
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.prompting.encode import EncodedPrompt
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout.answering import build_encoder
from gpg_vl.rollout.decoding import DecodeOptions
from gpg_vl.rollout.own import decode_options
from gpg_vl.training.session import Session
from gpg_vl.training.train import train_step
from tests.support.tensor_memory import peak_on_cpu, peak_on_gpu

_LARGEST_TRACE = 16
"""MiB of a compressed trace that is kept."""


@dataclass(frozen=True)
class Place:
    """Where and on what a stage works."""

    device: torch.device
    scale: Scale
    small: bool
    processor: str
    """Hub id or folder."""
    work: Path
    """Scratch folder of the session: the model is written there once."""
    trace: Path
    """File of the trace."""

    @property
    def model(self) -> Path:
        return self.work / "model"

    @property
    def dtype(self) -> torch.dtype:
        """Of the arithmetic that `precision: auto` takes there."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def policy(self, attention: Literal["sdpa", "flex"] = "sdpa") -> tuple[Policy, list[EncodedPrompt]]:
        """The model, and the questions that it is asked."""
        policy = load_policy(str(self.model), attention=attention, device=self.device, holding=Holding())
        policy.suppress(inputs.suppressed_tokens(policy.processor, policy.model))
        prompts = build_encoder(policy, Prompt(), ModelConfig()).encode(inputs.samples(self.scale.workload))
        return policy, prompts


def place(device: str, small: bool, processor: str, work: Path, out: Path) -> Place:
    """For the session's options; `out` is its file, and the trace goes beside it."""
    scale = SMALL if small else FULL
    trace = out.with_name(f"{out.stem}_trace.json.gz")
    return Place(torch.device(device), scale, small, processor, work, trace)


def check(place: Place, needs_model: bool) -> Iterator[Figures]:
    """Exit with one line where the GPU is missing, or a processor that is needed; no figures."""
    if place.device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here: use --device cpu --small")
    if needs_model:
        try:
            AutoProcessor.from_pretrained(place.processor)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SystemExit(f"--processor {place.processor} is none that can be loaded: {reason}") from None
    yield from ()


def probe(place: Place) -> Iterator[Figures]:
    """Versions, what the card moves and multiplies at most, and what attention costs at new lengths."""
    yield {"machine": machine(), "environment": environment()}
    yield limits(place)
    for figures in gpu_probes.attention(place.device, small=place.small):
        yield {"attention": figures}


def limits(place: Place) -> Figures:
    """Bytes copied and FLOPs multiplied a second at most."""
    return {
        "copy bytes/s": copy_bandwidth(place.device, place.scale.copy),
        "matmul FLOP/s": matmul_rate(place.device, place.dtype, place.scale.side),
    }


def tests(place: Place) -> Iterator[Figures]:
    """Answers and training on the card beside the CPU's."""
    yield _run_tests("not memory_forecast")


def memory_tests(place: Place) -> Iterator[Figures]:
    """Peaks of memory beside their forecast."""
    yield _run_tests("memory_forecast")


def _run_tests(chosen: str) -> Figures:
    from benchmarks.gpu_tests import run_tests  # pytest may be missing, where nothing else needs it

    return run_tests(chosen)


def model(place: Place) -> Iterator[Figures]:
    """The model, made on the device and written; then loaded onto it."""

    processor = AutoProcessor.from_pretrained(place.processor)

    def write() -> None:
        if place.small:
            size = replace(place.scale.workload.model, vocabulary=len(processor.tokenizer))
            inputs.write_model(size, place.model, Path(place.processor))
        else:
            full_size.write_model(place.model, processor, place.device)

    yield {"write s": timed(write, place.device)}
    yield {"load s": timed(lambda: load_policy(str(place.model), device=place.device), place.device)}


def decode(place: Place) -> Iterator[Figures]:
    """Tokens a second of rollouts, beside the floor; and the share of the time that kernels take."""
    policy, prompts = place.policy()
    first, *others = place.scale.rows
    yield from _rates(place, policy, prompts, [first], _ways(place.device, every=True))
    yield from _rates(place, policy, prompts, others, _ways(place.device))


def decode_more(place: Place) -> Iterator[Figures]:
    """The same with other numbers of rows."""
    policy, prompts = place.policy()
    yield from _rates(place, policy, prompts, place.scale.more_rows, _ways(place.device))


def _ways(device: torch.device, *, every: bool = False) -> dict[str, DecodeOptions]:
    """Ways to decode: the device's own beside the plain one, or all of them; a CPU has one."""
    if device.type == "cpu":
        return {"plain": decode_options(device)}
    return {
        ", ".join([*["graphs"] * graphs, *["fused attention"] * fused]) or "plain": decode_options(
            device, graphs=graphs, fused=fused
        )
        for graphs, fused in product((False, True), repeat=2)
        if every or graphs == fused
    }


def _rates(
    place: Place,
    policy: Policy,
    prompts: list[EncodedPrompt],
    rows: Sequence[int],
    ways: Mapping[str, DecodeOptions],
) -> Iterator[Figures]:
    bandwidth = copy_bandwidth(place.device, place.scale.copy)
    sizes = model_sizes(ModelConfig(path=str(place.model)), download=False)
    longest = max(prompt.length for prompt in prompts)
    for count, (path, options) in product(rows, ways.items()):
        rate = decode_rate.ours(policy, prompts, place.scale, count, 2, options)
        floor = decode_rate.floor(
            sizes, longest, place.scale, count, bandwidth, policy.compute_dtype.itemsize
        )
        figures = {"tokens/s": rate, "ms a token": 1e3 * count / rate, "floor": floor, "share": rate / floor}
        yield {"rows": count, "path": path} | figures
        kernels = decode_rate.kernels(policy, prompts, place.scale, count, options)
        yield {"rows": count, "path": path} | kernels


def generate(place: Place) -> Iterator[Figures]:
    """Tokens a second of transformers' `generate` in the rollouts' place."""
    loaded, processor = naive.load(place.model, place.dtype)
    loaded.to(place.device).eval()
    for count in place.scale.rows:
        fits, tokens = decode_rate.largest_that_fits(
            lambda rows: decode_rate.plain(loaded, processor, place.scale, rows, repeats=1),
            count,
            place.scale.workload.group_size,
        )
        yield {"rows": count, "generate rows": fits, "generate tokens/s": tokens}


def lora(place: Place) -> Iterator[Figures]:
    """Rollouts with adapters beside frozen weights."""
    policy, prompts = place.policy()
    choose_weights(policy, ModelConfig(path=str(place.model), lora_rank=16))
    policy.to(place.device)
    yield from _rates(place, policy, prompts, place.scale.rows[:1], _ways(place.device))


def gradient(place: Place) -> Iterator[Figures]:
    """The gradient pass over one micro-batch, beside what matrix products reach."""
    policy, prompts = place.policy()
    yield _gradient(place, policy, prompts)


def flex(place: Place) -> Iterator[Figures]:
    """The same with `model.attention` flex."""
    if place.device.type == "cpu":
        yield {"skipped": "torch trains with it on a GPU only"}
        return
    policy, prompts = place.policy("flex")
    yield _gradient(place, policy, prompts)


def compiled(place: Place) -> Iterator[Figures]:
    """The same with `model.compile`."""
    policy, prompts = place.policy()
    compile_layers(policy.text_model, policy.vision_tower, policy.device)
    yield _gradient(place, policy, prompts)


def _gradient(place: Place, policy: Policy, prompts: list[EncodedPrompt]) -> Figures:
    sizes = model_sizes(ModelConfig(path=str(place.model)), download=False)
    rows = gradient_rate.fullest_micro_batch(policy, prompts, place.scale.workload, ours.MICRO_BATCH)
    peak = limits(place)["matmul FLOP/s"]
    return gradient_rate.measure(policy, rows, sizes, peak, repeats=3)


def memory(place: Place) -> Iterator[Figures]:
    """The peak of two steps beside its forecast; then the seconds of a third."""
    sessions: list[Session] = []

    def two_steps() -> None:
        sessions.append(ours.build(place.scale.workload, place.model, place.work / "data"))
        for step in (1, 2):
            train_step(sessions[0], step)

    measured = (peak_on_gpu if place.device.type == "cuda" else peak_on_cpu)(two_steps)
    [session] = sessions
    expected = _forecast(session, place.scale)
    yield {"measured": measured, "forecast": expected, "ratio": expected / measured}
    metrics = train_step(session, 3)[2]
    yield {"step": {name: value for name, value in metrics.items() if isinstance(value, int | float)}}


def _forecast(session: Session, scale: Scale) -> float:
    """Bytes at the peak."""
    encoder, data, card = session.learner.encoder, session.learner.data, Machine()
    samples = [data[row] for row in range(len(data))]
    lengths = Lengths(max(map(encoder.prompt_length, samples)), max(map(encoder.image_tokens, samples)))
    plan = Plan(session.config, model_sizes(session.config.model, download=False), lengths, card)
    return forecast(plan.sizes, plan.load(scale.workload.new_tokens), card.cards).peak


def quickstart(place: Place) -> Iterator[Figures]:
    """The tour, shortened: does it learn there, and how fast."""
    out = place.work / "quickstart"
    if place.small:
        lengths = {"warm_start_steps": 5, "steps": 2, "train_rows": 160, "held_out_rows": 16}
    else:
        lengths = {"warm_start_steps": 250, "steps": 20, "train_rows": 3000, "held_out_rows": 192}
    start = time.perf_counter()
    words = [word for name, value in lengths.items() for word in (f"--{name}", str(value))]
    gpg_vl(["quickstart", "--out", str(out), *words])
    seconds = time.perf_counter() - start
    summary = json.loads((out / "summary.json").read_text())
    yield {"seconds": seconds, "phases": summary["seconds"]}
    yield {name: summary[name]["total"]["accuracy"]["mean"] for name in ("base", "trained")}
    losses = [step["loss"] for step in _steps(out / "warmstart")]
    yield {"first loss": losses[0], "last loss": losses[-1]}
    yield {"largest gap": max(step["logprob_gap"] for step in _steps(out / "gpg"))}


def _steps(run: Path) -> list[Figures]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def trace(place: Place) -> Iterator[Figures]:
    """Where the time of a step with short answers goes, by torch's profiler: sums, and a file to look at."""
    workload = replace(place.scale.workload, new_tokens=8)  # longer ones make files too large to pass on
    session = ours.build(workload, place.model, place.work / "trace_data")
    train_step(session, 1)
    kind = place.device.type
    plain = timed(lambda: train_step(session, 2), place.device)
    with profile(activities=list({ProfilerActivity.CPU, activity(kind)})) as prof:
        train_step(session, 3)
        synchronize(place.device)
    spent = Spent(prof.events(), kind)
    largest = {name: {"calls": spent.calls[name], "ms": ms} for name, ms in spent.ms.most_common(30)}
    yield {"step s": plain, "kernels": spent.calls.total(), "kernel s": spent.ms.total() / 1e3}
    yield {"largest": largest}
    prof.export_chrome_trace(str(place.trace))
    size = place.trace.stat().st_size / 2**20
    if size > _LARGEST_TRACE:
        place.trace.unlink()
        yield {"trace": f"left out: {size:.0f} MiB"}
    else:
        yield {"trace": place.trace.name, "MiB": size}
