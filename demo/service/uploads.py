"""Uploaded images: which files are some, and when they are decoded."""

import threading
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from PIL import Image

from gpg_vl.errors import DataError

from .decoding import decoded, look

NAME = "the uploaded image"
_LARGEST = 2**53
"""Of numbers that are sent: beyond, JavaScript itself has not every whole one."""
_LONGEST_PATH = 1000


class ClosedBlocks(gr.Blocks):
    """A page that fetches nothing: Gradio itself downloads an upload that is a web address, of any size.

    Nor does an event get what its components cannot hold: most take what was sent as it is.
    """

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Called with what a client sent, before Gradio looks at the files in it."""
        if len(inputs) < len(block_fn.inputs):
            raise _refusal(f"{len(inputs)} values were sent, and {len(block_fn.inputs)} are needed")
        for component, value in zip(block_fn.inputs, inputs, strict=False):
            if problem := _problem(component, value):
                name = getattr(component, "label", None) or "a hidden field"
                raise _refusal(f"{name}: {problem}; reload the page")
        traverse(inputs, _refuse_address, is_file_obj_with_meta)
        super().validate_inputs(block_fn, inputs)


def _refusal(line: str) -> gr.Error:
    return gr.Error(escape(line, quote=False), print_exception=False)


def _problem(component: Any, value: Any) -> str:
    """Why a value that a client sent is none that its component holds; "" if it is one, or unknown."""
    if value is None:
        return ""
    if isinstance(component, gr.Number | gr.Slider):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if number and abs(value) <= _LARGEST else "this is no number that is used here"
    if isinstance(component, gr.Dropdown) and value == []:
        return ""  # the page's word for a list in which nothing is chosen yet
    if isinstance(component, gr.Textbox | gr.Dropdown | gr.Radio):
        if not isinstance(value, str):
            return "this is no text"
        return "" if _is_unicode(value) else "this text holds half of a character"
    if isinstance(component, gr.Image):
        path = value.get("path") if isinstance(value, dict) else None
        if not isinstance(path, str) or len(path) > _LONGEST_PATH or "\0" in path or not _is_unicode(path):
            return "this is no uploaded file"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: no model, file or stream takes it
        return False
    return True


def _refuse_address(file: Mapping[str, Any]) -> None:
    if is_http_url_like(file["path"]):
        raise gr.Error("the image is a web address; download it and upload the file", print_exception=False)
    if not _is_kept(Path(file["path"])):
        raise gr.Error(f"{NAME} is no uploaded file", print_exception=False)


def _is_kept(file: Path) -> bool:
    """Whether it lies where Gradio keeps uploads, there or gone since."""
    return file.resolve().is_relative_to(Path(get_upload_folder()).resolve())


class Upload:
    """An uploaded image: its header is looked at once it is there, the rest when its turn has come."""

    def __init__(self, described: Mapping[str, Any], max_pixels: int) -> None:
        """described: what Gradio's Image component holds before its `preprocess`, which opens files itself.

        Raises DataError for a file that nobody uploaded, or what `look` refuses.
        """
        self._file, self._max_pixels = _uploaded(described.get("path")), max_pixels
        self.pixels = look(self._file, NAME, max_pixels)
        self._decoding = threading.Lock()
        self._image: Image.Image | None = None

    def image(self) -> Image.Image:
        """In the form that prepared sets store: upright, 8 bits, RGB or grey; decoded once for both models.

        Raises DataError if it cannot be.
        """
        with self._decoding:
            if self._image is None:
                self._image = decoded(self._file, NAME, self._max_pixels)
            return self._image


def _uploaded(path: object) -> Path:
    """The file, if it lies where Gradio keeps uploads: its own check looks only at paths that call
    themselves files (`meta`), and clients send what they like."""
    file = Path(path).resolve() if isinstance(path, str) else None
    if file is None or not _is_kept(file) or not file.is_file():
        raise DataError(f"{NAME} is no uploaded file")
    return file
