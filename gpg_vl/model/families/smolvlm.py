"""SmolVLM and Idefics3: images as rows and columns of tiles, and one more that shows all of it."""

from typing import Any

import torch

from gpg_vl.model.families.tiled import TiledFamily
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.vision import ImageFeatures
from gpg_vl.prompting.image_reader import Size, TileReader


class SmolVLMReader(TileReader):
    """Tiles are as large as the vision tower's images; tokens say each one's row and column."""

    def expansion(self, size: Size) -> str:
        width, height = size
        _, rows, columns = self.processor.image_processor.get_number_of_image_patches(height, width, {})
        return str(self.processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0))


class SmolVLM(TiledFamily):
    """It was pretrained with no convention for boxes: pixels of the stored image."""

    text_part = "text_model"
    vision_parts = ("vision_model", "connector")
    reader = SmolVLMReader
    placeholder = "<image>"
    text_kinds = ("llama",)
    image_markup = ("<image>", "<fake_token_around_image>", "<global-img>")

    def features(self, model: Any, batch: PackedBatch) -> ImageFeatures:
        assert batch.pixel_values is not None and batch.pixel_mask is not None
        tiles, mask = batch.pixel_values[None], batch.pixel_mask[None]  # of one text
        seen = model.model.get_image_features(tiles, mask, return_dict=True).pooler_output
        return ImageFeatures(torch.cat(list(seen)))

    def patches_per_token(self, config: Any) -> int:
        return int(config.scale_factor**2)


smolvlm = SmolVLM()
