"""Written answers as rewards see them: for text that comes from a file or a probe, not from a rollout."""

from collections.abc import Callable
from functools import partial

from gpg_vl.errors import DataError
from gpg_vl.prompting.prompts import BoxSpace, View, convert_box, parse_completion
from gpg_vl.types import Box, Completion, FinishReason, Sample


def stored_size(sample: Sample) -> tuple[int, int] | None:
    """Width and height in pixels of the first image, or else of `meta["size"]`; None if neither is there."""
    if sample.images:
        return sample.images[0].size
    size = sample.meta.get("size")
    if size is None:
        return None
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(_is_length(side) for side in size)):
        raise DataError(f"sample {sample.id!r}: meta.size must be [width, height] in pixels, got {size!r}")
    return size[0], size[1]


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def view_of(sample: Sample, space: BoxSpace) -> View:
    """How a model would see the sample's image if nothing resized it.

    Raises DataError if boxes in `space` cannot be understood without the image's size.
    """
    size = stored_size(sample)
    if size is None and space == "grid":
        raise DataError(
            f"sample {sample.id!r} has boxes on the 0-1000 grid, and no size to convert them with; "
            "give an image, or meta.size as [width, height] in pixels"
        )
    known = size or (1, 1)  # boxes in pixels stay as they are, whatever the size
    return View(known, known)


def to_image(sample: Sample, space: BoxSpace) -> Callable[[Box], Box] | None:
    """Takes boxes of an answer to pixels of the stored image; None if the sample asks for none."""
    if sample.answer_type != "boxes":
        return None
    return partial(convert_box, source=space, target="image", view=view_of(sample, space))


def read_transcript(
    text: str,
    sample: Sample,
    *,
    space: BoxSpace,
    think_opened: bool = False,
    token_count: int | None = None,
    finish_reason: FinishReason = "eos",
) -> Completion:
    """The completion that `text` is, with boxes in `space`.

    Without a `token_count` every word counts as one token, which is fewer than a tokenizer would make.
    Raises DataError where boxes cannot be converted.
    """
    return parse_completion(
        text,
        think_opened=think_opened,
        token_count=max(1, len(text.split())) if token_count is None else token_count,
        finish_reason=finish_reason,
        to_image=to_image(sample, space),
    )
