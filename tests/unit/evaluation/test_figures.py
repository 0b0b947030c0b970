import pytest

from gpg_vl.evaluation.benchmarks import BENCHMARKS, PREPARED
from gpg_vl.evaluation.figures import evaluation_table, official_score, score_name, summarize
from gpg_vl.stats import wilson

WEIGHTS = BENCHMARKS["cv_bench"].source_weights


def item(number, correct, *, task="t", source=None, samples=(), choices=("x", "y"), **scores):
    several = {"samples": [{"correct": float(one)} for one in samples]} if samples else {}
    return {
        **{"id": f"q-{number}", "task": task, "cluster": None, "source": source, "choices": list(choices)},
        **{"correct": float(correct), "graded": True, "scores": {"format": 1.0, **scores}, **several},
    }


def items(*scores, **fields):
    return [item(number, score, **fields) for number, score in enumerate(scores)]


def test_cv_benchs_official_score():
    flat = [*items(1, 0, source="ADE20K"), *items(1, 1, 1, 0, source="COCO")]
    rows = [*flat, *items(1, 0, 0, 0, source="Omni3D")]
    score = official_score(rows, WEIGHTS)
    assert score.mean == pytest.approx(((0.5 + 0.75) / 2 + 0.25) / 2)  # 0.4375; plain accuracy is 0.5
    assert score.low < score.mean < score.high and score.count == 10
    assert official_score(flat, WEIGHTS) is None
    assert official_score(rows, {}) is None


def test_geoqa_has_a_column_of_lenient_accuracy():
    rows = [item(0, 0, lenient=1.0), item(1, 1, lenient=1.0), item(2, 0, lenient=None)]
    summary = summarize(rows, BENCHMARKS["geoqa"])
    assert summary["totals"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    assert summary["totals"]["lenient"] == vars(wilson(2, 3))  # what no reward can read is wrong in both
    table = evaluation_table({**summary, "benchmark": "geoqa", "samples": 1, "items": rows})
    assert "| accuracy | 95 % interval | lenient accuracy |" in table and "66.7%" in table


def test_totals_and_tasks():
    rows = [*items(1, 1, 0, task="a"), *items(0, task="b", choices=("x", "y", "z", "w"))]
    summary = summarize(rows, PREPARED)
    assert summary["totals"]["accuracy"] == vars(wilson(2, 4))
    assert summary["tasks"]["a"]["accuracy"] == vars(wilson(2, 3))
    assert summary["totals"]["chance"] == summary["chance"] == (3 / 2 + 1 / 4) / 4
    assert summary["tasks"]["b"]["chance"] == 0.25
    assert summary["ungraded"] == 0


def test_pass_at_k_of_eight_answers():
    rows = [
        item(0, 2 / 8, samples=[1, 1, 0, 0, 0, 0, 0, 0]),
        item(1, 0, samples=[0] * 8),
        item(2, 1, samples=[1] * 8),
    ]
    totals = summarize(rows, PREPARED)["totals"]
    assert [name for name in totals if name.startswith("pass")] == ["pass@2", "pass@4", "pass@8"]
    # 1 - C(6,k)/C(8,k): 13/28 for 2, 55/70 for 4, 1 for 8.
    for k, first in ((2, 13 / 28), (4, 55 / 70), (8, 1.0)):
        assert totals[f"pass@{k}"]["mean"] == pytest.approx((first + 0 + 1) / 3)
    assert totals["accuracy"]["mean"] == pytest.approx((0.25 + 0 + 1) / 3)


def test_pass_at_k_is_for_right_and_wrong():
    rows = [item(0, 0.5, samples=[0.25, 0.75])]
    assert "pass@2" not in summarize(rows, PREPARED)["totals"]
    assert list(BENCHMARKS["lisa"].measures) == ["mean_iou", "giou"]


def test_questions_without_masks_are_left_out_of_giou():
    rows = [
        item(0, 1, choices=(), iou=0.6, mask_iou=0.5),
        item(1, 0, choices=(), iou=0.2, mask_iou=None),
        item(2, 1, choices=(), iou=1.0, mask_iou=0.1),
    ]
    totals = summarize(rows, BENCHMARKS["lisa"])["totals"]
    assert totals["mean_iou"]["mean"] == pytest.approx(0.6) and totals["mean_iou"]["count"] == 3
    assert totals["giou"]["mean"] == pytest.approx(0.3) and totals["giou"]["count"] == 2
    assert "giou" not in summarize([rows[1]], BENCHMARKS["lisa"])["totals"]


def table(rows, benchmark, samples=1):
    figures = summarize(rows, benchmark)
    evaluation = {"benchmark": benchmark.name, "samples": samples, "items": rows, **figures}
    return evaluation_table(evaluation).splitlines()


def test_an_overlap_without_a_threshold_is_a_mean_iou():
    boxed, plain = {"boxes": []}, {"answer": "(A)"}
    several = {"samples": [boxed, boxed]}

    def named(benchmark, *rows):
        return score_name({"benchmark": benchmark, "items": rows})

    assert named("prepared", boxed, several) == named("another", boxed) == "mean IoU"
    assert named("refcoco", boxed) == "Acc@0.5"
    assert named("prepared", boxed, plain) == "mean score"
    assert (named("prepared", plain), named("math500", plain)) == ("accuracy", "pass@1")


def test_the_table_has_the_benchmarks_figures():
    head, _, row, total = table(items(1, 0, choices=(), iou=0.5, mask_iou=None), BENCHMARKS["lisa"])
    assert head == "| task | questions | chance | Acc@0.5 | 95 % interval | mIoU | format |"
    assert row == "| t | 2 | – | 50.0% | 9.5% to 90.5% | 50.0% (9.5% to 90.5%) | 100.0% |"
    assert total.startswith("| total | 2 |")
    assert "| pass@1 |" in table(items(1, 0), BENCHMARKS["math500"])[0]
    head = table([item(0, 0.5, samples=[1, 0])], BENCHMARKS["math500"], samples=2)[0]
    assert "| mean@2 | 95 % interval | pass@2 |" in head


def test_notes_stand_below_the_table():
    rows = [item(number, 1, source=source) for number, source in enumerate(WEIGHTS)]
    rows[0]["graded"] = False
    lines = table(rows, BENCHMARKS["cv_bench"])
    assert lines[-2] == "official score (ADE20K, COCO, Omni3D): 100.0% (51.4% to 100.0%)"
    assert lines[-1].startswith("1 questions whose gold answer")


@pytest.mark.parametrize(
    ("evaluation", "name"),
    [
        ({"items": [{}]}, "accuracy"),
        ({"items": [{"boxes": []}, {"boxes": [[0, 0, 9, 9]]}]}, "mean IoU"),
        ({"items": [{"samples": [{"boxes": []}]}], "samples": 2}, "mean IoU"),
        ({"items": [{"boxes": []}, {}]}, "mean score"),
        ({"items": [{"samples": [{}, {}]}], "samples": 2}, "mean@2"),
        ({"items": [{"boxes": []}], "benchmark": "refcoco"}, "Acc@0.5"),
        ({"items": [{}], "benchmark": "math500"}, "pass@1"),
    ],
)
def test_a_score_is_called_what_it_is(evaluation, name):
    assert score_name(evaluation) == name
