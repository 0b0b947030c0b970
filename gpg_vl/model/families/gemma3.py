"""Gemma 3: each image is 256 tokens that read each other; five of six layers have a sliding window."""

from typing import Any

from gpg_vl.model.families.tiled import TiledFamily
from gpg_vl.prompting.image_reader import Size, TileReader


class Gemma3Reader(TileReader):
    """An image is brought to 896×896, whatever its shape."""

    @property
    def slot(self) -> str:
        # the processor's image_token is what its templates write, <start_of_image>
        return str(self.processor.tokenizer.image_token)

    def expansion(self, size: Size) -> str:
        return str(self.processor.full_image_sequence)


class Gemma3(TiledFamily):
    """It was pretrained with no convention for boxes: pixels of the stored image."""

    text_part = "language_model"
    vision_parts = ("vision_tower", "multi_modal_projector")
    reader = Gemma3Reader
    placeholder = "<start_of_image>"
    image_markup = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
    bidirectional_images = True

    def patches_per_token(self, config: Any) -> int:
        return int(
            (config.vision_config.image_size // config.vision_config.patch_size) ** 2
            // config.mm_tokens_per_image
        )


gemma3 = Gemma3()
