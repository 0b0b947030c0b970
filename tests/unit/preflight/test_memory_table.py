"""The table of docs/memory.md: models as large as published, and rows in its form."""

import pytest

from benchmarks.memory_table import MODELS, lines, plan_of, settings


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_as_many_weights_as_published(name, tmp_path):
    found = plan_of(MODELS[name], tmp_path).sizes.weights
    assert found == pytest.approx(1e9 * MODELS[name].billions, rel=0.001)


def test_a_row_for_each_way():
    head, rule, *rows = lines({"Qwen2-VL-2B": MODELS["Qwen2-VL-2B"]})
    assert head.count("|") == rule.count("|") == rows[0].count("|") == 9
    assert [row.split("|")[1].strip() for row in rows] == ["Qwen2-VL-2B", *[""] * 6]
    # full weights in bf16, with 8-bit moments, on a card of 24 GB
    assert rows[2].split("|")[5].strip() == "yes"


def test_settings_are_options_to_copy():
    rows = [*settings()]
    assert rows[2] == "| full | none |"
    assert rows[-1] == "| QLoRA | `--model.lora_rank 64` `--model.frozen_precision nf4` |"
