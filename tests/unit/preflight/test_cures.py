"""What preflight proposes for a run that does not fit, and ways to train it."""

from pathlib import Path

import pytest

from gpg_vl.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from gpg_vl.model.tiny import save_tiny
from gpg_vl.preflight import cures
from gpg_vl.preflight.cures import changes, remedies
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import GIB
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.preflight.ways import CARDS, WAYS, compare

EIGHT_BIT, HALVES = "optim.kind adamw8bit", "model.trained_precision bf16"
OFFLOAD, LORA = "optim.offload true", "model.lora_rank 64 in place of full weights"
LORA_AGAIN = "model.lora_rank 64 in place of model.trained_precision, optim.kind and optim.offload"
NF4 = "model.frozen_precision nf4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny", ["Which is nearer?"])


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cures, "find_spec", lambda name: name)


def plan(model: Path, machine: Machine, optim: OptimConfig | None = None, **options: object) -> Plan:
    config = TrainConfig(
        out="run",
        model=ModelConfig(path=str(model), **options),
        data=DataConfig(train=["data"]),
        rewards={"choice": 1.0},
        optim=optim or OptimConfig(),
    )
    sizes = model_sizes(config.model, download=False, bf16=machine.bf16(config.model.precision))
    return Plan(config, sizes, Lengths(1024, 512), machine)


def proposed(plan: Plan) -> list[str]:
    """Without those that take less at a time."""
    words = [words for words, _ in changes(plan)]
    return [one for one in words if not one.startswith(("run.", "rollout."))]


def test_remedies_stop_where_it_fits_and_pass_over_what_does_not_help():
    steps = [("a", 90.0 * GIB), ("b", 89.5 * GIB), ("c", 60.0 * GIB), ("d", 10.0 * GIB)]
    assert remedies(steps, 100 * GIB, 70 * GIB) == "a: 90.0; then c: 60.0"
    assert remedies(steps[:1], 100 * GIB, 70 * GIB).startswith("a: 90.0; then that is not enough")


def test_changes_in_the_order_of_what_they_cost(model):
    found = proposed(plan(model, Machine(card_gib=24)))
    assert found == ["model.gradient_checkpointing true", EIGHT_BIT, HALVES, OFFLOAD, LORA_AGAIN, NF4]


def test_several_cards_have_zero_in_place_of_8_bit_moments(model):
    found = proposed(plan(model, Machine(2, card_gib=24), gradient_checkpointing=True))
    stages = ["ZeRO-1 in place of optim.kind adamw8bit", "ZeRO-2", "ZeRO-3"]
    assert found == [EIGHT_BIT, HALVES, OFFLOAD, *stages, LORA]


def test_deepspeed_gets_no_8_bit_moments(model):
    found = proposed(plan(model, Machine(2, 2, card_gib=24), gradient_checkpointing=True))
    assert found == ["ZeRO-3", LORA]


def test_fp32_arithmetic_keeps_fp32_weights(model):
    found = proposed(plan(model, Machine(card_gib=24), gradient_checkpointing=True, precision="fp32"))
    assert found == [EIGHT_BIT, OFFLOAD, LORA_AGAIN]


def test_without_bitsandbytes_nothing_of_it_is_proposed(model, monkeypatch):
    monkeypatch.setattr(cures, "find_spec", lambda name: None if name == "bitsandbytes" else name)
    found = proposed(plan(model, Machine(card_gib=24), gradient_checkpointing=True))
    assert found == [OFFLOAD, LORA]


def test_ways_with_less_to_hold_take_less(model):
    full, eight_bit, halves, _, lora, seeing, qlora = compare(plan(model, Machine()))
    assert full.peak > eight_bit.peak > halves.peak
    assert seeing.peak > lora.peak > qlora.peak
    assert all(found.cards == {card: {} for card in CARDS} for found in (full, qlora))


def test_a_way_does_not_depend_on_the_configured_one(model):
    configured = {"lora_rank": 64, "frozen_precision": "nf4"}
    from_full = compare(plan(model, Machine()))
    from_adapters = compare(plan(model, Machine(card_gib=24), **configured))
    assert [found.peak for found in from_full] == [found.peak for found in from_adapters]
    assert from_full[0].settings == {"model.gradient_checkpointing": True}
    reset = {"model.frozen_precision": "auto", "model.lora_rank": 0}
    assert from_adapters[0].settings == {"model.gradient_checkpointing": True, **reset}


def test_a_way_that_is_refused_says_why(model):
    found = compare(plan(model, Machine(), freeze_vision=True))
    assert [one.way for one in found if one.refused] == ["LoRA, vision tower too"]
    under_deepspeed = compare(plan(model, Machine(2, 2)))
    assert [one.way for one in under_deepspeed if one.refused] == [way.name for way in (*WAYS[1:4], WAYS[6])]


def test_a_card_too_small_gets_less_at_a_time(model, monkeypatch):
    whole = compare(plan(model, Machine()), WAYS[:1])[0]
    between = (whole.peak + whole.least) / 2 / GIB / 0.9
    monkeypatch.setattr("gpg_vl.preflight.ways.CARDS", {"small": between, "none": whole.least / 2 / GIB})
    found = compare(plan(model, Machine()), WAYS[:1])[0]
    assert found.cards["small"] and found.cards["none"] is None
    assert found.cards["small"].keys() <= {"run.micro_batch_tokens", "rollout.max_concurrent"}
    assert found.to_dict()["cards"]["none"] == {"fits": False, "less": None}
