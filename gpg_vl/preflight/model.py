"""Preflight with a model: sample answers as a step would, and time one gradient pass."""

import resource
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from scipy.stats import binom

from gpg_vl.algorithm.batch import Knobs, step_batch
from gpg_vl.algorithm.collect import Collection, Group, needed_groups
from gpg_vl.config import AlgorithmConfig, TrainConfig
from gpg_vl.preflight.cures import gib
from gpg_vl.preflight.findings import Finding, Level, Report, percent
from gpg_vl.preflight.plan import Machine
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.scoring.probes import gold_completion
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.stats import estimate, wilson
from gpg_vl.training.accelerator import build_accelerator
from gpg_vl.training.metrics import Clock, collection_metrics, collection_tokens
from gpg_vl.training.session import Session, build_session
from gpg_vl.training.train import sample_groups, update
from gpg_vl.types import Metrics, Sample

_LOW_FORMAT = 0.5
_MUCH_TRUNCATED = 0.2
_HOUR = 3600


@dataclass(frozen=True)
class Trial:
    """How many questions to ask, how often."""

    questions: int
    samples: int
    """Answers to each; at least 2."""


def check_model(report: Report, config: TrainConfig, trial: Trial, machine: Machine) -> None:
    """Ask the model, and follow the gradient once; its weights are thrown away.

    Raises as `build_session` does; memory that runs out is a finding.
    """
    rollout = replace(
        config.rollout,
        group_size=trial.samples,
        max_concurrent=max(config.rollout.max_concurrent, trial.samples),
    )
    quiet = replace(
        config,
        rollout=rollout,
        run=replace(config.run, trackers=[]),
        data=replace(config.data, workers=0),
    )
    session = build_session(quiet, build_accelerator(quiet), None)
    with closing(session.answerer.engine):
        _ask(report, config, session, trial, machine)


def _ask(report: Report, config: TrainConfig, session: Session, trial: Trial, machine: Machine) -> None:
    clock = Clock()
    try:
        session.learner.bring_weights(session.answerer.engine, config.run.phase_limit)
        syncs = session.learner.syncs()
        rows = session.learner.sampler.draw(trial.questions)
        groups = sample_groups(session, rows, 1, 0, clock)
        for group in groups:
            group.answered.check_finite()
        collection = Collection(tuple(groups), rounds=1)
        _describe(report, config, collection, trial)
        session.answerer.engine.rest()
        with clock("update"):
            figures = _gradient(session, groups)
        if not session.answerer.engine.own:
            report.add([_sampler(config, float(syncs["seconds/sync"]), figures)])
    except torch.OutOfMemoryError as error:
        report.add([Finding("memory, measured", "fail", str(error).splitlines()[0], "see the forecast")])
        return
    concurrent, tokens = session.answerer.engine.max_concurrent, session.learner.micro_batch_tokens
    if concurrent < session.config.rollout.max_concurrent:
        report.add([_short("sampling", "while answers grew", "rollout.max_concurrent", concurrent)])
    if tokens < config.run.micro_batch_tokens:
        report.add([_short("training", "in the update", "run.micro_batch_tokens", tokens)])
    seconds = clock.metrics(collection_tokens(collection)) | syncs
    _time(report, config, collection, seconds, trial, machine)
    report.add([Finding("memory, measured", "ok", _measured())])


def _short(phase: str, where: str, option: str, value: int) -> Finding:
    cure = f"set {option} to {value}: each new run would find it out again"
    return Finding(f"memory, {phase}", "warn", f"it ran out {where}", cure)


def _sampler(config: TrainConfig, seconds: float, figures: Metrics) -> Finding:
    """Whether an engine beside the trainer samples from the distribution that is trained; weights took
    `seconds`."""
    limit = config.rollout.gap_warning
    if "logprob_gap" not in figures:
        return Finding("engine", "ok", f"weights sent in {seconds:.2g} s; every answer is masked")
    gap = float(figures["logprob_gap"])
    text = (
        f"{config.rollout.engine}: prompts are equal, weights sent in {seconds:.2g} s, log-probabilities "
        f"{gap:.1e} nats from the trainer's on average"
    )
    far = 0 < limit < gap
    cure = "another precision, image size or model? see docs/rollout_engines.md" if far else ""
    return Finding("engine", "warn" if far else "ok", text, cure)


def _gradient(session: Session, groups: Sequence[Group]) -> Metrics:
    """One update with made-up rewards, so that every group has a gradient; its figures.

    In as many mini-batches as these groups are of a step's.
    """
    config, policy = session.config, session.learner.policy
    knobs = Knobs.of(config.algorithm, config.rollout.max_new_tokens)
    share = len(groups) / config.algorithm.questions_per_step
    total = tuple(float(index % 2) for index in range(config.rollout.group_size))
    made_up = [replace(group, scores=replace(group.scores, total=total)) for group in groups]
    batch, _ = step_batch(
        Collection(tuple(made_up), rounds=1),
        replace(knobs, mini_batches=max(1, round(share * knobs.mini_batches))),
        packing=config.run.packing,
        max_tokens=config.run.micro_batch_tokens,
        token_cost=policy.token_cost,
    )
    return {} if batch is None else update(session, batch, 1)  # None where every answer is masked


def _describe(report: Report, config: TrainConfig, collection: Collection, trial: Trial) -> None:
    metrics = collection_metrics(collection, alpha(collection))
    findings = [
        _pass_rate(collection),
        _valid_groups(config.algorithm, collection),
        _format(config.prompt, collection),
        _truncation(metrics, config),
    ]
    report.add([finding for finding in findings if finding], {"sampled": metrics, "samples": trial.samples})


def alpha(collection: Collection) -> float:
    """B / (B - M) of AGE; infinite where no group is valid."""
    valid = sum(group.valid for group in collection.groups)
    return len(collection.groups) / valid if valid else float("inf")


def _pass_rate(collection: Collection) -> Finding:
    scores = [(score, group.answered.sample.id) for group in collection.groups for score in _marks(group)]
    if not scores:
        return Finding("pass rate", "skip", "no correctness reward grades these answers")
    marks = [score for score, _ in scores]
    mean = sum(marks) / len(marks)
    text = f"{mean:.1%} of {len(marks)} answers"
    if min(marks) >= 0 and max(marks) <= 1:
        interval = estimate(marks, [id for _, id in scores])
        text = f"{text} (95 %: {interval.low:.1%} to {interval.high:.1%})"
    if max(marks) <= 0:
        cure = "nothing to reinforce: warm up with `gpg-vl sft`, take easier questions, or mend the reward"
        return Finding("pass rate", "warn", text, cure)
    if min(marks) == max(marks) >= 1:
        return Finding("pass rate", "warn", text, "nothing left to learn: take harder questions")
    return Finding("pass rate", "ok", text)


def _marks(group: Group) -> Sequence[float]:
    return group.scores.correctness or ()


def _valid_groups(algorithm: AlgorithmConfig, collection: Collection) -> Finding:
    valid, count = sum(group.valid for group in collection.groups), len(collection.groups)
    interval = wilson(valid, count)
    share = f"{valid} of {count} ({interval.mean:.0%}; 95 %: {interval.low:.0%} to {interval.high:.0%})"
    if not valid:
        cure = (
            "every step would be skipped: see the pass rate; a higher rollout.temperature or group_size helps"
        )
        return Finding("valid groups", "warn", f"{share}: no answer differs from its group's others", cure)
    rounds = expected_rounds(valid / count, algorithm)
    text = f"{share}: α {alpha(collection):.2f}, {rounds:.1f} rounds a step of at most {algorithm.max_rounds}"
    short = valid / count * algorithm.max_rounds < algorithm.min_valid_fraction
    cure = "algorithm.min_valid_fraction is out of reach: lower it, or raise algorithm.max_rounds"
    return Finding("valid groups", "warn" if short else "ok", text, cure if short else "")


def expected_rounds(share: float, algorithm: AlgorithmConfig) -> float:
    """Rounds that a step samples on average, where each group is valid with probability `share`."""
    questions = algorithm.questions_per_step
    needed = needed_groups(questions, algorithm.min_valid_fraction)
    again = [float(binom.cdf(needed - 1, done * questions, share)) for done in range(1, algorithm.max_rounds)]
    return 1.0 + sum(again)


@cache
def _format_scorer() -> Scorer:
    return Scorer({"format": 1.0})


def _format(prompt: Prompt, collection: Collection) -> Finding | None:
    """How many answers keep the tags; None where the prompt asks for none."""
    first = collection.groups[0].answered.sample
    if _tagged(first, [gold_completion(first, prompt)])[0] < 1:
        return None
    tagged = [
        score
        for group in collection.groups
        for score in _tagged(group.answered.sample, group.answered.completions)
    ]
    rate = sum(tagged) / len(tagged)
    cure = "warm up with `gpg-vl sft`" if rate < _LOW_FORMAT else ""
    return Finding("format", "warn" if cure else "ok", f"{percent(rate)} of answers keep the tags", cure)


def _tagged(sample: Sample, completions: Any) -> Sequence[float]:
    return _format_scorer().score(sample, completions).by_reward["format"]


def _truncation(metrics: Metrics, config: TrainConfig) -> Finding:
    share, limit = float(metrics["truncated_fraction"]), config.rollout.max_new_tokens
    text = f"{metrics['answer_tokens']:.0f} tokens on average; {percent(share)} run into {limit}"
    much = share > _MUCH_TRUNCATED
    cure = "raise rollout.max_new_tokens, or ask for less" if much else ""
    return Finding("answer lengths", "warn" if much else "ok", text, cure)


def _time(
    report: Report,
    config: TrainConfig,
    collection: Collection,
    seconds: Metrics,
    trial: Trial,
    machine: Machine,
) -> None:
    """Seconds of a step and hours of the run, in proportion to what was measured."""
    valid = sum(group.valid for group in collection.groups) / len(collection.groups)
    rounds = expected_rounds(valid, config.algorithm)
    asked = rounds * config.algorithm.questions_per_step
    scale = asked / trial.questions * config.rollout.group_size / trial.samples / machine.processes
    parts = {name: scale * float(seconds[f"seconds/{name}"]) for name in ("rollout", "rewards")}
    trained = 1.0 if config.algorithm.kl_beta > 0 else valid
    parts["update"] = scale * trained * float(seconds["seconds/update"])
    if "seconds/sync" in seconds:
        parts["sync"] = float(seconds["seconds/sync"])
    step = sum(parts.values())
    hours = step * config.run.steps / _HOUR
    words = ", ".join(f"{name} {part:.2g}" for name, part in parts.items())
    whole = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} minutes"
    device = "GPU" if torch.cuda.is_available() else "CPU"
    text = (
        f"about {step:.2g} s a step ({words}), {whole} for {config.run.steps} steps "
        f"on {machine.processes} such {device}; without evaluations and saving"
    )
    level: Level = "ok"
    report.add([Finding("time", level, text)], {"seconds_per_step": step, "hours": hours})


def _measured() -> str:
    """Peak memory of the trial."""
    if torch.cuda.is_available():
        return f"{gib(torch.cuda.max_memory_allocated())} GiB of tensors at the peak of this trial"
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"{gib(peak)} GiB of the process at the peak of this trial, libraries included"
