"""Uploaded images: which files are some, and when they are decoded."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from PIL import Image

from gpg_vl.errors import DataError

from .decoding import decoded, look

NAME = "the uploaded image"


class ClosedBlocks(gr.Blocks):
    """A page that fetches nothing: Gradio itself downloads an upload that is a web address, of any size."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Called with what a client sent, before Gradio looks at the files in it."""
        traverse(inputs, _refuse_address, is_file_obj_with_meta)
        super().validate_inputs(block_fn, inputs)


def _refuse_address(file: Mapping[str, Any]) -> None:
    if is_http_url_like(file["path"]):
        raise gr.Error("the image is a web address; download it and upload the file", print_exception=False)


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
    kept = file is not None and file.is_relative_to(Path(get_upload_folder()).resolve())
    if file is None or not kept or not file.is_file():
        raise DataError(f"{NAME} is no uploaded file")
    return file
