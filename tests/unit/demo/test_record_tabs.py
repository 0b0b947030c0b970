"""The record tabs on a real small run folder: each builds, and its own event handlers run."""

import asyncio

import gradio as gr
import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.tabs.rollouts import rollouts_tab
from gpg_vl.demo.tabs.training import training_tab
from gpg_vl.training.records import MetricsFile
from gpg_vl.types import Sample
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group, write_step

HOSTILE = "<img src=x onerror=alert(1)>"
QUESTION = Sample("q", "t/Which", f"Which? {HOSTILE}", "(A)", "choice", ("x", HOSTILE))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "own"
    for name in ("own", "other"):
        (folder.parent / name).mkdir(parents=True)
        MetricsFile(folder.parent / name / "metrics.jsonl", 0).write(
            1, {"reward/mean": 0.5, "accuracy": 0.25}
        )
    write_step(folder / "rollouts" / "step_000001.parquet", [sampled_group(QUESTION, [HOSTILE, RIGHT, BAD])])
    groups = [sampled_group(QUESTION, [RIGHT] * 3), sampled_group(QUESTION, [WRONG, RIGHT, BAD + HOSTILE])]
    write_step(folder / "rollouts" / "step_000002.parquet", groups)
    write_prepared([QUESTION], tmp_path / "data", source="", converter="scenes", version="1")
    return DemoSettings(base="base", run=str(folder), data=(str(tmp_path / "data"),))


async def page_of(tab, settings):
    """A page with the tab alone; a coroutine, as Gradio leaves an event loop open where none runs."""
    with gr.Blocks() as page:
        tab(settings)
    return page


def handlers(tab, settings):
    """The handlers that the tab wires, by name."""
    page = asyncio.run(page_of(tab, settings))
    return {event.name: event.fn for event in page.fns.values()}


@pytest.mark.parametrize(
    ("tab", "run"),
    [
        (rollouts_tab, None),
        (training_tab, None),
        (rollouts_tab, "empty"),
    ],
)
def test_without_records_a_tab_says_what_to_pass(tab, run, tmp_path):
    page = asyncio.run(page_of(tab, DemoSettings(base="base", run=run and str(tmp_path))))
    [message] = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert "--run" in message if run is None else tmp_path.name in message
    assert not page.fns


def test_rollouts(run):
    wired = handlers(rollouts_tab, run)
    steps = wired["list_steps"]()
    assert (steps.minimum, steps.maximum) == (1, 2)
    listed, message = wired["list_groups"](2, "")
    assert (len(listed.choices), listed.value, message) == (2, 1, "")
    question, sentence, answers = wired["show"](2, 1, "format")
    assert "Which? &lt;img src=x" in question
    assert "format: mean 0.333 over 3 answers; the group would be valid." in sentence
    assert [part[0] for part in answers.split("<h3>Answer ")[1:]] == ["2", "1", "3"]
    assert answers.count("<dt>format (again)</dt>") == 3
    assert HOSTILE not in question + answers


def test_rollouts_of_a_run_that_has_just_begun(run, tmp_path):
    (tmp_path / "runs/own/rollouts/step_000002.parquet").unlink()
    listed, _ = handlers(rollouts_tab, run)["list_groups"](2, "")
    assert [label for label, _ in listed.choices] == ["1 · t/Which · q · valid · mean reward 0.50"]


def test_rollouts_search(run):
    wired = handlers(rollouts_tab, run)
    listed, _ = wired["list_groups"](2, "ONERROR")
    assert [label for label, _ in listed.choices] == [
        "2 · t/Which · q · valid · mean reward 0.50 · 1 found",
    ]
    listed, message = wired["list_groups"](2, HOSTILE * 2)
    assert (listed.choices, listed.value) == ([], None)
    assert "No answer of step 2 holds" in message
    assert HOSTILE not in message
    assert wired["show"](2, None, "none") == ["", "", gr.skip()]


def test_rollouts_without_the_data(run):
    wired = handlers(rollouts_tab, DemoSettings(base="base", run=run.run))
    question, sentence, answers = wired["show"](2, 1, "choice")
    for message in (question, sentence):
        assert "pass its prepared folder with --data" in message
    assert "Gold: (A)" in question
    assert "again" not in answers


def test_training(run, tmp_path):
    wired = handlers(training_tab, run)
    seen, message, *plots = wired["draw"]("other", True)
    assert "own: step 1; other: step 1" in message
    shown = [plot for plot in plots if plot.visible]
    assert [plot.title for plot in shown] == ["Reward", "Accuracy"]
    assert set(shown[0].color_map) == {"own", "other"}
    assert wired["redraw"]("other", True, seen) == gr.skip()
    MetricsFile(tmp_path / "runs/own/metrics.jsonl", 1).write(2, {"reward/mean": 0.75})
    assert "own: step 2" in wired["redraw"]("other", True, seen)[1]


def test_training_offers_no_path(run, tmp_path):
    (tmp_path / "hidden").mkdir()
    MetricsFile(tmp_path / "hidden" / "metrics.jsonl", 0).write(1, {"reward/mean": 0.5})
    _, message, *_ = handlers(training_tab, run)["draw"]("../hidden", True)
    assert "own: step 1</p>" in message


def test_training_waits_for_the_first_step(tmp_path):
    (tmp_path / "new").mkdir()
    _, message, *plots = handlers(training_tab, DemoSettings(base="base", run=str(tmp_path / "new")))["draw"](
        "none", True
    )
    assert "No step is written to metrics.jsonl yet" in message
    assert not any(plot.visible for plot in plots)
