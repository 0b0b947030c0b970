import json
import os

import pytest

from gpg_vl.config import TrainConfig
from gpg_vl.errors import RunFolderError
from gpg_vl.options import load_config
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.leftovers import contents, delete_run
from gpg_vl.runs.resume import died_early


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "first"


def config(out, *options):
    given = ["--out", str(out), "--model.path", "tiny", "--data.train", "[d]", "--run.steps", "6"]
    return load_config(TrainConfig, [*given, "--run.save_every", "3", *options])


def dead(out, steps=0, checkpoint=False):
    """A run that was killed after so many steps."""
    with RunFolder.open(config(out), resume=False) as folder:
        (out / "gpg-vl" / "events").mkdir(parents=True)
        folder.evaluations.mkdir()
        folder.rollouts.mkdir()
        folder.checkpoints.mkdir()
        if steps:
            folder.metrics.write_text("".join(f"{json.dumps({'step': n + 1})}\n" for n in range(steps)))
            (folder.rollouts / "step_000001.parquet").write_text("rows")
            (folder.rollouts / ".step_000002.parquet.tmp").write_text("half")
        (folder.checkpoints / ".saving-step_000003" / "state").mkdir(parents=True)
        if checkpoint:
            (folder.checkpoints / "step_000003" / "state").mkdir(parents=True)
    return out


def test_a_run_that_ended_before_its_first_step_leaves_its_folder_free(out, capsys):
    dead(out)
    with RunFolder.open(config(out, "--run.seed", "7"), resume=False):
        assert {entry.name for entry in out.iterdir()} == {".lock", "config.yaml", "environment.json"}
        assert "seed: 7" in (out / "config.yaml").read_text()
    assert "ended before its first step is deleted" in capsys.readouterr().err
    assert [entry.name for entry in out.parent.iterdir()] == ["first"]


@pytest.mark.parametrize("steps", [1, 3])
def test_what_its_steps_left_is_moved_aside(out, capsys, steps):
    for number in (1, 2):
        dead(out, steps)
        with RunFolder.open(config(out), resume=False):
            assert not (out / "metrics.jsonl").exists()
        for name in (".lock", "config.yaml", "environment.json"):
            (out / name).unlink()
        aside = out.with_name(f"first.ended-{number}")
        assert len((aside / "metrics.jsonl").read_text().splitlines()) == steps
        assert (aside / "rollouts" / "step_000001.parquet").read_text() == "rows"
        told = capsys.readouterr().err
        assert f"{steps} step{'s' * (steps > 1)}, 1 rollout record (" in told and str(aside) in told


def test_an_evaluation_before_the_first_step_is_kept_too(out):
    (dead(out) / "eval" / "step_000000.json").write_text("{}")
    with RunFolder.open(config(out), resume=False):
        assert (out.with_name("first.ended-1") / "eval" / "step_000000.json").read_text() == "{}"


def test_a_dead_run_can_still_go_on_where_it_was(out):
    dead(out, 2)
    with RunFolder.open(config(out), resume=True) as folder:
        assert len(folder.metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize("change", ["checkpoint", "more steps", "report", "config"])
def test_a_run_that_got_further_is_not_freed(out, change):
    dead(out, 4 if change == "more steps" else 2, checkpoint=change == "checkpoint")
    if change == "report":
        (out / "report.html").touch()
    if change == "config":
        (out / "config.yaml").unlink()
    assert not died_early(out)
    before = sorted(out.rglob("*"))
    with pytest.raises(RunFolderError, match=r"exists and is not empty.*--resume auto.*--overwrite"):
        RunFolder.open(config(out), resume=False)
    assert sorted(out.rglob("*")) == before


FOREIGN = ["notes.txt", "eval/notes.txt", "checkpoints/my_model", "rollouts/step_1.csv", "plots"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("steps", [0, 2])
def test_nothing_goes_where_something_else_lies(out, name, steps):
    dead(out, steps)
    (out / name).write_text("mine")
    before = sorted(out.rglob("*"))
    for delete in (lambda: RunFolder.open(config(out), resume=False), lambda: delete_run(out)):
        with pytest.raises(RunFolderError, match=f"it holds '{name}', which no run wrote"):
            delete()
    assert sorted(out.rglob("*")) == before and (out / name).read_text() == "mine"


def test_links_are_not_followed(out, tmp_path):
    dead(out, 2)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    (out / "profile").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="holds 'profile', which no run wrote"):
        delete_run(out)
    assert (tmp_path / "elsewhere" / "mine").exists()


def test_a_whole_run_is_deleted_unless_another_process_has_it(out):
    dead(out, 6, checkpoint=True)
    assert contents(out).startswith("6 steps, 1 rollout record, 1 checkpoint up to step_000003 (")
    with (
        RunFolder.open(config(out), resume=True),
        pytest.raises(RunFolderError, match="is in use by another"),
    ):
        delete_run(out)
    assert (out / "checkpoints" / "step_000003").is_dir()
    delete_run(out)
    assert os.listdir(out) == [".lock"]
    with RunFolder.open(config(out), resume=False):
        pass


def test_a_folder_that_no_run_made_is_not_deleted(out):
    (out / "profile").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"it has no config\.yaml and environment\.json"):
        delete_run(out)
    assert (out / "profile").is_dir()
