"""Configuration: nested frozen dataclasses.

Every field's doc line says meaning, unit and, where a value is published, its source; `--help`
prints them. Reading and writing are in `options.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpg_vl.checks import expand, require, seed_in_range, tidy
from gpg_vl.difficulty_config import Curriculum, DifficultyConfig
from gpg_vl.errors import unknown
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.rollout_config import RolloutConfig as RolloutConfig
from gpg_vl.types import Baseline, Normalize, Packing, PerReward, Ratio
from gpg_vl.weights_config import ModelConfig as ModelConfig
from gpg_vl.weights_config import OptimConfig as OptimConfig
from gpg_vl.weights_config import check_weights

Preset = Literal["gpg", "grpo", "dr_grpo", "rloo", "dapo", "gspo"]


@dataclass(frozen=True)
class DataConfig:
    """Prepared data sets (folders written by `gpg-vl prepare`)."""

    train: list[str] = field(default_factory=list)
    """Folders to train on; their rows are mixed."""
    validation: list[str] = field(default_factory=list)
    """Folders evaluated every `eval.every` steps; a part of the training source, never a benchmark."""
    max_prompt_tokens: int = 1024
    """Longer prompts (tokens, images included) are left out and counted, never cut. The paper's value."""
    shuffle: bool = True
    """A new seeded order each epoch; off keeps the rows' own, for sets that are balanced in order."""
    difficulty: DifficultyConfig = field(default_factory=DifficultyConfig)
    curriculum: Curriculum = "none"
    """Each epoch's order by recorded pass rate p: `easy_first` from high to low, `weighted` drawn without
    putting back by the expected p (1 - p): docs/data.md."""

    workers: int | None = None
    """Processes that read and encode the next questions while the device works; 0 does it in between. None is
    up to 4 beside a GPU, 0 on a CPU."""

    def __post_init__(self) -> None:
        tidy(self, "data.", paths=("train", "validation"))
        require(all([*self.train, *self.validation]), "data.train or data.validation names an empty folder")
        require(self.max_prompt_tokens > 0, "data.max_prompt_tokens must be positive")
        require(self.workers is None or self.workers >= 0, "data.workers must not be negative")
        require(
            self.shuffle or self.curriculum != "weighted",
            "data.curriculum weighted draws an order: leave data.shuffle on, or take easy_first",
        )
        require(
            not self.difficulty.record or self.by_difficulty,
            f"data.difficulty.record {self.difficulty.record!r} changes nothing by itself: set "
            "data.difficulty.min, max, exclude_unsolved or exclude_solved, or data.curriculum",
        )

    @property
    def by_difficulty(self) -> bool:
        """Whether pass rates have a say in what is trained on, or in which order."""
        return self.difficulty.chooses or self.curriculum != "none"


_GPG: dict[str, Any] = {
    "baseline": "mean",
    "std_normalize": False,
    "age": True,
    "min_valid_fraction": 0.4,
    "normalize": "group",
    "kl_beta": 0.0,
    "clip": 0.2,
    "clip_high": None,
    "ratio": "token",
    "mask_truncated": False,
}
_GRPO = _GPG | {"std_normalize": True, "age": False, "min_valid_fraction": 0.0, "normalize": "sequence"}
_DR_GRPO = _GRPO | {"std_normalize": False, "normalize": "constant"}
_DAPO = {
    "age": True,
    "min_valid_fraction": 1.0,
    "normalize": "batch",
    "clip_high": 0.28,
    "mask_truncated": True,
}
PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "gpg": _GPG,
    "grpo": _GRPO | {"kl_beta": 0.04},
    "dr_grpo": _DR_GRPO,
    "rloo": _DR_GRPO | {"baseline": "leave_one_out"},
    "dapo": _GRPO | _DAPO,
    "gspo": _GRPO | {"ratio": "sequence", "clip": 3e-4, "clip_high": 4e-4},
}
"""The knobs that presets set, all of them in each; the defaults are GPG's (GRPO: arXiv 2402.03300; Dr. GRPO:
2503.20783; RLOO: 2402.14740; DAPO: 2503.14476; GSPO: 2507.18071)."""


@dataclass(frozen=True)
class AlgorithmConfig:
    """The policy gradient's knobs. A preset sets their defaults; what is written out wins."""

    preset: Preset = "gpg"
    """`gpg`, `grpo` (std-normalised, clipped, KL), `dr_grpo` (constant divisor), `rloo` (leave-one-out),
    `dapo` (clip_high, more sampling) or `gspo` (ratio of whole answers). On the command line it wins over the
    knobs of the --config file."""
    questions_per_step: int = 16
    """B0, questions drawn per round, over all devices."""
    baseline: Baseline = "mean"
    """What a reward is compared with: the group's `mean`, or the mean of the other answers
    (`leave_one_out`, RLOO), which makes advantages G / (G - 1) times as large."""
    std_normalize: bool = False
    """Divide advantages by the group's sample standard deviation (F_norm = std); GPG: off, F_norm = 1."""
    per_reward: PerReward = "sum"
    """`sum`: the weighted rewards are added up first; `normalised`: each is divided by its own standard
    deviation in the group before, and advantages by that of the batch behind it (GDPO, which has
    std_normalize off)."""
    age: bool = True
    """Rescale by alpha = B / (B - M), that is: average over the valid groups only."""
    normalize: Normalize = "group"
    """Divisor of the token sum: tokens of the `group` (the paper), of the `batch`, of each answer
    (`sequence`), or `constant` (rollout.max_new_tokens)."""
    min_valid_fraction: float = 0.4
    """beta_th: sample further questions until this share of B0 is valid; 0 switches it off. The paper's
    value for vision."""
    max_rounds: int = 4
    """Rounds of sampling per step at most; then the step trains on what is valid."""
    kl_beta: float = 0.0
    """Weight of the KL term; above 0 a frozen reference model is loaded."""
    updates_per_rollout: int = 1
    """Passes over a rollout; above 1 the ratio to the sampling policy is clipped."""
    mini_batches: int = 1
    """Optimizer steps per pass: the groups trained on are parted into so many, each with its own mean and
    step; above 1 the ratio to the sampling policy is clipped (DAPO: 16, GSPO: 4)."""
    clip: float = 0.2
    """Clip range of the ratio; without effect at one optimizer step per rollout."""
    clip_high: float | None = None
    """Clip range above 1 where it is not `clip` (DAPO: 0.28)."""
    ratio: Ratio = "token"
    """Policy by old policy: of each `token`, or the geometric mean of the answer's (`sequence`, GSPO)."""
    importance_cap: float = 2.0
    """C: a token weighs min(pi / mu, C), the trainer's probability by the sampler's; 0 switches it off, and
    rollout.engine own needs none. Truncated importance sampling: https://fengyao.notion.site/off-policy-rl."""
    mask_truncated: bool = False
    """Leave answers that ran into rollout.max_new_tokens out of the loss."""

    @classmethod
    def of(cls, preset: Preset, **knobs: Any) -> "AlgorithmConfig":
        """A preset with its own defaults, over which `knobs` win; what the command line does."""
        return cls(**{"preset": preset, **PRESETS[preset], **knobs})

    def __post_init__(self) -> None:
        tidy(self, "algorithm.")
        require(self.questions_per_step > 0, "algorithm.questions_per_step must be positive")
        require(
            0 <= self.min_valid_fraction <= 1,
            f"algorithm.min_valid_fraction is a share from 0 to 1, got {self.min_valid_fraction}",
        )
        require(self.max_rounds > 0, "algorithm.max_rounds must be positive")
        require(self.kl_beta >= 0, "algorithm.kl_beta must not be negative")
        require(self.updates_per_rollout > 0, "algorithm.updates_per_rollout must be positive")
        require(
            0 < self.mini_batches <= self.questions_per_step,
            f"algorithm.mini_batches is 1 to algorithm.questions_per_step, got {self.mini_batches}",
        )
        require(0 < self.clip < 1, f"algorithm.clip must lie between 0 and 1, got {self.clip}")
        require(
            self.clip_high is None or self.clip_high > 0,
            f"algorithm.clip_high must be above 0, got {self.clip_high}",
        )
        require(
            self.importance_cap == 0 or self.importance_cap >= 1,
            f"algorithm.importance_cap is 0 (off) or at least 1, got {self.importance_cap}, which would cap "
            "tokens on which sampler and trainer agree",
        )
        if self.preset == "gpg":
            for name in ("updates_per_rollout", "mini_batches"):
                require(
                    getattr(self, name) == 1,
                    f"algorithm.{name} must be 1 for preset 'gpg': it has no ratio to correct "
                    "an off-policy update; choose another algorithm.preset",
                )
            require(
                self.kl_beta == 0,
                "preset 'gpg' has no KL term: for algorithm.kl_beta above 0 choose another algorithm.preset, "
                "such as grpo",
            )
            require(
                all(getattr(self, name) == _GPG[name] for name in ("ratio", "clip", "clip_high")),
                "preset 'gpg' has no ratio: for algorithm.ratio, algorithm.clip or algorithm.clip_high "
                "choose another algorithm.preset, such as grpo, dapo or gspo",
            )


@dataclass(frozen=True)
class RunConfig:
    """Length of the run, its cutting into micro-batches, and what is kept."""

    steps: int = 100
    """For `train`: rollouts, also those without a valid group, whatever optimizer steps each has. For `sft`:
    optimizer steps."""
    seed: int = 0
    """Seed of data order and of every answer's random stream."""
    micro_batch_tokens: int = 8192
    """Tokens per forward and backward pass, padding included; changes the result by rounding only."""
    packing: Packing = "auto"
    """`group`: the prompt once, all answers behind it; `none`: one row an answer; auto: the cheaper."""
    threads: int = 0
    """Torch threads on a CPU; 0 leaves torch's choice. Tiny models are fastest on 1."""
    save_every: int = 50
    """Steps between checkpoints; 0 saves at the end only."""
    keep_last: int = 2
    """Checkpoints kept; older ones are removed."""
    keep_best: bool = False
    """Keep the checkpoint that is best on data.validation too; needs eval.every. The model before training
    counts: where none is better, none is kept."""
    best_by: str = "accuracy"
    """What the best model is best by, the greatest first: a figure of the evaluations, `accuracy`, `format`,
    `reward` (the weighted sum of `rewards`) or `reward/NAME`."""
    max_nonfinite: int = 10
    """Steps in a row without a finite gradient after which the run stops; such steps change nothing."""
    phase_limit: float = 1800.0
    """Seconds after which a phase of a step (rollout, rewards, update) prints its stacks; 0: never."""
    shutdown_grace: float = 600.0
    """Seconds that `--accelerate` gives the processes to finish a step and save, once asked to stop."""
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = field(default_factory=list)
    """Trackers beside metrics.jsonl, through Accelerate."""
    log_groups: int = 0
    """Steps between tables of a few sampled groups, images included, for the trackers (`train`); 0: none."""
    profile: int = 0
    """Steps to profile, behind a first one that warms up; 0: none. `--profile` is short for 2 of them."""

    def __post_init__(self) -> None:
        tidy(self, "run.")
        seed_in_range(self.seed, "run.seed")
        require(self.steps > 0, "run.steps must be positive")
        require(self.log_groups >= 0, "run.log_groups must not be negative")
        require(
            not self.log_groups or bool(self.trackers),
            "run.log_groups sends groups to run.trackers, which names none: such as [tensorboard]",
        )
        require(self.profile >= 0, "run.profile must not be negative")
        require(
            not self.profile or self.steps > 1,
            "run.profile leaves the first step out, which warms up: set run.steps to 2 or more",
        )
        require(self.micro_batch_tokens > 0, "run.micro_batch_tokens must be positive")
        require(self.threads >= 0, "run.threads must not be negative")
        require(self.save_every >= 0, "run.save_every must not be negative")
        require(self.keep_last >= 1, "run.keep_last must be at least 1")
        require(self.max_nonfinite >= 1, "run.max_nonfinite must be at least 1")
        require(self.phase_limit >= 0, "run.phase_limit must not be negative")
        require(self.shutdown_grace >= 0, "run.shutdown_grace must not be negative")


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation on `data.validation` while training."""

    every: int = 0
    """Steps between evaluations; 0 evaluates before the first and after the last step only."""
    max_new_tokens: int = 1024
    """Longest answer in tokens. The paper's value for CV-Bench and GEOQA."""
    limit: int = 0
    """Questions per evaluation; 0 takes all."""
    rewards: bool = True
    """Score these answers by the run's own rewards too; off spares the calls of a judge that costs."""

    def __post_init__(self) -> None:
        tidy(self, "eval.")
        require(self.every >= 0, "eval.every must not be negative")
        require(self.limit >= 0, "eval.limit must not be negative")
        require(self.max_new_tokens > 0, "eval.max_new_tokens must be positive")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `gpg-vl train` uses."""

    out: str = ""
    """Run folder; must not exist, unless the run is resumed."""
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: Prompt = field(default_factory=Prompt)
    data: DataConfig = field(default_factory=DataConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    rewards: dict[str, Any] = field(default_factory=lambda: {"choice": 1.0, "format": 1.0})
    """Reward names with weights, or `{weight: …, option: …}`; or `{by_task: {task: {…}}}`."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        tidy(self, paths=("out",))
        object.__setattr__(self, "rewards", expanded_rewards(self.rewards))
        _require_inputs(self.out, self.model, self.data, self.eval)
        check_weights(self.model, self.optim)
        require(
            self.model.frozen_precision != "nf4" or self.algorithm.kl_beta == 0,
            "model.frozen_precision nf4 with algorithm.kl_beta: the reference model is not quantised",
        )
        require(bool(self.rewards), "rewards is empty: name at least one, such as `choice: 1.0`")
        _require_best(self.run, self.eval, self.rewards)


@dataclass(frozen=True)
class SftConfig:
    """Everything that `gpg-vl sft` uses."""

    out: str = ""
    """Run folder; must not exist, unless the run is resumed."""
    batch_size: int = 32
    """Rows per optimizer step, over all devices."""
    target_loss: float = 0.0
    """End before run.steps once the mean loss (nats per token) of the last 20 steps is below this."""
    reasoning: bool = True
    """Teach each row's `reasoning` as what stands before the answer, where it has one; off, and for rows
    without, the thinking is empty."""
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: Prompt = field(default_factory=Prompt)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-5))
    run: RunConfig = field(default_factory=RunConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        tidy(self, paths=("out",))
        _require_inputs(self.out, self.model, self.data, self.eval)
        check_weights(self.model, self.optim)
        require(self.batch_size > 0, "batch_size must be positive")
        require(self.target_loss >= 0, "target_loss must not be negative")
        _require_best(self.run, self.eval, {})


def expanded_rewards(rewards: Mapping[str, Any]) -> dict[str, Any]:
    """The table with `~/file.py:name` expanded, that of each task too."""
    table = {expand(name): entry for name, entry in rewards.items()}
    if isinstance(routes := table.get("by_task"), Mapping):
        table["by_task"] = {
            task: expanded_rewards(part) if isinstance(part, Mapping) else part
            for task, part in routes.items()
        }
    return table


def _require_best(run: RunConfig, evaluation: EvalConfig, rewards: Mapping[str, Any]) -> None:
    require(
        not run.keep_best or evaluation.every > 0,
        "run.keep_best goes by evaluations: set eval.every and data.validation",
    )
    routes = rewards.get("by_task")
    tables = routes.values() if isinstance(routes, Mapping) else [rewards]
    names = {name for table in tables if isinstance(table, Mapping) for name in table}
    own = ["reward", *(f"reward/{name}" for name in names)] if rewards and evaluation.rewards else []
    figures = ["accuracy", "format", *own]
    require(run.best_by in figures, unknown("run.best_by", run.best_by, figures))


def _require_inputs(out: str, model: ModelConfig, data: DataConfig, evaluation: EvalConfig) -> None:
    require(bool(out), "out is not set: name the run folder, e.g. --out runs/first")
    require(
        bool(model.path),
        "model.path is not set: a folder or a hub id, e.g. Qwen/Qwen2-VL-2B-Instruct",
    )
    require(bool(data.train), "data.train is empty: name a folder written by `gpg-vl prepare`")
    require(
        not evaluation.every or bool(data.validation),
        "eval.every is set, but data.validation names no data to evaluate on",
    )
