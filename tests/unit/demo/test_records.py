import pyarrow.parquet as pq
import pytest
import yaml

from gpg_vl.config import TrainConfig
from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo.parts.rollout_views import first_shown
from gpg_vl.demo.service import records
from gpg_vl.demo.service.records import GroupEntry, label
from gpg_vl.demo.service.rescoring import Other, is_valid, rescore, rescore_step, verdict_on
from gpg_vl.demo.service.run_questions import RunQuestions, questions_of
from gpg_vl.errors import ConfigurationError, DataError, ModelError
from gpg_vl.options import load_config, to_yaml
from gpg_vl.types import Sample
from tests.support.inputs import noise
from tests.support.runs import BAD, RIGHT, WRONG, sampled_group, write_step

FIRST = Sample("first", "t/Which", "Which?", "(A)", "choice", ("x", "y"))
BOXED = Sample("boxed", "t/Where", "Where?", "[[0, 0, 50, 100]]", "boxes", images=(noise(100, 200),))


@pytest.fixture
def step(tmp_path):
    path = tmp_path / "rollouts" / "step_000012.parquet"
    groups = [
        sampled_group(FIRST, [RIGHT] * 4),
        sampled_group(FIRST, [BAD, RIGHT, WRONG, RIGHT], round=1),
    ]
    write_step(path, groups)
    return path


@pytest.fixture
def trained(tmp_path, tiny_folder):
    """A run folder whose settings name its data from the folder it was trained in."""

    def make(*options):
        run = tmp_path / "runs" / "gpg"
        run.mkdir(parents=True)
        words = ["--out", "runs/gpg", "--model.path", str(tiny_folder), "--data.train", "[data/train]"]
        (run / "config.yaml").write_text(to_yaml(load_config(TrainConfig, [*words, *options])))
        return run

    return make


def prepare(folder, *samples):
    write_prepared(samples, folder, source="", converter="scenes", version="1")


def test_steps_by_number(step):
    (step.parent / "step_000002.parquet").touch()
    (step.parent / ".step_000013.parquet.tmp").touch()
    assert list(records.steps(step.parents[1])) == [2, 12]


@pytest.mark.parametrize(("wanted", "found"), [(2, 2), (6, 2), (7, 2), (8, 12), (99, 12)])
def test_the_nearest_recorded_step(step, wanted, found):
    (step.parent / "step_000002.parquet").touch()
    assert records.nearest(records.steps(step.parents[1]), wanted) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(0, False, 1.5, 4), (1, True, 0.75, 4)]),
        ("NO tags", [(1, True, 0.75, 1)]),
        ("<answer>(a", [(0, False, 1.5, 4), (1, True, 0.75, 2)]),
        (".*", []),
    ],
)
def test_groups_with_the_searched_text(step, text, expected):
    found = records.overview(step, text)
    assert [(entry.group, entry.valid, entry.mean, entry.matches) for entry in found] == expected


def test_answers_are_sorted_by_advantage(step):
    found = records.answers(step, 1)
    assert [row["answer_index"] for row in found] == [1, 3, 0, 2]
    assert [row["advantage"] for row in found] == pytest.approx([0.75, 0.75, -0.75, -0.75])
    assert found[0]["rewards"] == {"choice": 1.0, "format": 1.0}
    with pytest.raises(DataError, match="has no group 8"):
        records.answers(step, 7)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "step_000001.parquet"
    path.write_bytes(b"half")
    with pytest.raises(DataError, match=r"step_000001.parquet is no file of rollout records"):
        records.overview(path)


def test_the_line_of_a_group():
    entry = GroupEntry(0, "first", "t/Which", False, 1.5, 3)
    assert label(entry) == "1 · t/Which · first · discarded · mean reward 1.50"
    assert label(entry, searched=True).endswith(" · 3 found")


@pytest.mark.parametrize(("valid", "chosen"), [([False, True, True], 1), ([False], 0), ([], None)])
def test_a_valid_group_is_shown_first(valid, chosen):
    assert first_shown([GroupEntry(n, "q", "t", one, 1.0, 1) for n, one in enumerate(valid)]) == chosen


def test_questions_come_from_the_folder_the_run_was_trained_in(trained, tmp_path, monkeypatch):
    run = trained()
    prepare(tmp_path / "data" / "train", FIRST)
    monkeypatch.chdir(run)
    assert RunQuestions(run).find("first").question == "Which?"


def test_questions_come_from_the_given_data_too(trained, tmp_path):
    run = trained()
    with pytest.raises(DataError, match=r"training data is not here.*--data.*data/train"):
        RunQuestions(run).find("first")
    prepare(tmp_path / "moved", FIRST)
    questions = RunQuestions(run, (str(tmp_path / "moved"),))
    assert questions.find("first").choices == ("x", "y")
    with pytest.raises(DataError, match="question 'other' is in none of the sets here"):
        questions.find("other")


@pytest.mark.parametrize(
    ("reward", "group", "scores", "sentence"),
    [
        ("choice", 1, (1.0, 1.0, 0.0, 0.0), "choice: mean 0.5 over 4 answers; the group would be valid."),
        ("format", 0, (1.0,) * 4, "format: mean 1 over 4 answers; all equal, so the group would be"),
        ("iou", 1, None, "iou cannot grade every answer of this question"),
    ],
)
def test_scoring_again(trained, step, tmp_path, reward, group, scores, sentence):
    prepare(tmp_path / "data", FIRST)
    questions = RunQuestions(trained(), (str(tmp_path / "data"),))
    other = Other(reward, reward)
    found = rescore(questions, other, records.answers(step, group))
    assert found.by_reward.get(reward) == scores
    assert verdict_on(other, found).startswith(sentence)


def test_a_base_prompt_opened_the_reasoning(trained, step):
    run = trained("--prompt.template", "base")
    record = records.answers(step, 1)[0]
    assert RunQuestions(run).completion(record, FIRST).think_opened


def test_boxes_are_read_as_the_model_wrote_them(trained):
    record = {"text": "<answer>(0,0),(500,500)</answer>", "token_count": 9, "finish_reason": "eos"}
    found = RunQuestions(trained()).completion(record, BOXED)
    assert found.boxes == ((0, 0, 50, 100),)


def test_boxes_need_the_processor(trained, tmp_path):
    record = {"text": "<answer>(0,0),(500,500)</answer>", "token_count": 9, "finish_reason": "eos"}
    run = trained()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["path"] = "runs/gone"
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ModelError, match="runs/gone"):
        RunQuestions(run).completion(record, BOXED)


def rewrite(path, **columns):
    """Replace columns of a step's file; None drops one."""
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.remove_column(place) if values is None else table.set_column(place, name, [values])
    pq.write_table(table, path)


def test_rewards_that_cannot_be_read_cost_only_themselves(step):
    rewrite(step, rewards=['{"choice": 1.0}', "{", "[1]", '{"choice": "x"}'] * 2)
    found = records.answers(step, 0)
    assert [row["rewards"] for row in found] == [{"choice": 1.0}, None, None, None]
    assert [row["reward"] for row in found] == [1.5] * 4


@pytest.mark.parametrize(
    ("columns", "reason"),
    [({"advantage": None}, "advantage"), ({"text": ["x"] * 7 + [None]}, "has rows without text")],
)
def test_a_column_that_is_not_there_is_named(step, columns, reason):
    rewrite(step, **columns)
    with pytest.raises(DataError, match=rf"step_000012.parquet is no file of rollout records: .*{reason}"):
        records.groups(step)


def test_a_search_looks_at_the_newest_step_first(step):
    write_step(step.parent / "step_000002.parquet", [sampled_group(FIRST, [RIGHT, BAD, BAD])])
    (step.parent / "step_000003.parquet").write_bytes(b"half")
    found = list(records.search(records.steps(step.parents[1]), "NO tags"))
    assert [one.step for one in found] == [12, 3, 2]
    assert [[(entry.group, entry.matches) for entry in one.entries] for one in found] == [
        [(1, 1)],
        [],
        [(0, 2)],
    ]
    assert "no file of rollout records" in found[1].problem
    assert records.hit_label(2, found[2].entries[0]) == "step 2 · group 1 · t/Which · 2 found"


def test_a_whole_step_is_scored_again(trained, step, tmp_path):
    prepare(tmp_path / "data", FIRST)
    last = [
        *rescore_step(
            RunQuestions(trained(), (str(tmp_path / "data"),)), Other("choice", "choice"), step, 60.0
        )
    ][-1]
    assert (last.total, last.done, last.graded, last.ungraded, last.absent) == (2, 2, 2, 0, 0)
    assert last.scores == [("t/Which", (1.0,) * 4), ("t/Which", (0.0, 1.0, 0.0, 1.0))]


def test_what_cannot_be_scored_in_a_step_is_counted(trained, step, tmp_path):
    other = Sample("other", "t", "?", "(A)", "choice", ("x",))
    write_step(step, [sampled_group(FIRST, [RIGHT, WRONG]), sampled_group(other, [RIGHT, WRONG])])
    prepare(tmp_path / "data", FIRST)
    [last] = rescore_step(RunQuestions(trained(), (str(tmp_path / "data"),)), Other("iou", "iou"), step, 60.0)
    assert (last.done, last.graded, last.ungraded, last.absent) == (2, 1, 1, 1)


def test_scoring_a_step_ends_in_time(trained, step, tmp_path):
    write_step(step, [sampled_group(FIRST, [RIGHT, WRONG])] * 20)
    prepare(tmp_path / "data", FIRST)
    questions = RunQuestions(trained(), (str(tmp_path / "data"),))
    assert [one.done for one in rescore_step(questions, Other("format", "format"), step, 0.0)] == [8]


@pytest.mark.parametrize(
    ("values", "valid"), [((1.0, 1.0), False), ((1.0, 1.0 + 1e-9), False), ((0.0, 1.0), True)]
)
def test_a_group_is_valid_if_its_scores_differ(values, valid):
    assert is_valid(values) == valid


def test_a_plug_in_that_cannot_be_imported_is_named(trained, step, tmp_path):
    prepare(tmp_path / "data", FIRST)
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    questions = RunQuestions(trained(), (str(tmp_path / "data"),))
    with pytest.raises(ConfigurationError, match=r"brief' cannot be imported: ZeroDivisionError: div"):
        rescore(questions, Other("brief", f"{broken}:brief"), records.answers(step, 0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: [", "config.yaml"), ("data: 7", "data must be a table"), ("data: {train: 7}", "must be a list")],
)
def test_broken_settings_are_told(tmp_path, text, reason):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises((ConfigurationError, DataError), match=reason):
        RunQuestions(tmp_path).find("first")


@pytest.mark.parametrize(("text", "reason"), [("prompt: 7", "must be a table"), ("prompt: {x: 1}", "'x'")])
def test_a_broken_prompt_is_told(tmp_path, text, reason):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=reason):
        _ = RunQuestions(tmp_path).prompt


def test_settings_that_come_later_are_read(tmp_path):
    assert not questions_of(tmp_path, ()).settings
    (tmp_path / "config.yaml").write_text("prompt: {template: base}")
    found = questions_of(tmp_path, ())
    assert found.prompt.opens_think
    assert questions_of(tmp_path, ()) is found
