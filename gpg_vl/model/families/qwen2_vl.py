"""Qwen2-VL and Qwen2.5-VL: images as grids of patches, with M-RoPE positions."""

from typing import Any, ClassVar

from gpg_vl.model.families.family import Family, VisionSizes
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.vision import VISION_ATTENTION, ImageFeatures, image_features, prepare_tower
from gpg_vl.prompting.image_reader import GridReader
from gpg_vl.prompting.prompts import BoxSpace


class Qwen2VL(Family):
    """Boxes are on a grid from 0 to 1000 along each side (arXiv 2409.12191)."""

    text_part = "language_model"
    vision_parts = ("visual",)
    reader = GridReader
    placeholder = "<|vision_start|><|image_pad|><|vision_end|>"
    image_markup = (
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "<|vision_pad|>",
    )
    box_space: ClassVar[BoxSpace] = "grid"
    mrope = True
    vision_attention = VISION_ATTENTION

    def prepare(self, model: Any) -> None:
        prepare_tower(model.model.visual)

    def features(self, model: Any, batch: PackedBatch) -> ImageFeatures:
        assert batch.pixel_values is not None
        return image_features(model.model, batch.pixel_values, batch.grid)

    def vision_sizes(self, config: Any) -> VisionSizes:
        width = config.vision_config.embed_dim
        feed_forward = int(width * config.vision_config.mlp_ratio)
        return tower_sizes(config, width, feed_forward, inner=3)  # quick GELU


class Qwen25VL(Qwen2VL):
    """Boxes are in pixels of the image as the model sees it (arXiv 2502.13923)."""

    box_space: ClassVar[BoxSpace] = "resized"

    def vision_sizes(self, config: Any) -> VisionSizes:
        vision = config.vision_config
        return tower_sizes(config, vision.hidden_size, vision.intermediate_size, gated=True)


def tower_sizes(config: Any, width: int, feed_forward: int, **kinds: Any) -> VisionSizes:
    """Of a Qwen-VL's vision tower, whose widths have other names in each release; `kinds`: further sizes."""
    vision = config.vision_config
    return VisionSizes(
        layers=vision.depth,
        width=width,
        feed_forward=feed_forward,
        patch=(vision.patch_size, vision.patch_size),
        frames=vision.temporal_patch_size,
        patches=vision.spatial_merge_size**2,
        joint=True,
        **kinds,
    )


qwen2_vl = Qwen2VL()
qwen2_5_vl = Qwen25VL()
