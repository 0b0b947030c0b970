"""Qwen3.5, dense and mixture of experts: Qwen3-VL's tower; three of four layers carry a state."""

from dataclasses import replace
from typing import Any

from gpg_vl.model.families.family import FULL, VisionSizes
from gpg_vl.model.families.qwen2_vl import Qwen25VL
from gpg_vl.model.forked import fork_states


class Qwen35(Qwen25VL):
    """Boxes are on a grid from 0 to 1000 along each side, as Qwen3-VL's."""

    box_space = "grid"
    recurrent = True
    tolerance = 5e-5  # states are sums over the whole text, which other rows add up in another order
    layer_kinds = (FULL, "linear_attention")
    lora_targets = r"layers\.\d+\.(?:self_attn|linear_attn|mlp)\.\w*proj\w*"

    def prepare(self, model: Any) -> None:
        super().prepare(model)
        fork_states(self.text_model(model))

    def vision_sizes(self, config: Any) -> VisionSizes:
        return replace(super().vision_sizes(config), gated=False, taps=4)


qwen3_5 = Qwen35()
