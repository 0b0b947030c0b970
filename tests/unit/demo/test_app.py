"""The app as it is put together: what the command passes on, and a stored question in Compare."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo import app, command
from gpg_vl.demo.service.asking import Asking
from gpg_vl.demo.service.evaluations import Selection
from gpg_vl.demo.service.generate import Generations
from gpg_vl.demo.service.models import Models
from gpg_vl.demo.service.samples import PreparedSets
from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.service.walking import Stored
from gpg_vl.demo.tabs.compare import stored_values
from gpg_vl.errors import ConfigurationError
from gpg_vl.quickstart.run import demo_command
from gpg_vl.types import Sample


def test_the_quickstarts_command_fills_everything_in(monkeypatch, tmp_path):
    """The printed words, through the command's own parser, where the tour has left its folders."""
    monkeypatch.chdir(tmp_path)
    for file in ("warm/model/config.json", "gpg/model/config.json", "runs/q/data/held_out/manifest.json"):
        Path(file).parent.mkdir(parents=True)
        Path(file).touch()
    Path("runs/q/gpg").mkdir()
    served: list[DemoSettings] = []
    monkeypatch.setattr(app, "serve", served.append)
    words = demo_command(Path("runs/q"), Path("warm/model"), Path("gpg/model")).split()
    assert words[:2] == ["gpg-vl", "demo"]
    command.demo(words[2:])
    [settings] = served
    assert (settings.base, settings.trained) == ("warm/model", "gpg/model")
    assert (settings.run, settings.data) == ("runs/q/gpg", ("runs/q/data/held_out",))
    assert settings.host == "127.0.0.1"


@pytest.fixture
def asking(scenes_folder: Path) -> Asking:
    settings = DemoSettings("base", "trained", data=(str(scenes_folder),))
    return Asking(settings, PreparedSets(settings.data), Generations(Models(), 1))


def stored(sample, output: str, answer: str) -> dict[str, object]:
    """An item of an evaluation."""
    question = {"id": sample.id, "question": sample.question, "choices": list(sample.choices)}
    figures = {"scores": {"choice": 1.0}, "correct": 1.0, "token_count": 5, "finish_reason": "stop"}
    return {**question, "gold": sample.answer, "output": output, "answer": answer, "prompt": "P", **figures}


DRAWING = 14
"""Its place among the values of a stored question."""


def shown(asking: Asking, base: dict[str, Any], trained: dict[str, Any]) -> list[Any]:
    return stored_values(asking, Stored(Selection("step_000000", "mine"), base, trained, "1 of 2"))


def test_a_stored_question_is_shown_with_both_answers(asking, scene_samples):
    sample = scene_samples[7]
    base, trained = stored(sample, "<b>no</b>", "(A)"), stored(sample, "yes", "(B)")
    folder, task, number, sent, image, _, *text_and_results = shown(asking, base, trained)
    question, choices, kind, gold, *results = text_and_results
    place = asking.sets.place(folder, task["value"], number["value"])
    assert number["label"] == f"Question 8 of {number['maximum']}"
    assert asking.sets.placed(sent) == place
    assert asking.sets.sample(place).id == sample.id and image.size == sample.images[0].size
    assert (question, gold, kind) == (sample.question, sample.answer, "choice")
    assert choices.splitlines() == list(sample.choices)
    assert (
        "&lt;b&gt;no&lt;/b&gt;" in results[0]
        and results[1] == "P"
        and f"(B) {sample.choices[1]}" in results[2]
    )
    assert "stored · step 0" in results[0] and "stored · mine" in results[2]
    assert json.loads(results[6]) == [sent, None, question, choices, kind, gold]


def test_stored_boxes_are_drawn(tmp_path):
    image = Image.new("RGB", (100, 50), "white")
    sample = Sample("b", "grounding", "Where?", "[[0, 0, 20, 20]]", "boxes", images=(image,))
    write_prepared([sample], tmp_path / "boxes", source="", converter="test", version="1")
    settings = DemoSettings("base", "trained", data=(str(tmp_path / "boxes"),))
    asking = Asking(settings, PreparedSets(settings.data), Generations(Models(), 1))
    item = stored(sample, "there", "(60,10),(90,40)")
    drawing = shown(asking, item, {**item, "boxes": [[60, 10, 90, 40]]})[DRAWING]
    assert drawing["visible"]
    assert 'x="60" y="10" width="30" height="30"' in drawing["value"]
    assert "Trained: no box" in shown(asking, item, item)[DRAWING]["value"]


def test_a_stored_question_of_another_set_has_no_image(asking, scene_samples):
    foreign = {**stored(scene_samples[7], "", "(A)"), "question": "Another one?"}
    folder, task, number, place, image, *_ = shown(asking, foreign, foreign)
    assert (folder, task, number["value"], place, image) == (gr.skip(), gr.skip(), None, "", None)


def test_a_run_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        app.build_app(DemoSettings("base", "trained", run="runs/nope"))
