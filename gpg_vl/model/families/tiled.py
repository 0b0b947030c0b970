"""What families have in common whose images are tiles of one size, each of as many tokens."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from gpg_vl.model.families.family import Family, VisionSizes
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.vision import ImageFeatures


class TiledFamily(Family, ABC):
    """A tower of transformers' usual names, with layer norms and two matrices a layer."""

    def features(self, model: Any, batch: PackedBatch) -> ImageFeatures:
        seen = model.model.get_image_features(batch.pixel_values, return_dict=True).pooler_output
        return ImageFeatures(torch.cat(list(seen)))  # one for each tile

    @abstractmethod
    def patches_per_token(self, config: Any) -> int:
        """Patches of the tower that become one image token."""

    def vision_sizes(self, config: Any) -> VisionSizes:
        vision = config.vision_config
        patch = vision.patch_size
        return VisionSizes(
            layers=vision.num_hidden_layers,
            width=vision.hidden_size,
            feed_forward=vision.intermediate_size,
            patch=tuple(patch) if isinstance(patch, list | tuple) else (patch, patch),
            patches=self.patches_per_token(config),
        )
