"""bitsandbytes' AdamW with moments in 8 bits, for weights in fp32 or bf16; it imports bitsandbytes."""

from collections.abc import Iterable
from typing import Any

import torch
from bitsandbytes.optim import AdamW8bit
from bitsandbytes.optim.optimizer import GlobalOptimManager
from torch import Tensor

from gpg_vl.training.rounding import join, round_stochastically, split

REST = "rest"
"""In a weight's state: what bf16 leaves out of it."""


class LowMemoryAdam(AdamW8bit):
    """8-bit AdamW that steps bf16 weights in fp32, one weight at a time, and rounds them where they lie.

    A weight of fewer than 4,096 numbers has moments in fp32. Source: arXiv 2110.02861.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, rounding: str, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.rounding = rounding
        # Else it would follow what other code told bitsandbytes of its weights, found by their ids
        self.mng = GlobalOptimManager.__new__(GlobalOptimManager)
        self.mng.initialize()
        self.non_castable_tensor_keys.add(REST)

    def get_state_buffer(self, p: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Zeros in the order that the kernels go through a weight, whatever its strides are."""
        return torch.zeros(p.shape, dtype=dtype, device=p.device)

    @torch.no_grad()
    def update_step(self, group: dict[str, Any], p: Tensor, gindex: int, pindex: int) -> None:
        """Step a weight; one that the kernels cannot step in place by a copy in fp32.

        Not by other `data`: that would take a weight's hooks from DDP, and its memory from CUDA graphs.
        """
        if p.dtype == torch.float32 and p.is_contiguous():
            super().update_step(group, p, gindex, pindex)
            return
        assert p.grad is not None
        state = self.state[p]
        rest = state.pop(REST, None)
        wide = _fp32(p) if rest is None else join(p, rest)
        wide.grad = _fp32(p.grad)
        self.state[wide] = state
        try:
            super().update_step(group, wide, gindex, pindex)
        finally:
            del self.state[wide]
        wide.grad = None
        if p.dtype == torch.bfloat16:
            place = pindex * len(self.param_groups) + gindex
            wide = self._rounded(wide, state, place)
        p.copy_(wide)

    def _rounded(self, wide: Tensor, state: dict[str, Any], place: int) -> Tensor:
        """In bf16. The noise is that of the step and the weight: the same on all ranks, and when resumed."""
        if self.rounding == "kahan":
            weight, state[REST] = split(wide)
            return weight
        generator = torch.Generator(wide.device).manual_seed((state["step"] << 16) + place)
        return round_stochastically(wide, generator)

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizers: bitsandbytes nests some of it, for FSDP."""
        return torch.optim.Optimizer.state_dict(self)

    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        """As bitsandbytes does, and with torch's hooks, which that leaves out."""
        super().load_state_dict(state_dict, move_to_device)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)


def _fp32(values: Tensor) -> Tensor:
    """A contiguous copy."""
    return torch.empty(values.shape, dtype=torch.float32, device=values.device).copy_(values)
