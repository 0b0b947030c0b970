import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.overlap import find_overlap, fingerprints, overlap_report, overlap_warning
from gpg_vl.data.prepared import HASHES
from gpg_vl.data.rows import question_hash
from gpg_vl.errors import DataError
from gpg_vl.types import Sample
from tests.support.inputs import noise


def sample(name, question, *seeds, choices=("x", "y")):
    images = tuple(noise(9, 7, seed) for seed in seeds)
    return Sample(name, "t", question, "(A)", "choice", choices, images)


def write(folder, *samples):
    write_prepared(samples, folder, source="", converter="c", version="1")
    return str(folder)


@pytest.fixture
def sets(tmp_path):
    one = write(
        tmp_path / "one",
        sample("a0", "How many?", 0),
        sample("a1", "Which one?", 1, 2),
        sample("a2", "Text only?"),
        sample("a3", "How many?", 3),
    )
    other = write(
        tmp_path / "other",
        sample("b0", " how  MANY?", 0, choices=("y", "x")),  # the same item, written differently
        sample("b1", "What else?", 2),  # one of two images
        sample("b2", "text only?"),
        sample("b3", "Quite new?", 9),
        sample("b4", "How many?", 0),
    )
    return one, other


def test_overlap_in_both_directions(sets):
    one, other = sets
    overlap = find_overlap([one], [other])
    assert overlap.rows == (4, 5)
    found = {kind: (shared.first, shared.second, shared.pairs) for kind, shared in overlap.shared.items()}
    assert found == {
        "items": (2, 3, (("a0", "b0"), ("a2", "b2"))),
        "images": (2, 3, (("a0", "b0"), ("a1", "b1"))),
        "questions": (3, 3, (("a0", "b0"), ("a2", "b2"), ("a3", "b0"))),
    }
    report = overlap_report(overlap, examples=1)
    assert (
        "items:     2 rows of A (50.0%) share the same images and question with B; 3 rows of B (60.0%)"
        in report
    )
    assert report.count("  A a0  =  B b0") == 3 and "a2" not in report


def test_hashes_are_computed_where_none_were_written(sets, tmp_path):
    for folder in sets:
        written = fingerprints([folder])
        (tmp_path / folder / HASHES).unlink()
        assert fingerprints([folder]) == written
    with pytest.raises(DataError, match="is not a prepared data set"):
        fingerprints([str(tmp_path / "none")])


def test_a_warning_is_about_items_then_images_and_never_about_questions_alone(tmp_path, sets):
    one, other = sets
    assert overlap_warning([one], [other]).startswith(
        f"warning: 3 of the 5 rows of {other} are in the training"
    )
    images = write(tmp_path / "images", sample("c", "New?", 0), sample("d", "Newer?", 8))
    assert overlap_warning([one], [images]).startswith(f"note: 1 of the 2 rows of {images} show images")
    assert overlap_warning([images, one], [other]).startswith("warning: 3 of")
    questions = write(tmp_path / "questions", sample("e", "How many?", 7))
    assert overlap_warning([one], [questions]) is None


def test_questions_are_compared_without_case_spacing_and_order_of_choices():
    same = {
        question_hash("How many?", ("one", "two")),
        question_hash("how\n MANY? ", ("Two", " one")),
    }
    assert len(same) == 1
    others = [("How many?", ("one",)), ("How many? one", ("two",)), ("How many", ("one", "two"))]
    assert len(same | {question_hash(*other) for other in others}) == 4
