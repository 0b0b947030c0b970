"""Training by difficulty: only the chosen rows, in the curriculum's order, resumed exactly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gpg_vl.config import EvalConfig, SftConfig
from gpg_vl.data.difficulty import PassRate, read_record, record_file, write_record
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.difficulty_config import DifficultyConfig
from gpg_vl.errors import CheckpointError, ConfigurationError, DataError
from gpg_vl.preflight.plan import Machine
from gpg_vl.preflight.preflight import preflight
from gpg_vl.runtime.parallel import World
from gpg_vl.training.chosen import choose_rows
from gpg_vl.training.train import train
from gpg_vl.training.warmstart import sft
from tests.support.launched import finish, start
from tests.support.training import metrics, same, session_of

MEDIUM = DifficultyConfig(exclude_solved=True, exclude_unsolved=True, missing="drop")


@pytest.fixture
def by_difficulty(config, tmp_path):
    """Of 48 scenes, every third was never right, one in three always, the others 1 to 16 times of 20."""
    folder = str(shutil.copytree(config.data.train[0], tmp_path / "set"))
    ids = PreparedDataset.open([folder]).column("id")
    rates = {id: PassRate((0, 20, 1 + n // 3)[n % 3], 20) for n, id in enumerate(ids)}
    write_record(folder, "base", rates, {"model": "base"})
    data = replace(config.data, train=[folder], difficulty=MEDIUM)
    return replace(config, data=data, run=replace(config.run, steps=4, save_every=1))


def asked(run):
    """Ids in the order in which they were first sampled."""
    files = sorted((Path(run) / "rollouts").glob("*.parquet"))
    tables = [
        pq.read_table(file, columns=["prompt_id", "group", "answer_index"]).to_pylist() for file in files
    ]
    return [row["prompt_id"] for rows in tables for row in rows if row["answer_index"] == 0]


def test_only_chosen_rows_are_asked_the_easy_ones_first(by_difficulty, capsys):
    config = replace(by_difficulty, data=replace(by_difficulty.data, curriculum="easy_first"))
    train(config)
    told = "48 rows by the pass rates of base: 16 always right and 16 never right are left out\n"
    assert f"data.difficulty: {told}" in capsys.readouterr().err
    rates = read_record(config.data.train[0], "base").rates
    shares = [rates[id].share for id in asked(config.out)]
    assert len(shares) >= 16 and shares[:16] == [n / 20 for n in range(16, 0, -1)]


@pytest.mark.parametrize("curriculum", ["none", "weighted"])
def test_a_stopped_run_goes_on_exactly_though_a_newer_record_came(by_difficulty, tmp_path, curriculum):
    whole = replace(by_difficulty, data=replace(by_difficulty.data, curriculum=curriculum))
    train(whole)
    parted = replace(whole, out=str(tmp_path / "parted"))
    train(parted)
    checkpoints = tmp_path / "parted" / "checkpoints"
    for step in (3, 4):
        shutil.rmtree(checkpoints / f"step_{step:06d}")
    (folder,) = whole.data.train
    write_record(folder, "newer", {min(read_record(folder, "base").rates): PassRate(1, 2)}, {"model": "n"})
    train(parted, resume="auto")
    assert asked(whole.out) == asked(parted.out)
    assert metrics(Path(whole.out)) == metrics(tmp_path / "parted")
    assert same(*(Path(run.out) / "checkpoints" / "step_000004" / "model" for run in (whole, parted)))


def test_other_rates_or_another_choice_are_no_way_to_go_on(by_difficulty):
    config = replace(by_difficulty, run=replace(by_difficulty.run, steps=1))
    train(config)
    later = replace(config, run=replace(config.run, steps=1))
    wider = replace(later, data=replace(later.data, difficulty=replace(MEDIUM, exclude_solved=False)))
    with pytest.raises(ConfigurationError, match=r"data\.difficulty\.exclude_solved was True, now False"):
        train(wider, resume="auto")
    (folder,) = config.data.train
    rates = dict(read_record(folder, "base").rates)
    write_record(folder, "base", rates | {max(rates): PassRate(1, 3)}, {"model": "base"})
    with pytest.raises(CheckpointError, match=r"trained with other pass rates than .* by now \(base\)"):
        train(later, resume="auto")
    record_file(folder, "base").unlink()
    with pytest.raises(DataError, match="has no record 'base' of pass rates"):
        train(later, resume="auto")


@pytest.mark.parametrize("damage", [None, "{}", "[1]", "x"])
def test_a_checkpoint_without_its_choice_is_told(by_difficulty, damage):
    config = replace(by_difficulty, run=replace(by_difficulty.run, steps=1))
    train(config)
    file = Path(config.out) / "checkpoints" / "step_000001" / "state" / "difficulty.json"
    assert json.loads(file.read_text())["records"] == ["base"]
    file.unlink()
    if damage is not None:
        file.write_text(damage)
    with pytest.raises(CheckpointError, match=r"cannot read .*difficulty\.json"):
        train(config, resume="auto")


def test_rows_that_are_too_long_keep_the_others_rates_in_place(by_difficulty):
    """The order is by each row's own rate, whatever else is left out before it."""
    lengths = session_of(by_difficulty).learner
    limit = sorted(lengths.data.lengths(lengths.encoder.prompt_length))[8]
    data = replace(by_difficulty.data, curriculum="easy_first", max_prompt_tokens=limit)
    learner = session_of(replace(by_difficulty, data=data)).learner
    assert 0 < len(learner.data) < 16
    rates = read_record(data.train[0], "base").rates
    shares = [rates[learner.data[row].id].share for row in learner.sampler.draw(len(learner.data))]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.slow
def test_two_processes_ask_what_one_does(by_difficulty, tmp_path):
    """In the same order, over the end of an epoch; the run of two goes on as one."""
    weighted = replace(by_difficulty.data, curriculum="weighted", validation=[])
    one = replace(by_difficulty, data=weighted, run=replace(by_difficulty.run, steps=5), eval=EvalConfig())
    train(one)
    two = replace(one, out=str(tmp_path / "two"))
    finish(two, start(two, "ddp"))
    assert asked(one.out) == asked(two.out) and len(asked(one.out)) > 16
    shutil.rmtree(Path(two.out) / "checkpoints" / "step_000005")
    train(two, resume="auto")
    assert asked(one.out) == asked(two.out)


def test_machines_with_other_records_are_told(by_difficulty):
    """As where a record lies on one of two machines alone; each rank has what the gathering gives it."""

    class Two(World):
        def gather(self, own):
            return [*own, "of the other" if isinstance(own[0], str) else own[0]]

    with pytest.raises(DataError, match="are not the same on every machine"):
        choose_rows(by_difficulty.data, None, Two(0, 2))


def test_supervised_training_follows_too(by_difficulty, capsys):
    config = SftConfig(
        out=by_difficulty.out,
        batch_size=4,
        model=by_difficulty.model,
        data=by_difficulty.data,
        run=replace(by_difficulty.run, steps=1),
    )
    sft(config)
    assert "16 always right and 16 never right are left out" in capsys.readouterr().err


def test_preflight_tells_it(by_difficulty):
    report = preflight(by_difficulty, Machine(), None, resume=False)
    (finding,) = (one for one in report.findings if one.check == "difficulty")
    assert finding.text.startswith("48 rows by the pass rates of base: 16 always right")
    assert report.figures["rows"] == 16
    assert report.figures["left_out_by_difficulty"] == {"always right": 16, "never right": 16}
