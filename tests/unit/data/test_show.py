import weakref

import pytest
from PIL import Image

from gpg_vl.data.contact_sheet import _font, choose, draw_sheet, wrap
from gpg_vl.data.ingest import write_prepared
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.data.show import describe
from gpg_vl.errors import ModelError
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of


def write(folder, samples):
    write_prepared(samples, folder, source="src", converter="conv", version="2")
    return PreparedDataset.open([str(folder)])


def picture(path):
    with Image.open(path) as image:
        image.load()
    return image


def grey(width, height):
    return Image.new("RGB", (width, height), (90, 90, 90))


@pytest.fixture
def mixed(tmp_path):
    samples = [
        *(Sample(f"c{n}", "t/choice", "Q?", "(A)" if n else "(B)", "choice", ("x", "y")) for n in range(4)),
        *(Sample(f"n{n}", "t/number", "Q?", str(n // 2), "number") for n in range(16)),
        Sample("b", "t/boxes", "Where?", "[[1, 2, 30, 40], [5, 6, 7, 8]]", "boxes", (), (grey(60, 50),)),
        Sample("p", "t/boxes", "Where?", "[[1, 2, 30, 40]]", "boxes", (), (grey(100, 50), grey(70, 80))),
        Sample("bad", "t", "", "", "label"),
    ]
    return write(tmp_path / "d", samples)


def test_describe(mixed):
    lines = describe(mixed).splitlines()
    assert lines[0] == f"{mixed.folders[0]}: 22 rows, made by conv 2 from src"
    assert lines[1] == "  skipped: 1 empty question"
    assert [line.split(" | ", 1)[1].rstrip(" |") for line in lines if line.startswith("| t/")] == [
        "2    | boxes       | min 1, median 2, max 2 boxes",
        "4    | choice      | (A) 75.0%, (B) 25.0%",
        "16   | number      | 8 different; commonest 0 12.5%",
    ]
    assert lines[-3:] == [
        "images:   min 0, median 0, max 2 a row",
        "width:    min 60, median 70, max 100 pixels",
        "height:   min 50, median 50, max 80 pixels",
    ]


def test_rows_with_reasoning_are_counted(tmp_path):
    rows = [Sample(str(n), "t", "Q?", "3", "number", reasoning="1 + 2" * (n < 2)) for n in range(5)]
    assert "reasoning: 2 of 5 rows" in describe(write(tmp_path / "d", rows)).splitlines()


def test_prompt_lengths_are_those_that_training_sees(tmp_path, tiny_folder, policy, mixed_samples):
    data = write(tmp_path / "d", mixed_samples)
    lengths = sorted(encoder_of(policy).prompt_length(sample) for sample in mixed_samples)
    line = describe(data, str(tiny_folder)).splitlines()[-1]
    assert line.startswith(f"prompt:   min {lengths[0]}, median ")
    assert line.endswith(f", max {lengths[-1]} tokens, images included")
    with pytest.raises(ModelError, match=r"is not a model: it has no config\.json"):
        describe(data, str(tmp_path))


def test_the_sheet_draws_gold_boxes_where_they_are(tmp_path):
    sample = Sample("b", "t", "Where?", "[[10, 10, 50, 30]]", "boxes", (), (grey(100, 50),))
    path = draw_sheet(write(tmp_path / "d", [sample]), tmp_path / "new" / "sheet.png")
    sheet = picture(path)
    # The picture is as wide as the card's inside: 544 pixels from (56, 56), each of the image's 5.44.
    at = [
        sheet.getpixel((56 + round(x * 5.44), 56 + round(y * 5.44)))
        for x, y in ((10.8, 20), (30, 20), (80, 20))
    ]
    assert at[0] == (0x0A, 0x7D, 0x4F)
    assert at[1:] == [(90, 90, 90)] * 2


def test_the_sheet_takes_every_kind_of_row(mixed, tmp_path):
    sizes = [picture(draw_sheet(mixed, tmp_path / f"{n}.png", n)).size for n in (1, 3, 12)]
    assert [width for width, _ in sizes] == [28 + columns * 628 for columns in (1, 2, 4)]
    again = draw_sheet(mixed, tmp_path / "again.png", 12)
    assert again.read_bytes() == (tmp_path / "12.png").read_bytes()


@pytest.mark.parametrize(
    ("tasks", "count", "chosen"),
    [
        ("aaaa", 2, [0, 2]),
        ("aaaabb", 4, [0, 4, 2, 5]),
        ("baa", 9, [1, 0, 2]),
        ("abc", 2, [0, 1]),
    ],
)
def test_tasks_take_turns_on_the_sheet(tasks, count, chosen):
    assert choose(list(tasks), count) == chosen


@pytest.mark.parametrize("text", ["a few short words that wrap", "unbreakable" * 9, "", "x " * 200])
def test_wrapped_lines_fit(text):
    font = _font(20)
    lines = wrap(text, font, 120, 4)
    assert len(lines) <= 4
    assert all(font.getlength(line) <= 120 for line in lines)
    whole = "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert whole or lines[-1].endswith("…")


def test_one_row_at_a_time_is_in_memory(mixed, monkeypatch):
    alive = []
    peek = PreparedDataset.peek

    def watched(data, index):
        assert not [one for one in alive if one() is not None], "an image of an earlier row is still held"
        sample = peek(data, index)
        alive.extend(weakref.ref(image) for image in sample.images)
        return sample

    monkeypatch.setattr(PreparedDataset, "peek", watched)
    describe(mixed)
    assert len(alive) == 3
