"""InternVL in transformers' own format (the `-HF` checkpoints): images as tiles, plain positions."""

from dataclasses import replace
from typing import Any

from gpg_vl.model.families.family import VisionSizes
from gpg_vl.model.families.tiled import TiledFamily
from gpg_vl.prompting.image_reader import Size, TileReader


class InternVLReader(TileReader):
    """An image is cut into tiles of 448×448 by its shape, and one more shows all of it."""

    def expansion(self, size: Size) -> str:
        width, height = size
        # the processor's own settings go before its image processor's
        tiles = self.processor._get_num_multimodal_tokens([(height, width)]).num_image_patches
        return str(self.processor.replace_image_token({"num_patches": tiles}, 0))


class InternVL(TiledFamily):
    """Boxes are on a grid from 0 to 1000 along each side (arXiv 2504.10479)."""

    text_part = "language_model"
    vision_parts = ("vision_tower", "multi_modal_projector")
    reader = InternVLReader
    placeholder = "<IMG_CONTEXT>\n"
    image_markup = ("<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    box_space = "grid"
    text_kinds = ("qwen2", "qwen3")

    def patches_per_token(self, config: Any) -> int:
        return int(round(1 / config.downsample_ratio) ** 2)

    def vision_sizes(self, config: Any) -> VisionSizes:
        return replace(super().vision_sizes(config), scaled=True)


internvl = InternVL()
