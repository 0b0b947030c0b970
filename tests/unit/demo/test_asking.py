"""From fields to questions, verdicts, votes and panes; the formulas in them."""

import re
import threading
import time

import pytest

from gpg_vl.demo.parts.latex import as_formula, with_formulas
from gpg_vl.demo.parts.pane import head_of, pane
from gpg_vl.demo.service.asking import Asking, Fields, Pane
from gpg_vl.demo.service.clients import Client
from gpg_vl.demo.service.generate import Ask, Generations, Progress
from gpg_vl.demo.service.models import Models
from gpg_vl.demo.service.samples import ALL_TASKS, PreparedSets
from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.service.verdicts import Verdict
from gpg_vl.errors import DataError, ModelError, UserError
from gpg_vl.evaluation.benchmarks import PREPARED
from gpg_vl.types import Sample


@pytest.fixture
def asking(scenes_folder) -> Asking:
    settings = DemoSettings("base", "trained", data=(str(scenes_folder),), max_samples=4, max_new_tokens=64)
    return Asking(settings, PreparedSets(settings.data), Generations(Models(), 1))


def test_sets_by_task_and_number(asking, scenes_folder, scene_samples):
    sets, folder = asking.sets, str(scenes_folder)
    tasks = sets.tasks(folder)
    assert tasks[0] == ALL_TASKS and set(tasks[1:]) == {sample.task for sample in scene_samples}
    own = [sample for sample in scene_samples if sample.task == tasks[2]]
    assert sets.count(folder, tasks[2]) == len(own)
    place = sets.place(folder, tasks[2], 2)
    assert sets.sample(place).id == own[1].id and sets.find(own[1].id) == place
    assert sets.find("nowhere") is None and sets.protocol(place).name == "scenes"
    assert (sets.folders(mathematics=False), sets.folders(mathematics=True)) == ([folder], [])
    for wrong in [(folder, tasks[2], 0), (folder, "x", 1), ("/etc", ALL_TASKS, 1)]:
        with pytest.raises(DataError):
            sets.place(*wrong)


def test_a_question_has_the_fields_text_and_the_sets_images(asking, scenes_folder, scene_samples):
    place = asking.sets.place(str(scenes_folder), ALL_TASKS, 3)
    ask = asking.ask(Fields(None, " Why? ", "no\n\n yes ", "choice", "b", max_new_tokens=8), place)
    sample = ask.sample
    assert (sample.question, sample.choices, sample.answer) == ("Why?", ("no", "yes"), "(B)")
    assert sample.id == scene_samples[2].id and len(sample.images) == 1


@pytest.mark.parametrize(
    ("choices", "gold", "expected"),
    [("no\nyes", "YES", "(B)"), ("no\nyes", "(a)", "(A)"), ("no\nyes", "maybe", "maybe"), ("", " 7 ", "7")],
)
def test_gold_answers_are_letters_where_there_are_choices(asking, choices, gold, expected):
    assert (
        asking.ask(Fields(None, "?", choices, "choice", gold, max_new_tokens=8), None).sample.answer
        == expected
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "  "}, "the question is empty"),
        ({"answer_type": "essay"}, "unknown type of answer 'essay'"),
        ({"samples": 5, "temperature": 1}, "samples is 1 to 4 here, got 5"),
        ({"samples": 2}, "2 greedy answers would be the same"),
        ({"temperature": 9}, "the temperature is 0 .greedy., or 0.01 to 2, got 9"),
        ({"max_new_tokens": 65}, "max_new_tokens is 1 to 64 here, got 65"),
        ({"max_new_tokens": None}, "max_new_tokens is a number, got None"),
        ({"temperature": float("nan")}, "temperature is a number, got nan"),
        ({"image": {"path": "/etc/passwd"}}, "is no uploaded file"),
        ({"choices": "\n".join("x" * 27), "gold": "zz"}, "none for index 26"),
    ],
)
def test_what_cannot_be_asked(asking, fields, message):
    with pytest.raises(UserError, match=message):
        asking.ask(Fields(**{"question": "Why?", "max_new_tokens": 8, **fields}), None)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.mark.parametrize(
    "progress",
    [
        Progress("failed", error=EVIL),
        Progress("writing", texts=(EVIL,), tokens=(3,)),
        Progress("stopped", texts=(f"<think>{EVIL}", EVIL), tokens=(3, 4)),
    ],
)
def test_panes_escape_what_models_write(progress):
    verdicts = [Verdict(EVIL, problem=EVIL) for _ in progress.texts]
    for mathematics in (False, True):
        markup = pane(Pane(progress, verdicts), head_of("base", EVIL), mathematics=mathematics)
        assert "<script" not in markup and "<img" not in markup and "&lt;script&gt;" in markup


@pytest.mark.parametrize(
    ("progress", "state"),
    [
        (Progress("waiting"), "waiting"),
        (Progress("waiting", ahead=3), "waiting, 3 before this"),
        (Progress("loading"), "loading the model"),
        (Progress("writing"), "reading the question"),
        (Progress("writing", texts=("a",), tokens=(1,)), "writing"),
        (Progress("writing", texts=("a", "b"), tokens=(1, 1)), "writing"),
        (Progress("done", texts=("a",), tokens=(1,)), "scoring"),
    ],
)
def test_a_pane_says_what_happens_in_one_badge(progress, state):
    markup = pane(Pane(progress, scoring=progress.state == "done"), head_of("base", "runs/gpg"))
    assert re.findall(r'<span class="badge([^"]*)">([^<]*)', markup) == [(" working", state)]
    assert "No answer found" not in markup  # it may come yet


def test_what_is_over_is_not_at_work():
    for texts in (("a",), ("a", "b")):
        stopped = pane(Pane(Progress("stopped", texts=texts, tokens=(1, 1))), head_of("base", "runs/gpg"))
        assert re.findall(r'<span class="badge([^"]*)">([^<]*)', stopped)[0] == ("", "stopped")
        done = pane(Pane(Progress("done", texts=texts, tokens=(1, 1))), head_of("base", "runs/gpg"))
        assert "working" not in done


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x$ costs $5 and $6.", "$x$ costs <span>&#36;</span>5 and <span>&#36;</span>6."),
        ("$$a < b$$", "$$a < b$$".replace("<", "&lt;")),
        ("one $ only", "one <span>&#36;</span> only"),
        ("<b>$</b> and <i>$</i>", "<b><span>&#36;</span></b> and <i><span>&#36;</span></i>"),
    ],
)
def test_only_formulas_keep_their_dollars(text, expected):
    assert with_formulas(text.replace("a < b", "a &lt; b")) == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [(r"\frac12", r"$\frac12$"), ("x^2", "$x^2$"), ("12", "12"), ("$7$", "$7$")]
)
def test_bare_answers_become_formulas(answer, expected):
    assert as_formula(answer) == expected


ONE, TWO, THREE = (Client("here", name) for name in ("one", "two", "three"))


class Endless:
    """Models whose answer never ends by itself."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def loaded(self, path: str) -> bool:
        return True

    def get(self, path: str) -> None:
        self.begun.set()
        time.sleep(0.3)
        raise ModelError("no model")


def test_who_waits_is_stopped_at_once_and_closing_ends_all():
    models = Endless()
    generations = Generations(models, 1)  # type: ignore[arg-type]
    ask = Ask(Sample("q", "task", "?", "", "label"), PREPARED)
    first, second = generations.follow(ONE, ["a"], ask), generations.follow(TWO, ["b"], ask)
    next(first)
    assert models.begun.wait(5)
    [waiting] = next(second)
    assert waiting.state == "waiting"
    generations.stop("two")
    assert [progress.state for [progress] in second] == ["stopped"]
    assert [progress.state for [progress] in first][-1] == "failed"
    third = generations.follow(THREE, ["c"], ask)
    next(third)
    generations.close()
    assert [progress.state for [progress] in third][-1] in ("stopped", "failed")
    with pytest.raises(RuntimeError):
        next(generations.follow(ONE, ["d"], ask))
