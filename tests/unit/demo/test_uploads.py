"""Uploads: limits by the header, formats, and whose files may be read."""

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import psutil
import pytest
from PIL import Image

from gpg_vl.demo.service.uploads import ClosedBlocks, Upload
from gpg_vl.errors import DataError
from tests.support.inputs import bomb
from tests.support.waiting import running, until

LIMIT = 10_000


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Where Gradio keeps uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


def read(path: Path) -> Image.Image:
    return Upload({"path": str(path)}, LIMIT).image()


def test_an_upload_comes_in_the_stored_form(folder):
    image = Image.new("RGBA", (60, 40), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(folder / "a.png", exif=exif)
    shown = read(folder / "a.png")
    assert shown.fp is None  # decoded: threads share it
    assert (shown.mode, shown.size, shown.getpixel((0, 0))) == ("RGB", (40, 60), (255, 255, 255))


def test_a_decoder_that_was_killed_is_replaced(folder):
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    read(folder / "a.png")
    decoders = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    for decoder in decoders:
        decoder.kill()
        until(lambda pid=decoder.pid: not running(pid))
    for last in (False, True):
        try:
            assert read(folder / "a.png").size == (60, 40)
        except DataError as error:  # given to the process that had just been killed
            assert "just now: try again" in str(error) and not last


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (101, 100, "101×100 pixels, 0.0 million; the limit is 0.01 million"),
        (60_000, 60_000, "decompression bomb"),
    ],
)
def test_too_many_pixels_are_refused_by_the_header(folder, width, height, message):
    """The file has no pixels: decoding would have complained of those."""
    with pytest.raises(DataError, match=message):
        read(bomb(folder / "bomb.png", width, height))


def test_other_files_are_refused(folder, tmp_path):
    (folder / "a.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(folder / "program.eps")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    outside = "is no uploaded file"
    for path, message in [
        (folder / "a.png", "no image"),
        (folder / "program.eps", "is EPS; choose one of PNG"),
        (tmp_path / "secret.png", outside),
        (folder / ".." / "secret.png", outside),
        (folder / "link.png", outside),
    ]:
        with pytest.raises(DataError, match=message):
            read(path)
    with pytest.raises(DataError, match=outside):
        Upload({"url": "data:image/png;base64,AAAA"}, LIMIT)


@pytest.mark.parametrize(
    ("component", "sent", "message"),
    [
        (gr.Number, float("nan"), "no number"),
        (gr.Slider, 1e300, "no number"),
        (gr.Number, "3", "no number"),
        (gr.Number, True, "no number"),
        (gr.Textbox, 5, "no text"),
        (gr.Textbox, {"path": "/etc/passwd"}, "no text"),
        (gr.Textbox, "a\ud800", "half of a character"),
        (gr.Dropdown, ["a"], "no text"),
        (gr.Image, "/etc/passwd", "no uploaded file"),
        (gr.Image, {"path": "a\0b"}, "no uploaded file"),
        (gr.Image, {"path": "a" * 5000}, "no uploaded file"),
    ],
)
def test_what_a_component_cannot_hold_is_refused_in_words(component, sent, message):
    page = object.__new__(ClosedBlocks)  # a whole page would start an event loop
    event = SimpleNamespace(inputs=[component(label="<b>")], name="event")
    page.validate_inputs(event, [None])
    with pytest.raises(gr.Error, match=f"^.&lt;b&gt;: .*{message}"):
        page.validate_inputs(event, [sent])
    with pytest.raises(gr.Error, match="0 values were sent, and 1 are needed"):
        page.validate_inputs(event, [])


def test_a_list_in_which_nothing_is_chosen_yet_sends_an_empty_one():
    event = SimpleNamespace(inputs=[gr.Dropdown()], name="event")
    object.__new__(ClosedBlocks).validate_inputs(event, [[]])


def test_a_file_of_the_machine_is_refused_in_words(folder):
    page, event = object.__new__(ClosedBlocks), SimpleNamespace(inputs=[gr.Image()], name="event")
    upload = {"path": str(folder / "gone.png"), "meta": {"_type": "gradio.FileData"}}
    page.validate_inputs(event, [upload])
    for path in ("/etc/passwd", "file:///etc/passwd", f"{folder}/../a"):
        with pytest.raises(gr.Error, match="is no uploaded file"):
            page.validate_inputs(event, [{**upload, "path": path}])
