"""Uploaded images: refused by their header if they are too large, before a pixel is decoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from PIL import Image

from gpg_vl.data.images import open_image, store
from gpg_vl.errors import DataError

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF")
"""What browsers and cameras write; Pillow knows more, some of them programs."""
_NAME = "the uploaded image"


class ClosedBlocks(gr.Blocks):
    """A page that fetches nothing: Gradio itself downloads an upload that is a web address, of any size."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Called with what a client sent, before Gradio looks at the files in it."""
        traverse(inputs, _refuse_address, is_file_obj_with_meta)
        super().validate_inputs(block_fn, inputs)


def _refuse_address(file: Mapping[str, Any]) -> None:
    if is_http_url_like(file["path"]):
        raise gr.Error("the image is a web address; download it and upload the file", print_exception=False)


def read_upload(upload: Mapping[str, Any], max_pixels: int) -> Image.Image:
    """The image in the form that prepared sets store: upright, 8 bits, RGB or grey.

    upload: what Gradio's Image component holds before its `preprocess`, which opens the file itself.
    Raises DataError for a file that nobody uploaded, no image, another format, or one of more than
    `max_pixels`; nothing is decoded then.
    """
    opened = open_image(_uploaded(upload.get("path")), _NAME)
    if opened.format not in FORMATS:
        raise DataError(f"{_NAME} is {opened.format}; choose one of {', '.join(FORMATS)}")
    width, height = opened.size
    if width * height > max_pixels:
        raise DataError(
            f"{_NAME} has {width}×{height} pixels, {width * height / 1e6:.1f} million; the limit is "
            f"{max_pixels / 1e6:g} million: make it smaller"
        )
    image = open_image(store(opened, _NAME).data, _NAME)
    image.load()  # here: two models read it at the same time, and Pillow decodes on the first look
    return image


def _uploaded(path: object) -> Path:
    """The file, if it lies where Gradio keeps uploads: its own check looks only at paths that call
    themselves files (`meta`), and clients send what they like."""
    file = Path(path).resolve() if isinstance(path, str) else None
    if file is None or not file.is_relative_to(Path(get_upload_folder()).resolve()):
        raise DataError(f"{_NAME} is no uploaded file")
    return file
