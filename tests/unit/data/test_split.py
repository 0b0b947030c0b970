import json

import pytest

from gpg_vl.data.overlap import Fingerprint, find_overlap
from gpg_vl.data.prepared import SKIPPED, PreparedDataset
from gpg_vl.data.split import choose_sides, write_split
from gpg_vl.data_prep.jsonl import jsonl
from gpg_vl.errors import DataError
from tests.support.inputs import noise

GIVEN = {"source": "rows", "converter": "jsonl", "version": "3"}


def rows(count, question="How many of {}?"):
    """Every second row shows its neighbour's image."""
    pictures = [noise(8, 8, seed=number) for number in range(count // 2)]
    return [
        {"id": str(n), "question": question.format(n), "answer": n, "answer_type": "number"}
        | {"image": pictures[n // 2]}
        for n in range(count)
    ]


def ids(folder):
    return PreparedDataset.open([str(folder)]).column("id")


def test_no_image_and_no_question_is_on_both_sides(tmp_path):
    given = rows(60)
    given[9]["question"] = given[40]["question"]
    split = write_split(jsonl(given), tmp_path / "d", 0.3, **GIVEN)
    train, validation = ids(tmp_path / "d"), ids(tmp_path / "d_validation")
    assert sorted(train + validation, key=int) == [str(n) for n in range(60)]
    assert 6 <= len(validation) <= 30 and split.questions_apart
    found = find_overlap([str(tmp_path / "d")], [str(tmp_path / "d_validation")])
    assert {kind: shared.first for kind, shared in found.shared.items()} == dict.fromkeys(found.shared, 0)
    assert (split.whole["rows"], split.train["rows"]) == (60, len(train))
    assert {entry.name for entry in tmp_path.iterdir()} == {"d", "d_validation"}


def test_the_same_rows_are_on_the_same_side(tmp_path):
    given = rows(40)
    write_split(jsonl(given), tmp_path / "a", 0.3, **GIVEN)
    write_split(jsonl(given[::-1]), tmp_path / "b", 0.3, **GIVEN)
    write_split(jsonl(given[:20]), tmp_path / "c", 0.3, **GIVEN)
    assert set(ids(tmp_path / "a_validation")) == set(ids(tmp_path / "b_validation"))
    assert set(ids(tmp_path / "c_validation")) <= set(ids(tmp_path / "a_validation"))


def test_questions_of_a_template_are_on_both_sides_and_images_are_not(tmp_path):
    split = write_split(jsonl(rows(40, "How many cubes?")), tmp_path / "d", 0.3, **GIVEN)
    found = find_overlap([str(tmp_path / "d")], [str(tmp_path / "d_validation")]).shared
    assert not split.questions_apart
    assert found["images"].first == 0 and found["questions"].first > 0


def test_rows_are_tied_through_others():
    chain = [Fingerprint(str(n), f"q{n}", (f"i{n}", f"i{n + 1}")) for n in range(5)]
    others = [Fingerprint(f"x{n}", f"Q{n}", ()) for n in range(200)]
    for share in (0.2, 0.5, 0.8):
        sides, apart = choose_sides([*chain, *others], share)
        assert len(set(sides[:5])) == 1 and apart
        assert abs(sum(sides[5:]) / 200 - share) < 0.1


def test_what_was_skipped_is_listed_beside_the_first_part(tmp_path):
    split = write_split(jsonl([*rows(40), {"question": "Q?", "answer": 1}]), tmp_path / "d", 0.3, **GIVEN)
    assert split.whole["skipped"] == {"missing answer_type": 1}
    (line,) = (tmp_path / "d" / SKIPPED).read_text().splitlines()
    assert json.loads(line)["row"] == 40


def test_what_cannot_be_parted_is_not_written(tmp_path):
    one = {"question": "Q?", "answer": 1, "answer_type": "number", "image": noise(8, 8)}
    with pytest.raises(DataError, match=r"a share of 0\.3 for validation leaves one part of 3 rows empty"):
        write_split(jsonl([one | {"id": str(n)} for n in range(3)]), tmp_path / "d", 0.3, **GIVEN)
    assert not list(tmp_path.iterdir())
