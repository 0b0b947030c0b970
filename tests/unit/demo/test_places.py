"""Where a question stands, as the page tells it; and the picker's number."""

import json

import pytest

from gpg_vl.data.ingest import write_prepared
from gpg_vl.demo.parts.controls import numbered, step
from gpg_vl.demo.service.samples import Place, PreparedSets
from gpg_vl.errors import DataError


@pytest.fixture
def sets(scenes_folder) -> PreparedSets:
    return PreparedSets([str(scenes_folder)])


def test_a_place_outlives_the_server(sets, scenes_folder):
    place = Place(str(scenes_folder), 3)
    assert PreparedSets([str(scenes_folder)]).placed(sets.sent(place)) == place
    assert sets.sent(None) == "" and sets.placed("") is None and sets.placed(None) is None


def test_another_set_in_the_same_folder_is_told(tmp_path, scene_samples):
    folder, place = str(tmp_path / "set"), Place(str(tmp_path / "set"), 1)
    options = {"source": "", "converter": "test", "version": "1"}
    write_prepared(scene_samples[:3], tmp_path / "set", **options)
    sent = PreparedSets([folder]).sent(place)
    (tmp_path / "set").rename(tmp_path / "old")
    write_prepared(scene_samples[2::-1], tmp_path / "set", **options)  # its middle one stays where it was
    with pytest.raises(DataError, match="reload the page"):
        PreparedSets([folder]).placed(sent)


@pytest.mark.parametrize(
    "change", [{"folder": "/etc"}, {"row": 4}, {"row": 10**9}, {"row": -1}, {"id": "x"}, {"content": ""}]
)
def test_a_place_that_does_not_agree_is_refused(sets, scenes_folder, change):
    told = json.loads(sets.sent(Place(str(scenes_folder), 3)))
    with pytest.raises(DataError, match="reload the page"):
        sets.placed(json.dumps({**told, **change}))


@pytest.mark.parametrize(
    "sent", ["{", "[]", "7", '{"folder": "a"}', '{"folder": "a", "row": null}', {"row": 1}]
)
def test_a_page_sends_anything(sets, sent):
    with pytest.raises(DataError, match="reload"):
        sets.placed(sent)


@pytest.mark.parametrize(
    ("number", "typed", "shown"),
    [
        (3, False, {"label": "Question 3 of 1,640", "value": 3}),
        (3, True, {"label": "Question 3 of 1,640"}),  # what is being typed stays
        (9999, True, {"label": "Question 1,640 of 1,640", "value": 1640}),
        (0, True, {"label": "Question 1 of 1,640", "value": 1}),
    ],
)
def test_the_number_is_bounded(number, typed, shown):
    update = numbered(number, 1640, typed=typed)
    assert {**shown, "maximum": 1640, "__type__": "update"} == update


def test_steps_go_round_and_begin_at_the_ends(sets, scenes_folder):
    folder = str(scenes_folder)
    task = sets.tasks(folder)[0]
    count = sets.count(folder, task)
    for number, by, expected in [(1, 1, 2), (count, 1, 1), (1, -1, count), (None, 1, 1), (None, -1, count)]:
        assert step(sets, folder, task, number, by) == expected
    assert 1 <= step(sets, folder, task, None, None) <= count
