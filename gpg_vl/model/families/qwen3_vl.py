"""Qwen3-VL, dense and mixture of experts: Qwen2-VL with features of inner layers of the tower (DeepStack)."""

from typing import Any

from torch import Tensor

from gpg_vl.errors import ModelError
from gpg_vl.model.families.family import VisionSizes
from gpg_vl.model.families.qwen2_vl import Qwen2VL, tower_sizes
from gpg_vl.model.packing import PackedBatch
from gpg_vl.model.vision import ImageFeatures


class Qwen3VL(Qwen2VL):
    """Boxes are on a grid from 0 to 1000 along each side (arXiv 2511.21631)."""

    def prepare(self, model: Any) -> None:
        super().prepare(model)
        text = self.text_model(model)
        if not hasattr(text, "_deepstack_process"):
            raise ModelError("this version of transformers adds DeepStack's features in an unknown way")
        text._deepstack_process = _added_at  # its own asks the device for places by a mask, twice a layer

    def extra_inputs(self, batch: PackedBatch, features: ImageFeatures) -> dict[str, Any]:
        """DeepStack: each layer's features are added behind one of the first text layers."""
        layers = [layer[batch.image_features] for layer in features.layers]
        return {"visual_pos_masks": batch.image_slots, "deepstack_visual_embeds": layers}

    def vision_sizes(self, config: Any) -> VisionSizes:
        vision = config.vision_config
        deep = len(vision.deepstack_visual_indexes)
        widths = vision.hidden_size, vision.intermediate_size
        return tower_sizes(config, *widths, projections=1 + deep, taps=4)


def _added_at(hidden: Tensor, slots: Tensor, features: Tensor) -> Tensor:
    """(R, S, H) with features (image tokens, H) added at slots (image tokens,) into R·S."""
    return hidden.flatten(0, 1).index_add(0, slots, features.to(hidden.dtype)).view_as(hidden)


class Qwen3VLMoe(Qwen3VL):
    """With a router and experts in place of feed-forward parts."""

    transposed_experts = True
    tolerance = 5e-6  # an expert reads the tokens that chose it together, and those of other rows differ


qwen3_vl = Qwen3VL()
qwen3_vl_moe = Qwen3VLMoe()
