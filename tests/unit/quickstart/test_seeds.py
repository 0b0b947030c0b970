"""What several seeds of the tour say together."""

import pytest
from PIL import Image

from gpg_vl.errors import ConfigurationError
from gpg_vl.quickstart.seeds import chances, figures, intervals, picture, tables
from gpg_vl.quickstart.tour import Tour, seeded

SUMMARIES = {
    4: {"base": (0.5, 0.25), "trained": (0.75, 0.5), "grpo": (0.7, 0.6)},
    9: {"base": (0.4, 0.35), "trained": (0.85, 0.6), "grpo": (0.9, 0.4)},
}


def summaries(*names: str) -> dict[int, dict]:
    """Of these models; every task counts the same."""
    return {seed: {name: shares(models[name]) for name in names} for seed, models in SUMMARIES.items()}


def shares(means: tuple[float, float]) -> dict:
    tasks = {
        task: {"accuracy": {"mean": mean}, "chance": mean / 2} for task, mean in zip("ab", means, strict=True)
    }
    return {"total": {"accuracy": {"mean": sum(means) / 2, "count": 640}, "chance": 0.2}, "tasks": tasks}


def rows(table: str) -> dict[str, list[str]]:
    lines = [line.strip("|") for line in table.splitlines() if "|" in line]
    first, *others = zip(*(map(str.strip, line.split("|")) for line in lines), strict=True)
    return {name: list(cells) for name, cells in zip(first, zip(*others, strict=True), strict=True)}


def test_tables_by_hand():
    by_seed, by_task = tables(summaries("base", "trained", "grpo")).split("by task")
    found = rows(by_seed)
    assert "on 640 held-out questions" in by_seed
    assert found["seed"] == ["warm start", "GPG", "GRPO", "GPG - warm start", "GPG - GRPO"]
    assert found["4"] == ["37.5", "62.5", "65.0", "+25.0", "-2.5"]
    assert found["9"] == ["37.5", "72.5", "65.0", "+35.0", "+7.5"]
    # 12.706205 is Student's t of one degree of freedom, and half of the two seeds' distance is 5 points
    assert found["mean (95 % over seeds)"][:3] == ["37.5", "67.5", "65.0"]
    assert found["mean (95 % over seeds)"][3] == "+30.0 (-33.5 to +93.5)"
    assert rows(by_task)["GPG"] == ["80.0", "55.0", "67.5"]


def test_one_seed_has_no_interval_and_no_rival_no_column():
    first = {4: summaries("base", "trained")[4]}
    assert "mean" not in rows(tables(first)) and "GRPO" not in tables(first)
    assert "differences" not in figures(first)


def test_the_picture_has_a_bar_for_each_model_and_task(tmp_path):
    found = summaries("base", "trained", "grpo")
    bars = intervals(found)
    assert list(bars) == ["warm start", "GPG", "GRPO"]
    assert all(list(tasks) == ["a", "b", "all"] for tasks in bars.values())
    assert bars["GPG"]["b"].mean == 0.55 and bars["GPG"]["b"].high == 1.0  # Student's own is beyond
    assert chances(found) == pytest.approx({"a": 0.225, "b": 0.15, "all": 0.2})
    with Image.open(picture(found, tmp_path / "seeds.png")) as image:
        assert image.width == 2000


def test_the_table_of_thinking_by_hand():
    halves = {
        4: {
            "with": {"base": (0.5, 12.6), "trained": (0.9, 13)},
            "without": {"base": (0.4, 4), "trained": (0.6, 4)},
        },
        9: {
            "with": {"base": (0.6, 13), "trained": (0.8, 9)},
            "without": {"base": (0.5, 4), "trained": (0.4, 4)},
        },
    }
    made = {
        seed: one
        | {
            "reasoning": {
                way: {at: half(*cell) for at, cell in of.items()} for way, of in halves[seed].items()
            }
        }
        for seed, one in summaries("base", "trained").items()
    }
    found = rows(tables(made).split("of several steps")[1])
    assert (
        found["seed"][:2] == ["with, warm start", "with, GPG"] and found["seed"][-1] == "GPG, with - without"
    )
    assert found["4"] == ["50.0 (13)", "90.0 (13)", "40.0 (4)", "60.0 (4)", "+30.0"]
    assert found["9"] == ["60.0 (13)", "80.0 (9)", "50.0 (4)", "40.0 (4)", "+40.0"]
    assert found["mean (95 % over seeds)"] == ["55.0", "85.0", "45.0", "50.0", "+35.0 (-28.5 to +98.5)"]
    assert figures(made)["reasoning"]["with trained"] == [0.9, 0.8]


def half(accuracy: float, tokens: float) -> dict:
    return {"total": {"accuracy": {"mean": accuracy}}, "tokens": tokens}


def test_every_seed_has_a_folder_of_its_own():
    tours = seeded(Tour(out="runs/x"), [3, 5])
    assert [(tour.seed, tour.out) for tour in tours] == [(3, "runs/x/seed_3"), (5, "runs/x/seed_5")]


@pytest.mark.parametrize(
    ("tour", "seeds", "words"),
    [
        (Tour(seed=2), [3], "choose one"),
        (Tour(), [3, 3], "twice: 3 3"),
        (Tour(), [3, -1], "--seeds must be from 0"),
    ],
)
def test_seeds_are_given_once(tour, seeds, words):
    with pytest.raises(ConfigurationError, match=words):
        seeded(tour, seeds)


def test_tours_in_python_are_told_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert Tour(out="~/t").out == "/home/me/t"
    with pytest.raises(ConfigurationError, match="--seed must be from 0"):
        Tour(seed=-1)


def test_another_rate_needs_another_run():
    with pytest.raises(ConfigurationError, match="add --compare grpo"):
        Tour(compare_learning_rate=1e-4)
