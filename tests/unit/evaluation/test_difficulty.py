"""From an evaluation's items to pass rates, and the table of these."""

from gpg_vl.data.difficulty import PassRate, Record
from gpg_vl.data.ingest import write_prepared
from gpg_vl.evaluation.difficulty import difficulty_table, pass_rates
from gpg_vl.types import Sample


def answer(correct, graded=True, **rewards):
    return {"correct": correct, "graded": graded, "rewards": rewards}


def test_graded_answers_are_counted_and_a_half_is_right():
    items = [
        {"id": "a", "samples": [answer(1.0), answer(0.5), answer(0.49), answer(0.0, graded=False)]},
        {"id": "none", "samples": [answer(0.0, graded=False)] * 2},
        {"id": "one", **answer(1.0)},
    ]
    assert pass_rates(items, step=4) == {"a": PassRate(2, 3, 4), "one": PassRate(1, 1, 4)}


def test_a_reward_of_ones_own_says_what_is_right():
    items = [{"id": "a", "samples": [answer(1.0, mine=0.2), answer(0.0, mine=0.7), answer(0.0, mine=None)]}]
    assert pass_rates(items, "mine") == {"a": PassRate(1, 2)}


def test_the_table_counts_by_task_with_exact_ends(tmp_path):
    rows = [Sample(str(n), "easy" if n > 5 else "hard", f"{n}?", "5", "number") for n in range(8)]
    write_prepared(rows, tmp_path / "d", source="", converter="c", version="1")
    counts = [(0, 8), (1, 8), (2, 8), (3, 8), (4, 8), (5, 8), (7, 8)]
    rates = {str(n): PassRate(*count) for n, count in enumerate([*counts])}
    rates["7"] = PassRate(8, 8)
    table = difficulty_table(str(tmp_path / "d"), Record("m", rates, {}))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == [
        "task",
        "rows",
        "0",
        "(0, .25]",
        "(.25, .5]",
        "(.5, .75]",
        "(.75, 1)",
        "1",
        "no record",
    ]
    assert cells[2:] == [
        ["easy", "2", "0", "0", "0", "0", "1", "1", "0"],
        ["hard", "6", "1", "2", "2", "1", "0", "0", "0"],
        ["total", "8", "1", "2", "2", "1", "1", "1", "0"],
    ]
    alone = difficulty_table(str(tmp_path / "d"), Record("m", {"0": PassRate(0, 1)}, {}))
    assert alone.splitlines()[-1].split("|")[-2].strip() == "7"
