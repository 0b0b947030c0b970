"""Qwen3.5, dense and mixture of experts: Qwen3-VL's tower; three of four layers carry a state."""

from typing import Any

from gpg_vl.model.families.family import FULL, VisionSizes
from gpg_vl.model.families.qwen2_vl import Qwen2VL, tower_sizes
from gpg_vl.model.forked import fork_states


class Qwen35(Qwen2VL):
    """Boxes are on a grid from 0 to 1000 along each side, as Qwen3-VL's."""

    recurrent = True
    tolerance = 5e-5  # states are sums over the whole text, which other rows add up in another order
    layer_kinds = (FULL, "linear_attention")
    lora_targets = r"layers\.\d+\.(?:self_attn|linear_attn|mlp)\.\w*proj\w*"

    def prepare(self, model: Any) -> None:
        super().prepare(model)
        fork_states(self.text_model(model))

    def vision_sizes(self, config: Any) -> VisionSizes:
        vision = config.vision_config
        return tower_sizes(config, vision.hidden_size, vision.intermediate_size, taps=4)


qwen3_5 = Qwen35()
