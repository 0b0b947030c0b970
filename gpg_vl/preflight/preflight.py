"""What would go wrong in a run, before it costs a GPU hour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpg_vl.config import ModelConfig, TrainConfig
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import ModelError
from gpg_vl.evaluation import grading
from gpg_vl.evaluation.benchmarks import protocol_of
from gpg_vl.model.adapt import check_adapters
from gpg_vl.model.families import family_of
from gpg_vl.model.loading import read_config, read_processor
from gpg_vl.model.sizes import ModelSizes
from gpg_vl.preflight.data import (
    Lengths,
    check_audit,
    check_data,
    check_gold,
    check_lengths,
    check_readable,
    check_rewards,
    choose_rows,
)
from gpg_vl.preflight.findings import UNSET, Finding, Level, Report
from gpg_vl.preflight.fits import check_memory
from gpg_vl.preflight.model import Trial, check_model
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.preflight.ways import compare
from gpg_vl.prompting.card import asking_note
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.rollout.answering import check_room
from gpg_vl.scoring.counters import counts_text, taken
from gpg_vl.training.surroundings import check_packages, check_state
from gpg_vl.types import Sample


def preflight(
    config: TrainConfig, machine: Machine, trial: Trial | None, *, resume: bool, ways: bool = False
) -> Report:
    """Run every check that is possible; one that fails leaves out only those that need it.

    Without a `trial` it does what needs no weights, and downloads nothing. `ways`: compare ways to train
    the model, as the figure "ways".
    """
    report, download = Report(), trial is not None
    attempt = report.attempt
    check_folder(report, config.out, resume=resume)
    attempt("packages", lambda: check_packages(config))
    if machine.zero:
        attempt("launch", lambda: check_state(config))
    scorer = attempt("rewards", lambda: check_rewards(report, config.rewards))
    data = attempt("data", lambda: check_data(report, config.data, scorer))
    if config.data.validation:
        attempt("validation data", lambda: check_validation(report, config))
    sizes = attempt("model", lambda: check_sizes(report, config.model, machine, download=download))
    attempt("prompt", lambda: check_asking(report, config))
    rows: list[Sample] = []
    if data is not None and scorer is not None:
        rows = attempt("data", lambda: choose_rows(data, scorer, config.run.seed)) or []
    if data is not None and scorer is not None:
        attempt("unreadable gold", lambda: check_readable(report, scorer, data))
    if rows and scorer is not None:
        attempt("gold answers", lambda: check_gold(report, scorer, rows, config.prompt))
        attempt("reward audit", lambda: check_audit(report, config.rewards, rows, config.prompt))
    encoder = attempt("model", lambda: find_encoder(report, config, download=download)) if sizes else None
    lengths = None
    if sizes and encoder and data is not None:
        lengths = attempt(
            "prompt lengths", lambda: check_lengths(report, config, data, encoder, sizes.context)
        )
    if sizes and encoder and config.data.validation:
        attempt("validation data", lambda: check_validation_room(config, encoder, sizes.context))
    if sizes:
        lengths = lengths or assumed_lengths(config, rows, sizes)
        plan = Plan(config, sizes, lengths, machine)
        attempt("memory", lambda: check_memory(report, plan))
        if ways:
            report.figures["ways"] = [found.to_dict() for found in compare(plan)]
    if trial is not None:
        _try(report, config, trial, machine)
    if counts := taken():
        report.add([Finding("rewards", "ok", counts_text(counts))], {"counts": counts})
    return report


def _try(report: Report, config: TrainConfig, trial: Trial, machine: Machine) -> None:
    if any(one.level == "fail" and one.check in ("data", "rewards", "model") for one in report.findings):
        text = "not tried: what failed above would stop it"
        report.add([Finding("sampling", "skip", text)])
    else:
        report.attempt("sampling", lambda: check_model(report, config, trial, machine))


def check_folder(report: Report, out: str, *, resume: bool) -> None:
    """Training does not write into a folder that is used."""
    folder = Path(out)
    if out == UNSET or resume or not folder.is_dir() or not any(folder.iterdir()):
        return
    cure = "choose another --out, or go on with --resume auto"
    report.add([Finding("run folder", "warn", f"{out!r} is not empty", cure)])


def check_validation(report: Report, config: TrainConfig) -> None:
    """Open the validation data; every answer type needs its reward. Raises as these do."""
    data = PreparedDataset.open(config.data.validation).head(config.eval.limit)
    types = sorted(set(data.column("answer_type")))
    grading.check_rewards(protocol_of(config.data.validation), types)
    report.add([Finding("validation data", "ok", f"{len(data)} rows of type {', '.join(types)}")])


def check_validation_room(config: TrainConfig, encoder: PromptEncoder, context: int) -> None:
    """Raise ConfigurationError for answers that do not fit the model's context, DataError without rows."""
    data = PreparedDataset.open(config.data.validation).head(config.eval.limit)
    longest = data.within(config.data.max_prompt_tokens, encoder.prompt_length).longest
    check_room(context, longest, config.eval.max_new_tokens, "eval.max_new_tokens")


def check_asking(report: Report, config: TrainConfig) -> None:
    """Whether a checkpoint is asked as it was trained. Raises ModelError for a damaged card."""
    if note := asking_note(config.model.path, config.prompt, config.model.pixels):
        level: Level = "warn" if note.startswith("warning") else "ok"
        report.add([Finding("prompt", level, note.removeprefix("warning: "))])


def check_sizes(report: Report, model: ModelConfig, machine: Machine, *, download: bool) -> ModelSizes | None:
    """Count weights from config.json; None if it is elsewhere and must not be downloaded.

    Raises ModelError or ConfigurationError for a model that cannot be trained as configured.
    """
    check_adapters(model.path, model)
    if not download and not _here(model.path):
        text = f"{model.path!r} is not on this machine: no memory forecast, no prompt lengths"
        report.add([Finding("model", "skip", text)])
        return None
    sizes = model_sizes(model, download=download, bf16=machine.bf16(model.precision))
    text = f"{sizes.weights:,} weights, {sizes.trained:,} of them trained"
    figures = {"weights": sizes.weights, "trained_weights": sizes.trained}
    report.add([Finding("model", "ok", text)], figures)
    return sizes


def _here(path: str) -> bool:
    """Whether there is such a folder, or a hub model fetched before."""
    try:
        read_config(path, download=False)
    except ModelError:
        return Path(path).is_dir()  # one that is no model is a mistake, and told as such
    return True


def find_encoder(report: Report, config: TrainConfig, *, download: bool) -> PromptEncoder | None:
    """The encoder of prompts; None if the processor is elsewhere and must not be downloaded."""
    path, model = config.model.path, config.model
    family = family_of(path, read_config(path, download=download))
    try:
        processor = read_processor(path, family, download=download)
    except ModelError:
        if download:
            raise
        text = f"{path!r} has no processor on this machine"
        report.add([Finding("prompt lengths", "skip", text)])
        return None
    return PromptEncoder(processor, config.prompt, family=family, **model.pixels)


def assumed_lengths(config: TrainConfig, rows: Sequence[Sample], sizes: ModelSizes) -> Lengths:
    """The longest prompt that the configuration allows, with images of the largest size."""
    images = max((len(sample.images) for sample in rows), default=1)
    tokens = config.data.max_prompt_tokens
    if not sizes.token_pixels:
        return Lengths(tokens, tokens if sizes.vision and images else 0)
    return Lengths(tokens, min(tokens, images * config.model.max_pixels // sizes.token_pixels))


def report_dict(report: Report, config: TrainConfig) -> dict[str, Any]:
    """The report with what was asked, for a JSON file."""
    return {"model": config.model.path, "data": list(config.data.train), **report.to_dict()}
