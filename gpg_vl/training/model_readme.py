"""The model card of a checkpoint: how well it does, how to ask it, and how it was trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpg_vl.config import PRESETS, Preset, RolloutConfig, SftConfig, TrainConfig
from gpg_vl.data.manifest import read_manifest
from gpg_vl.environment import environment
from gpg_vl.evaluation.figures import in_words
from gpg_vl.evaluation.own_rewards import reward_names, reward_title
from gpg_vl.prompting.card import CARD, base_on_hub, readme
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.registry import SESSION
from gpg_vl.runs.command_line import command_line, portable
from gpg_vl.runs.files import Evaluation
from gpg_vl.tables import markdown_table, short_number
from gpg_vl.training.snippet import snippet
from gpg_vl.types import Metrics, Sample

_ALGORITHMS: Mapping[Preset, tuple[str, str]] = {
    "gpg": ("Group Policy Gradient (GPG)", "2504.02546"),
    "grpo": ("Group Relative Policy Optimization (GRPO)", "2402.03300"),
    "dr_grpo": ("Dr. GRPO", "2503.20783"),
    "rloo": ("REINFORCE Leave-One-Out (RLOO)", "2402.14740"),
    "dapo": ("DAPO", "2503.14476"),
    "gspo": ("Group Sequence Policy Optimization (GSPO)", "2507.18071"),
}
"""Names and arXiv numbers of their papers."""
_FIGURES = {
    "reward/mean": "mean reward of sampled answers",
    "accuracy": "accuracy of sampled answers",
    "groups/valid_fraction": "groups with a gradient",
    "answer_tokens": "tokens per answer",
    "entropy": "entropy (nats)",
    "loss": "loss (nats per token)",
}
"""Of a step's metrics, those that say how a model does; the loss is that of supervised training alone."""
_VERSIONS = ("gpg-vl", "torch", "transformers", "accelerate", "peft", "deepspeed")


@dataclass(frozen=True)
class Trained:
    """What is known of a model when it is saved."""

    config: TrainConfig | SftConfig
    step: int
    metrics: Metrics
    """Of that step; empty where they are not there."""
    evaluation: Evaluation | None
    """The last one so far."""
    encoder: PromptEncoder
    like: Sample
    """A question of the training data."""
    processes: int = 1


def model_readme(trained: Trained) -> str:
    """The text of `README.md`. No absolute path stands in it: what lay there goes by its last name."""
    config = trained.config
    title = f"# {Path(config.out).name}, step {trained.step}"
    body = "\n\n".join([title, _summary(config, trained.step), *_sections(trained)])
    return readme(front_matter(config, takes_images=trained.encoder.takes_images), f"{body}\n")


def front_matter(config: TrainConfig | SftConfig, *, takes_images: bool) -> dict[str, Any]:
    """What the hub reads: the base model by its name there, library, task, data sets and tags."""
    lora, base = config.model.lora_rank > 0, base_on_hub(config.model.path)
    relation = {"base_model_relation": "adapter" if lora else "finetune"}
    sources = [str(manifest["source"]) for manifest in _manifests(config)]
    datasets = list(dict.fromkeys(name for name in map(base_on_hub, sources) if name))
    method = ["sft"] if isinstance(config, SftConfig) else [config.algorithm.preset, "reinforcement-learning"]
    return {
        **({"base_model": base, **relation} if base else {}),
        "library_name": "peft" if lora else "transformers",
        "pipeline_tag": "image-text-to-text" if takes_images else "text-generation",
        **({"datasets": datasets} if datasets else {}),
        "tags": ["gpg-vl", *method],
    }


def _manifests(config: TrainConfig | SftConfig) -> list[Mapping[str, Any]]:
    return [read_manifest(Path(folder)) for folder in config.data.train]


def _summary(config: TrainConfig | SftConfig, step: int) -> str:
    weights = (
        f"LoRA adapters of rank {config.model.lora_rank} for" if config.model.lora_rank else "Trained from"
    )
    base = base_on_hub(config.model.path) or portable(config.model.path)
    return f"{weights} `{base}` by gpg-vl with {_method(config)}: step {step} of {config.run.steps}."


def _method(config: TrainConfig | SftConfig) -> str:
    if isinstance(config, SftConfig):
        return "supervised fine-tuning on gold answers"
    name, paper = _ALGORITHMS[config.algorithm.preset]
    return f"{name}, [arXiv {paper}](https://arxiv.org/abs/{paper})"


def _sections(trained: Trained) -> Iterator[str]:
    config = trained.config
    yield f"## How well it does\n\n{_results(trained)}"
    yield f"## How to ask it\n\n{_asking(trained)}"
    yield f"## What it was trained with\n\n{_inputs(config)}"
    yield f"## How to train it again\n\n```bash\n{command_line(config)}\n```{_in_session(config)}"
    yield f"## Versions\n\n{_versions(trained.processes)}"


def _in_session(config: TrainConfig | SftConfig) -> str:
    """What the command wants first where rewards were functions that no file holds."""
    text = yaml.safe_dump(dict(config.rewards)) if isinstance(config, TrainConfig) else ""
    if f"{SESSION}:" not in text:
        return ""
    return (
        f"\n\nRewards called `{SESSION}:NAME` were functions of a Python session: put them into a file "
        "first, and name them `file.py:NAME`."
    )


def _versions(processes: int) -> str:
    made = environment()
    packages = [f"{name} {made['packages'][name]}" for name in _VERSIONS if name in made["packages"]]
    device = made["gpus"][0] if made["gpus"] else "CPU"
    return f"{', '.join(packages)}; {processes} × {device}"


def _results(trained: Trained) -> str:
    sampled = isinstance(trained.config, TrainConfig)
    rows = [
        (words, short_number(trained.metrics[name]))
        for name, words in _FIGURES.items()
        if name in trained.metrics and not (sampled and name == "loss")
    ]
    parts = [markdown_table((f"training, step {trained.step}", ""), rows)] if rows else []
    if trained.evaluation is not None:
        parts += [_evaluated(trained.evaluation)]
    return "\n\n".join(parts) or "Not measured."


def _evaluated(evaluation: Evaluation) -> str:
    """Greedy accuracy, in all and by task, with 95 % intervals."""
    tables = {**evaluation["tasks"], "total": evaluation["totals"]}
    rows = [
        (task, f"{score['mean']:.1%}", f"{score['low']:.1%} to {score['high']:.1%}", str(score["count"]))
        for task, score in ((task, table["accuracy"]) for task, table in tables.items())
    ]
    data = ", ".join(f"`{portable(str(folder))}`" for folder in evaluation["data"])
    table = markdown_table(("validation", "accuracy", "95 %", "questions"), rows)
    words = in_words(evaluation)
    for name in map(reward_title, reward_names(evaluation["totals"])):
        words = words.replace(name, portable(name))
    return f"Greedy answers of step {evaluation['step']} on {data}: {words}.\n\n{table}"


def _asking(trained: Trained) -> str:
    config, encoder, like = trained.config, trained.encoder, trained.like
    if isinstance(config, TrainConfig):
        stop, longest = config.rollout.stop, config.rollout.max_new_tokens
    else:
        stop, longest = RolloutConfig().stop, config.eval.max_new_tokens
    program = snippet(encoder, like, max_new_tokens=longest, stop=stop)
    boxes = f" Boxes in its answers are {_BOXES[encoder.box_space]}." if like.answer_type == "boxes" else ""
    return (
        f"With the prompt that it was trained with. `gpg-vl eval` and `gpg-vl demo` do so by themselves: "
        f"`{CARD}` tells them.{boxes}\n\n```python\n{program}\n```"
    )


_BOXES = {
    "grid": "in thousandths of the image's width and height",
    "image": "in pixels of the image",
    "resized": "in pixels of the image as the model sees it",
}


def _inputs(config: TrainConfig | SftConfig) -> str:
    rows = [
        (
            Path(folder).name,
            f"{manifest['rows']:,}",
            " ".join(filter(None, [str(manifest["converter"]), str(portable(manifest["source"]))])),
            str(manifest["sha256"])[:16],
        )
        for folder, manifest in zip(config.data.train, _manifests(config), strict=True)
    ]
    data = markdown_table(("data", "rows", "converter and source", "sha256"), rows)
    if isinstance(config, SftConfig):
        return f"{data}\n\n{config.batch_size} rows a step; {_optimizer(config)}."
    rewards = yaml.safe_dump(portable(config.rewards), sort_keys=False, allow_unicode=True).rstrip()
    algorithm, sampled = config.algorithm, config.rollout
    knobs = ", ".join(f"{name} {str(getattr(algorithm, name)).lower()}" for name in PRESETS[algorithm.preset])
    return (
        f"{data}\n\n{algorithm.questions_per_step} questions a step, with {sampled.group_size} answers each "
        f"at temperature {sampled.temperature:g}; {_optimizer(config)}; {knobs}. "
        f"Rewards:\n\n```yaml\n{rewards}\n```"
    )


def _optimizer(config: TrainConfig | SftConfig) -> str:
    return f"{config.optim.kind} at {config.optim.learning_rate:g}"
