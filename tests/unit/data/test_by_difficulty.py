"""Rows by recorded pass rate: exact bounds, several folders and records, rows without one."""

import re

import pytest

from gpg_vl.config import DataConfig, TrainConfig
from gpg_vl.data.by_difficulty import choose
from gpg_vl.data.difficulty import PassRate, write_record
from gpg_vl.data.ingest import write_prepared
from gpg_vl.difficulty_config import DifficultyConfig
from gpg_vl.errors import ConfigurationError, DataError
from gpg_vl.interface.settings import configure
from gpg_vl.options import load_config
from gpg_vl.types import Sample
from tests.support.pages import ROOT

RATES = {str(right): PassRate(right, 10) for right in range(11)}
"""Of rows 0 to 10; row 11 has none."""


def prepared(folder, ids=range(12)):
    rows = [Sample(str(n), "t", f"{n}?", "5", "number") for n in ids]
    write_prepared(rows, folder, source="", converter="c", version="1")
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    name = prepared(tmp_path / "d")
    write_record(name, "m", RATES, {"model": "m"})
    return name


def kept(folders, **wanted):
    choice = choose(folders, DifficultyConfig(**wanted))
    return [int(id) for id in choice.data.column("id")]


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({}, range(12)),
        ({"exclude_unsolved": True}, [*range(1, 12)]),
        ({"exclude_solved": True}, [*range(10), 11]),
        ({"exclude_unsolved": True, "exclude_solved": True}, [*range(1, 10), 11]),
        ({"min": 0.3}, [*range(3, 12)]),
        ({"max": 0.7}, [*range(8), 11]),
        ({"min": 0.3, "max": 0.7, "missing": "drop"}, [*range(3, 8)]),
        ({"min": 0.301, "max": 0.699, "missing": "drop"}, [*range(4, 7)]),
        ({"min": 1.0, "missing": "drop"}, [10]),
        ({"max": 0.0, "missing": "drop"}, [0]),
        ({"missing": "drop"}, [*range(11)]),
    ],
)
def test_bounds(folder, wanted, rows):
    assert kept([folder], **wanted) == list(rows)


def test_what_is_left_out_is_told_in_numbers(folder):
    wanted = DifficultyConfig(exclude_unsolved=True, exclude_solved=True, max=0.8)
    choice = choose([folder], wanted)
    assert choice.note() == (
        "12 rows by the pass rates of m: 1 above 0.8, 1 always right and 1 never right are left out, "
        "1 without record are kept"
    )
    dropped = choose([folder], DifficultyConfig(missing="drop"))
    assert dropped.note() == "12 rows by the pass rates of m: 1 without record are left out"
    assert (
        choose([folder], DifficultyConfig(max=1.0))
        .note()
        .endswith("none is left out, 1 without record are kept")
    )


def test_rates_are_those_of_the_rows_in_several_folders(folder, tmp_path):
    """The same ids in two folders are different questions; a folder may have no record."""
    other, bare = prepared(tmp_path / "other", range(3)), prepared(tmp_path / "bare", range(2))
    write_record(other, "n", {"0": PassRate(1, 2), "2": PassRate(2, 2)}, {"model": "n"})
    choice = choose([folder, bare, other], DifficultyConfig(exclude_solved=True, exclude_unsolved=True))
    assert choice.records == ("m", None, "n")
    assert list(choice.data.row_numbers) == [*range(1, 10), 11, 12, 13, 14, 15]
    assert [choice.rates[n] for n in (0, 10, 11, 12, 14, 15, 16)] == [
        RATES["0"],
        RATES["10"],
        None,
        None,
        PassRate(1, 2),
        None,
        PassRate(2, 2),
    ]
    assert choice.unrecorded == 4 and choice.data[10].id == "0"


def test_the_newest_record_counts_unless_one_is_named(folder):
    write_record(folder, "a", {"0": PassRate(1, 1)}, {"model": "a"})
    assert choose([folder], DifficultyConfig()).records == ("a",)
    assert choose([folder], DifficultyConfig(record="m")).records == ("m",)
    assert choose([folder], DifficultyConfig(), ["m"]).records == ("m",)
    with pytest.raises(DataError, match=r"has a record 'b'; there are: a, m\. `gpg-vl data difficulty"):
        choose([folder], DifficultyConfig(record="b"))


def test_without_any_record_the_command_is_named(tmp_path):
    bare = prepared(tmp_path / "bare")
    with pytest.raises(
        DataError, match=rf"has pass rates recorded; .* `gpg-vl data difficulty {bare} --model"
    ):
        choose([bare], DifficultyConfig(min=0.5))


def test_rows_without_record_can_be_refused(folder):
    with pytest.raises(DataError, match=r"1 of the 12 rows of .* no recorded pass rate, such as '11'"):
        choose([folder], DifficultyConfig(missing="refuse"))


def test_no_row_left_says_why(tmp_path):
    name = prepared(tmp_path / "d", range(2))
    write_record(name, "m", {"0": PassRate(0, 4), "1": PassRate(4, 4)}, {"model": "m"})
    with pytest.raises(
        DataError, match=r"no row of .*: 2 rows .* 1 always right and 1 never right are left out"
    ):
        choose([name], DifficultyConfig(exclude_solved=True, exclude_unsolved=True))


def test_a_record_of_other_questions_is_refused(tmp_path):
    name = prepared(tmp_path / "d", range(2))
    write_record(name, "m", {"0": PassRate(0, 4), "x": PassRate(4, 4)}, {"model": "m"})
    with pytest.raises(DataError, match="other questions: 1 of its 2 ids are not in the set, such as 'x'"):
        choose([name], DifficultyConfig())


def test_the_digest_follows_rows_and_rates(folder):
    """And nothing else: not the record's name, not when it was made."""
    wanted = DifficultyConfig()
    first = choose([folder], wanted).digest
    write_record(folder, "again", RATES, {"model": "again"})
    assert choose([folder], wanted).digest == first
    assert choose([folder], DifficultyConfig(min=0.1)).digest != first
    write_record(folder, "more", {**RATES, "5": PassRate(10, 20)}, {"model": "m"})
    assert choose([folder], wanted).digest != first


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min": 0.6, "max": 0.4}, "min at most max, got 0.6 and 0.4"),
        ({"min": -0.1}, "shares from 0 to 1"),
        ({"max": 1.5}, "shares from 0 to 1"),
        ({"missing": "skip"}, r"data\.difficulty\.missing must be one of 'keep', 'drop', 'refuse'"),
    ],
)
def test_bounds_that_cannot_be(values, message):
    with pytest.raises(ConfigurationError, match=message):
        DifficultyConfig(**values)


def test_settings_that_do_not_go_together():
    with pytest.raises(ConfigurationError, match="record 'm' changes nothing by itself"):
        DataConfig(["d"], difficulty=DifficultyConfig(record="m"))
    with pytest.raises(ConfigurationError, match=r"weighted draws an order: leave data\.shuffle on"):
        DataConfig(["d"], shuffle=False, curriculum="weighted")
    assert not DataConfig(["d"]).by_difficulty
    assert DataConfig(["d"], curriculum="easy_first").by_difficulty
    assert DataConfig(["d"], difficulty=DifficultyConfig(missing="refuse")).by_difficulty


def test_python_takes_the_sections(tmp_path):
    section = {"train": "d", "difficulty": {"min": 0.25, "exclude_solved": True}, "curriculum": "weighted"}
    config = configure(TrainConfig, None, {"model": "m", "data": section, "out": str(tmp_path / "run")})
    assert config.data.difficulty == DifficultyConfig(min=0.25, exclude_solved=True)
    assert config.data.curriculum == "weighted"


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs" / "math").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_math_recipes_have_it_as_an_option(recipe, tmp_path):
    """Off as they are; with the mark taken away it is what the authors' `medium` does."""
    assert not load_config(TrainConfig, ["--config", str(recipe)]).data.by_difficulty
    text, marks = re.subn(r"^  # (difficulty: )", r"  \1", recipe.read_text(), flags=re.MULTILINE)
    assert marks == 1
    (tmp_path / "medium.yaml").write_text(text)
    wanted = load_config(TrainConfig, ["--config", str(tmp_path / "medium.yaml")]).data.difficulty
    assert wanted == DifficultyConfig(exclude_unsolved=True, exclude_solved=True)
