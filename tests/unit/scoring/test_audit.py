"""The audit: rewards that can be fooled fail it by the trick that fools them, the built-in ones pass."""

import time
from importlib.resources import files
from pathlib import Path

import pytest

from gpg_vl.config import TrainConfig
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.options import load_config
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.registry import rewards
from gpg_vl.scoring import asking
from gpg_vl.scoring.audit import GOLD, audit_reward, audit_table
from gpg_vl.scoring.audit_samples import built_in_samples, prepared_samples
from gpg_vl.scoring.audit_text import audit_text
from gpg_vl.scoring.probes import gold_completion, probes
from gpg_vl.types import Sample

INSTRUCT = Prompt()
BASE = Prompt("base")
ANNOUNCED = sorted(set(rewards.announced()) - {"judge"})
"""The judge is audited with a server: tests/integration/test_judge.py."""
_CONFIGS = Path(str(files("gpg_vl.configs").joinpath("grpo_baseline.yaml"))).parent
RECIPES = sorted(
    str(file.relative_to(_CONFIGS))
    for file in (*_CONFIGS.glob("*.yaml"), *_CONFIGS.glob("math/*.yaml"))
    if "\nrewards:" in file.read_text()
)

FOOLED = Path(__file__).parents[2] / "support" / "fooled_rewards.py"


def failed(audit):
    return {finding.outcome.probe for finding in audit.problems}


@pytest.mark.parametrize("prompt", [INSTRUCT, BASE], ids=["instruct", "base"])
@pytest.mark.parametrize("name", ANNOUNCED)
def test_every_built_in_reward_passes(name, prompt):
    samples = built_in_samples()
    if rewards.get(name).deadline:  # each answer goes to a worker and back
        samples = [sample for sample in samples if sample.answer_type == "math"]
    audit = audit_reward(name, {}, samples, prompt, own_data=False)
    assert not audit.problems, audit_text(audit)
    assert audit.kind == rewards.get(name).kind
    assert audit.graded > 0 and len(audit.findings) > 20 and audit.findings[0].outcome.probe == GOLD


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ANNOUNCED if rewards.get(name).deadline])
def test_rewards_in_workers_pass_on_every_sample(name):
    audit = audit_reward(name, {}, built_in_samples(), INSTRUCT, own_data=False)
    assert not audit.problems, audit_text(audit)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_passes(name):
    inputs = ("--out", "x", "--model.path", "x", "--data.train", "x")
    config = load_config(TrainConfig, [*inputs, "--config", str(_CONFIGS / name)])
    types = {"giou": "boxes", "length": "math"} | {name: name for name in ("choice", "math", "label")}
    meant = {types[name] for name in config.rewards if name in types}
    samples = [sample for sample in built_in_samples() if sample.answer_type in meant]
    for audit in audit_table(config.rewards, samples, config.prompt):
        assert not audit.problems, audit_text(audit)


@pytest.mark.parametrize(
    ("name", "tricks"),
    [
        ("in_text", {"answer only in <think>", "gold answer without tags", "<answer> not closed"}),
        (
            "in_answer",
            {"all letters listed", "gold answer plus a wrong one", "wrong answer plus the gold one"},
        ),
        ("part_of_gold", {"empty text", "empty answer", "a part of the gold answer"}),
        ("any_digits", {"wrong answer", "wrong answer in Arabic-Indic digits"}),
        ("without_tags", {"gold answer in two pairs of tags", "wrong, then gold answer in tags"}),
        ("covered", {"ten boxes over the whole image", "gold boxes plus nine others"}),
        (
            "any_number",
            {
                *("gold answer as a bound", "gold answer as a bound in symbols", "gold answer or more"),
                *("gold answer denied", "gold answer called wrong", "unit-like text behind the gold answer"),
                *(
                    "an unknown behind the gold answer",
                    "gold answer plus an unknown",
                    "gold answer in a word",
                ),
            },
        ),
        (
            "any_letter",
            {"gold letter in an abbreviation", "gold letter as a stray one", "gold letter denied"},
        ),
        ("any_no", {"no as a determiner", "refusal in a sentence"}),
        ("not_other", {"gold answer denied"}),
    ],
)
def test_a_reward_that_can_be_fooled_fails(name, tricks):
    audit = audit_reward(f"{FOOLED}:{name}", {}, built_in_samples(), INSTRUCT)
    assert tricks <= failed(audit)
    assert GOLD not in failed(audit) and len(failed(audit)) < len(audit.findings) - 1
    finding = next(one for one in audit.problems if one.outcome.probe in tricks)
    assert finding.problem == "scores as high as the gold answer"
    assert finding.outcome.total >= finding.gold.total > 0
    assert "failed: " in audit_text(audit)


def test_a_reward_that_is_always_0_fails_every_probe():
    audit = audit_reward(f"{FOOLED}:always_zero", {}, built_in_samples(), INSTRUCT)
    assert failed(audit) == {finding.outcome.probe for finding in audit.findings} - {GOLD}
    assert "note: the gold answers of 19 of 19 samples score no more than any trick" in audit_text(audit)


def test_answer_types_that_a_reward_is_not_meant_for():
    """Exact match knows nothing of boxes, whose gold answer is written in another form than the text."""
    audit = audit_reward(f"{FOOLED}:exact", {}, built_in_samples(), INSTRUCT, own_data=False)
    assert audit.left_out == ("boxes",) and not audit.problems and not audit.notes
    assert "no gold answer of type boxes scores higher than anything" in audit_text(audit)
    strict = audit_reward(f"{FOOLED}:exact", {}, built_in_samples(), INSTRUCT)
    assert strict.left_out == () and "wrong answer" in failed(strict)
    hopeless = audit_reward(f"{FOOLED}:always_zero", {}, built_in_samples(), INSTRUCT, own_data=False)
    assert hopeless.problems and hopeless.left_out == ()


def test_scores_below_0_are_no_failure():
    audit = audit_reward(f"{FOOLED}:penalty", {}, built_in_samples(), INSTRUCT)
    assert not audit.problems
    assert {finding.outcome.total for finding in audit.findings[1:]} == {-1.0}


def test_no_score_for_a_trick_is_a_failure():
    audit = audit_reward(f"{FOOLED}:none_if_empty", {}, built_in_samples(), INSTRUCT)
    assert failed(audit) == {"empty text"}
    assert "no finite score from" in audit.problems[0].problem


def test_an_exception_is_a_failure_and_shown():
    audit = audit_reward(f"{FOOLED}:divides", {}, built_in_samples(), INSTRUCT)
    [finding] = [one for one in audit.problems if one.outcome.probe == "empty text"]
    assert "ZeroDivisionError" in finding.problem and "built-in-" in finding.problem
    assert "ZeroDivisionError" in audit_text(audit)


@pytest.mark.parametrize(
    ("name", "probes", "problem"),
    [
        ("nan_if_long", 5, "no finite score"),
        ("slow_if_long", 1, "takes longer than 0.1 s"),
        ("slow_at_first", 0, ""),
    ],
)
def test_shaping_rewards_are_checked_for_finiteness_and_time(name, probes, problem):
    audit = audit_reward(f"{FOOLED}:{name}", {}, built_in_samples()[:1], INSTRUCT)
    assert len(audit.problems) == probes
    assert all("10,000" in one.outcome.probe and problem in one.problem for one in audit.problems)


def test_a_sum_may_give_tricks_the_part_for_form():
    [audit] = audit_table({"choice": 1.0, "format": 0.5}, built_in_samples(), INSTRUCT)
    totals = {finding.outcome.probe: finding.outcome.total for finding in audit.findings}
    assert not audit.problems
    assert (totals[GOLD], totals["wrong answer"], totals["empty text"]) == (1.5, 0.5, 0.0)


@pytest.mark.parametrize(
    "table", [{"format": 1.0}, {"choice": 0.0, "format": 1.0}, {"choice": -1.0, "format": 1.0}]
)
def test_a_sum_that_does_not_reward_the_right_answer_fails(table):
    [audit] = audit_table(table, built_in_samples(), INSTRUCT)
    assert "wrong answer" in failed(audit)


def test_a_sum_is_audited_along_every_route():
    table = {"by_task": {"count": {"number": 1.0}, "form": {"format": 1.0}}}
    count, form = audit_table(table, built_in_samples(), INSTRUCT, own_data=False)
    assert (count.title, form.title) == ("weighted sum of task count", "weighted sum of task form")
    assert not count.problems and form.problems
    with pytest.raises(ConfigurationError, match="no entry for task 'built_in/choice'"):
        audit_table(table, built_in_samples(), INSTRUCT)
    own = [Sample("1", "count/cars", "How many?", "12", "number")]
    assert [audit.title for audit in audit_table(table, own, INSTRUCT)] == [count.title]


def test_samples_that_a_reward_cannot_grade_are_left_out():
    numbers = [sample for sample in built_in_samples() if sample.answer_type == "number"]
    assert audit_reward("choice", {}, built_in_samples(), INSTRUCT).graded == 6
    with pytest.raises(DataError, match=r"choice: no gold answer of the 4 samples \(number\) gets a score"):
        audit_reward("choice", {}, numbers, INSTRUCT)


def test_options_reach_the_reward():
    own = [Sample("1", "t", "How many?", "12", "number")]
    assert not audit_reward("number", {"tolerance": 0.5, "weight": -3}, own, INSTRUCT).problems
    assert "wrong answer" in failed(audit_reward("number", {"tolerance": 10.0}, own, INSTRUCT))
    with pytest.raises(ConfigurationError, match="Did you mean 'tolerance'"):
        audit_reward("number", {"tolerence": 1}, own, INSTRUCT)


@pytest.mark.parametrize("sample", built_in_samples(), ids=lambda sample: sample.id)
@pytest.mark.parametrize(
    "prompt", [INSTRUCT, BASE, Prompt(box_space="grid")], ids=["instruct", "base", "grid"]
)
def test_probes_are_parsed_as_answers_are(sample, prompt):
    gold = gold_completion(sample, prompt)
    made = {probe.name: probe.completion for probe in probes(sample, prompt)}
    assert gold.answer and gold.think and gold.think_opened == prompt.opens_think
    assert len(made) == len(probes(sample, prompt))  # no name twice
    assert made["empty answer"].answer == "" and made["empty text"].text == ""
    for name in ("answer only in <think>", "gold answer in two pairs of tags", "<answer> not closed"):
        assert made[name].answer is None and gold.answer in made[name].text
    assert made["<think> not closed"].think is None and gold.think in made["<think> not closed"].text
    assert made["wrong answer"].answer not in ("", gold.answer)
    assert len(made["10,000 letters as the answer"].answer) == 10_000
    assert len(made["10,000 letters without tags"].text) == 10_000


def test_boxes_of_probes_are_in_pixels_of_the_image():
    one = next(sample for sample in built_in_samples() if sample.answer_type == "boxes")
    for space in ("image", "grid"):
        prompt = Prompt(box_space=space)
        assert gold_completion(one, prompt).boxes[0] == pytest.approx((100, 120, 300, 360), abs=0.5)
        made = {probe.name: probe.completion for probe in probes(one, prompt)}
        whole = made["ten boxes over the whole image"].boxes
        assert len(whole) == 10 and set(whole) == {(0.0, 0.0, 640.0, 480.0)}
        assert len(made["gold boxes plus nine others"].boxes) == 10
        assert made["NaN"].boxes == made["infinity"].boxes == ()
        [wrong] = made["wrong answer"].boxes
        assert wrong[0] > 400  # beyond the gold box


def test_wrong_numbers_are_wrong_in_every_script():
    made = {probe.name: probe for probe in probes(Sample("1", "t", "?", "65°", "number"), INSTRUCT)}
    answers = {name: probe.completion.answer for name, probe in made.items()}
    assert answers["wrong answer"] == "657°"
    assert answers["wrong answer in Arabic-Indic digits"] == "٦٥٧°"
    assert answers["wrong answer in superscript digits"] == "⁶⁵⁷°"
    assert answers["wrong answer in full-width characters"] == "６５７°"
    assert answers["gold answer with a raised digit"] == "6⁵°"
    assert answers["a part of the gold answer"] == "6"


def test_boxes_that_cannot_be_probed_are_named():
    with pytest.raises(DataError, match="sample '7': no boxes in the gold answer 'here'"):
        probes(Sample("7", "t", "?", "here", "boxes"), INSTRUCT)
    bare = Sample("7", "t", "?", "[[10, 10, 20, 30]]", "boxes")
    assert {probe.name for probe in probes(bare, INSTRUCT)} >= {"one box over the whole image"}
    with pytest.raises(DataError, match="sample '7' has boxes on the 0-1000 grid"):
        gold_completion(bare, Prompt(box_space="grid"))


def test_a_users_samples_are_the_first_of_each_task(scenes_folder, scene_samples):
    samples = prepared_samples([str(scenes_folder)], 2)
    tasks = {sample.task for sample in scene_samples}
    assert len(tasks) > 1 and len(samples) == 2 * len(tasks)
    assert samples[0].id == scene_samples[0].id
    assert not audit_reward("choice", {}, samples, INSTRUCT).problems


def test_a_score_outside_the_declared_range_fails():
    audit = audit_reward(f"{FOOLED}:too_much", {}, built_in_samples(), INSTRUCT)
    assert "10,000 letters without tags" in failed(audit) and GOLD not in failed(audit)
    assert {one.problem for one in audit.problems} == {
        f"{FOOLED}:too_much gives 1e+12, outside its range [0, 1]"
    }


def test_batch_functions_get_the_gold_answer_and_its_tricks_at_once():
    """Ranks alone are all 1; in a group the gold answer's is the highest, as the wrong ones are."""
    choices = [sample for sample in built_in_samples() if sample.choices]
    good = audit_reward(f"{FOOLED}:choice_batch", {}, choices, INSTRUCT)
    single = audit_reward("choice", {}, choices, INSTRUCT)
    assert not good.problems and good.notes == () and len(good.findings) == len(single.findings)
    assert "wrong answer" not in failed(audit_reward(f"{FOOLED}:ranks", {}, choices, INSTRUCT))


@pytest.mark.parametrize(
    ("name", "note"),
    [
        (
            "ranks",
            "an answer's score depends on the others of its group (0.875 among 8, 1 alone); if that is",
        ),
        ("declared_ranks", ""),
        (
            "first_gets_more",
            "an answer's score depends on its place among the 8 (1.25, and 1 in reverse order)",
        ),
        ("flickers", "the same answers score otherwise from call to call"),
    ],
)
def test_what_a_score_depends_on_beside_the_answer_is_told_and_fails_nothing(name, note):
    choices = [sample for sample in built_in_samples() if sample.choices]
    audit = audit_reward(f"{FOOLED}:{name}", {}, choices, INSTRUCT)
    assert not audit.failed, audit_text(audit)
    assert [note in one for one in audit.notes] == ([True] if note else [])
    assert (f"note: {FOOLED}:{name}: " in audit_text(audit)) == bool(note)


def test_a_batch_function_that_fails_with_a_group_fails():
    choices = [sample for sample in built_in_samples() if sample.choices]
    audit = audit_reward(f"{FOOLED}:one_only", {}, choices, INSTRUCT)
    assert "8 answers at once" in failed(audit) and "wrong answer" not in failed(audit)
    [problem] = [one.problem for one in audit.problems if one.outcome.probe == "8 answers at once"]
    assert "too many values to unpack" in problem


def test_a_group_that_loses_its_reward_is_asked_one_by_one():
    choices = [sample for sample in built_in_samples() if sample.choices]
    audit = audit_reward(f"{FOOLED}:none_if_none", {}, choices, INSTRUCT)
    assert {"empty text", "answer only in <think>"} <= failed(audit)
    assert not {"wrong answer", "8 answers at once"} & failed(audit)


def test_three_time_outs_end_the_audit_and_fail_it():
    choices = [sample for sample in built_in_samples() if sample.choices]
    start = time.monotonic()
    audit = audit_reward(f"{FOOLED}:late_if_long", {}, choices, INSTRUCT)
    assert time.monotonic() - start < 30
    late = [one for one in audit.findings if one.outcome.scores and one.outcome.scores.timeouts]
    assert audit.failed and len(late) == 3 and "wrong answer" in {f.outcome.probe for f in audit.findings}
    assert audit.stopped == f"{FOOLED}:late_if_long exceeded the deadline 3 times"
    assert audit_text(audit).splitlines()[-1].startswith(f"failed: stopped, for {audit.stopped}")
    audit = audit_reward(f"{FOOLED}:always_late", {}, built_in_samples(), INSTRUCT)
    assert audit.failed and audit.graded == 3 and [f.outcome.probe for f in audit.findings] == [GOLD]


def test_a_bar_shows_gold_answers_and_tricks_unless_they_are_quick(monkeypatch, capsys):
    audit_reward("choice", {}, built_in_samples()[:2], INSTRUCT, bar=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(asking, "QUICK", 0.0)
    audit_reward("choice", {}, built_in_samples()[:2], INSTRUCT, bar=True)
    shown = capsys.readouterr().err
    tricks = sum(len(probes(sample, INSTRUCT)) for sample in built_in_samples()[:2])
    assert "choice: gold answers 2/2" in shown and f"choice: tricks {tricks}/{tricks}" in shown
    audit_reward("choice", {}, built_in_samples()[:2], INSTRUCT)
    assert capsys.readouterr().err == ""
