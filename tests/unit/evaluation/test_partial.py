import json

from gpg_vl.evaluation.partial import PartialFile

RUN = {"model": "m", "sampling": {"stop": ("</answer>",)}}


def test_items_come_back_with_their_rows(tmp_path):
    path = tmp_path / "a.partial.jsonl"
    first = PartialFile(path, RUN)
    assert first.items == {} and not first.note
    first.append({7: {"id": "x"}, 2: {"id": "é"}})
    first.append({3: {"id": "z"}})
    again = PartialFile(path, RUN)
    assert again.items == {7: {"id": "x"}, 2: {"id": "é"}, 3: {"id": "z"}}
    assert "after 3 answered" in again.note


def test_half_a_line_is_dropped_and_written_over(tmp_path):
    path = tmp_path / "a.partial.jsonl"
    PartialFile(path, RUN).append({0: {"id": "x"}})
    with path.open("a") as file:
        file.write('[1, {"id": "y')
    again = PartialFile(path, RUN)
    again.append({2: {"id": "z"}})
    assert PartialFile(path, RUN).items == {0: {"id": "x"}, 2: {"id": "z"}}


def test_half_a_header_is_no_evaluation(tmp_path):
    path = tmp_path / "a.partial.jsonl"
    path.write_text('{"model": "m"')
    assert PartialFile(path, RUN).items == {}
    assert json.loads(path.read_text())["model"] == "m"


def test_another_evaluation_starts_anew(tmp_path):
    path = tmp_path / "a.partial.jsonl"
    PartialFile(path, RUN).append({0: {"id": "x"}})
    other = PartialFile(path, {**RUN, "model": "n", "seed": 1})
    assert other.items == {} and "model, seed differ" in other.note
    assert PartialFile(path, RUN).items == {}  # the other's header stands there now
