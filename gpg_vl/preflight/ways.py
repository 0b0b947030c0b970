"""Ways to train a model, from full fp32 weights to adapters on a base in 4 bits, and cards that they fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpg_vl.config import ModelConfig
from gpg_vl.errors import UserError
from gpg_vl.preflight.cures import LORA_RANK
from gpg_vl.preflight.memory import GIB
from gpg_vl.preflight.plan import ROOM, Plan

CARDS = {"24 GB": 23.6, "40 GB": 39.4, "80 GB": 79.1, "141 GB": 139.8}
"""GiB that torch sees of an RTX 4090, an A100, an H100 and an H200: a little less than their names say."""

_NEUTRAL: Mapping[str, Any] = {"frozen_precision": "auto", "trained_precision": "fp32"}
_NO_ADAPTERS: Mapping[str, Any] = {
    "lora_rank": 0,
    "lora_alpha": 0,
    "lora_rslora": False,
    "lora_vision": False,
    "lora_targets": [],
}
_LORA: Mapping[str, Any] = {"lora_rank": LORA_RANK}
_EIGHT_BIT: Mapping[str, Any] = {"kind": "adamw8bit"}
_HALVES: Mapping[str, Any] = {"trained_precision": "bf16"}


@dataclass(frozen=True)
class Way:
    """How weights are held, and what updates them; gradient checkpointing is on in each."""

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    optim: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, plan: Plan) -> dict[str, Any]:
        """Options by name, to copy: those that make the way, and those that are configured otherwise."""
        sections = {
            "model": (plan.config.model, self._model(plan.config.model), self.model),
            "optim": (plan.config.optim, self._optim, self.optim),
        }
        return {
            f"{section}.{name}": value
            for section, (configured, values, own) in sections.items()
            for name, value in values.items()
            if name in (*own, "gradient_checkpointing") or getattr(configured, name) != value
        }

    def _model(self, config: ModelConfig) -> dict[str, Any]:
        """Adapters stay as configured where some are, but for those of the vision tower."""
        values = {"gradient_checkpointing": True, **_NEUTRAL, **_NO_ADAPTERS, **self.model}
        if "lora_rank" in self.model and config.lora_rank:
            values |= {name: getattr(config, name) for name in _NO_ADAPTERS if name != "lora_vision"}
        return values

    @property
    def _optim(self) -> dict[str, Any]:
        return {"kind": "adamw", "offload": False, **self.optim}

    def applied(self, plan: Plan) -> Plan:
        """The plan in this way, whatever way it was before.

        Raises ConfigurationError where the configuration or its machine does not allow that.
        """
        model = replace(plan.config.model, **self._model(plan.config.model))
        optim = replace(plan.config.optim, **self._optim)
        return replace(plan, config=replace(plan.config, model=model, optim=optim)).resized()


WAYS = (
    Way("full"),
    Way("full, 8-bit moments", optim=_EIGHT_BIT),
    Way("full, bf16 weights, 8-bit moments", _HALVES, _EIGHT_BIT),
    Way("full, bf16 weights, 8-bit moments offloaded", _HALVES, {**_EIGHT_BIT, "offload": True}),
    Way("LoRA", _LORA),
    Way("LoRA, vision tower too", {**_LORA, "lora_vision": True}),
    Way("QLoRA", {**_LORA, "frozen_precision": "nf4"}),
)
"""In the order of what they change in training: least first."""


@dataclass(frozen=True)
class Found:
    """What one way takes."""

    way: str
    settings: Mapping[str, Any]
    peak: float = 0.0
    """Bytes, with the configured numbers of tokens and answers at a time."""
    least: float = 0.0
    """Bytes, with as few at a time as there can be."""
    cards: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """By card, what has to be smaller for it to fit; None where nothing is small enough."""
    refused: str = ""
    """Why this way is not possible here."""

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        words = {"way": self.way, "settings": dict(self.settings)}
        if self.refused:
            return {**words, "refused": self.refused}
        cards = {name: {"fits": less is not None, "less": less} for name, less in self.cards.items()}
        return {**words, "peak": self.peak, "least": self.least, "cards": cards}


def compare(plan: Plan, ways: Sequence[Way] = WAYS) -> list[Found]:
    """What each way takes, on one card of the plan's machine; a text model has no vision tower to adapt."""
    return [_found(way, plan) for way in ways if plan.sizes.vision or not way.model.get("lora_vision")]


def _found(way: Way, plan: Plan) -> Found:
    settings = way.settings(plan)
    own = {"trained_precision", "frozen_precision"} & way.model.keys()
    if plan.machine.zero and (way.optim or own):
        return Found(way.name, settings, refused="DeepSpeed holds moments and weights in its own way")
    # The numbers of a GPU, whatever machine asks
    machine = replace(plan.machine, card_gib=max(CARDS.values()))
    try:
        plan = way.applied(replace(plan, machine=machine))
    except UserError as error:
        return Found(way.name, settings, refused=str(error))
    smaller = list(_smaller(plan))
    peaks = [one.forecast()[0].peak for one in smaller]
    cards = {
        name: next((_less(one, plan) for one, peak in zip(smaller, peaks, strict=True) if peak <= room), None)
        for name, room in ((name, ROOM * GIB * size) for name, size in CARDS.items())
    }
    return Found(way.name, settings, peaks[0], min(peaks), cards)


def _smaller(plan: Plan) -> Iterator[Plan]:
    """The plan, then with half as much in its fullest phase, and so on to one answer or one group."""
    least = plan.lengths.prompt + plan.config.rollout.max_new_tokens
    while True:
        yield plan
        tokens, answers = plan.config.run.micro_batch_tokens // 2, plan.config.rollout.max_concurrent // 2
        phase = plan.forecast()[0].fullest
        if phase == "update" and tokens >= least:
            plan = plan.with_section("run", micro_batch_tokens=tokens)
        elif phase == "rollout" and answers >= plan.config.rollout.group_size:
            plan = plan.with_section("rollout", max_concurrent=answers)
        else:
            return


def _less(plan: Plan, configured: Plan) -> dict[str, Any]:
    """The numbers that are smaller than configured, by the names of their options."""
    pairs = {
        "run.micro_batch_tokens": (plan.config.run.micro_batch_tokens, configured.config.run),
        "rollout.max_concurrent": (plan.config.rollout.max_concurrent, configured.config.rollout),
    }
    return {
        name: value for name, (value, of) in pairs.items() if value != getattr(of, name.partition(".")[2])
    }
