"""How large a model sees an image: the one place that training, evaluation and the app all use."""

from PIL import Image
from qwen_vl_utils import smart_resize
from qwen_vl_utils.vision_process import to_rgb


def seen_size(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height, in pixels, that an image is brought to: multiples of `factor`, at least one each.

    Qwen2-VL's own rule within `min_pixels` and `max_pixels`, which wins where no size keeps both; at least
    one token (factor²). Raises ValueError for an image of more than 200:1.
    """
    limits = {"factor": factor, "max_pixels": max_pixels}
    tall, wide = smart_resize(height, width, min_pixels=min_pixels, **limits)
    if tall * wide > max_pixels:  # enlarged beyond it
        tall, wide = smart_resize(height, width, min_pixels=1, **limits)
    longest = max_pixels // factor**2 * factor  # of a strip that is one token thick
    return (wide or factor, min(tall, longest)) if wide < factor else (min(wide, longest), tall or factor)


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image as RGB in a `seen_size`, in one bicubic step."""
    rgb = image if image.mode == "RGB" else to_rgb(image)  # which would copy all of a large image
    return rgb.resize(size, Image.Resampling.BICUBIC)
