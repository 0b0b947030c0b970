"""CUDA without a card: what is on the device has a shape and a type, but no values.

Tensors of the CPU stay real. What would make the machine wait for the device shows: reading a value raises
`DataDependentOutputException`, and copies back to the CPU are counted.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import Qwen2_5_VLConfig, Qwen2VLConfig

from benchmarks.workloads import TEXT, VISION
from gpg_vl.model.attention import ATTENTION_NAME
from gpg_vl.model.families import families
from gpg_vl.model.loading import model_class
from gpg_vl.model.policy import Policy
from gpg_vl.model.vision import VISION_ATTENTION

QWEN2_VL_2B: dict[str, Any] = {"text_config": TEXT, "vision_config": VISION, "tie_word_embeddings": True}
QWEN2_5_VL_3B: dict[str, Any] = {
    "text_config": QWEN2_VL_2B["text_config"]
    | {"hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16},
    "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 2048},
    "tie_word_embeddings": True,
}
"""Both as in the published config.json."""

_NO_KERNEL = frozenset(
    {
        *("view", "_unsafe_view", "_reshape_alias", "as_strided", "alias", "detach", "lift_fresh"),
        *("expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "unfold", "diagonal"),
        *("slice", "select", "split", "split_with_sizes", "unbind"),
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    }
)
"""Operators that only look at memory, or take some."""


_PARTLY = frozenset({"embedding", "index", "index_select", "gather", "index_copy_"})
"""Operators that touch only some rows of their first tensor."""


class Kernels(TorchDispatchMode):
    """Over a FakeTensorMode: leaves the CPU's tensors real, and counts what is launched for the others.

    One call of SDPA counts once, with the casts of its arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launched: Counter[str] = Counter()
        self.bytes = 0
        """Of the tensors that they read and write, as if nothing stayed in a cache."""
        self.copies_back = 0
        """Copies from the device to the CPU."""
        self.quiet = False

    @property
    def total(self) -> int:
        return self.launched.total()

    def reset(self) -> None:
        """Count from here on."""
        self.launched.clear()
        self.copies_back = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        device = any(isinstance(one, FakeTensor) and one.device.type == "cuda" for one in given)
        named = kwargs.get("device")
        if not device and (named is None or torch.device(named).type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        self.copies_back += isinstance(out, torch.Tensor) and out.device.type == "cpu"
        if func.namespace != "prim" and name not in _NO_KERNEL and not self.quiet:
            self.launched[name] += 1
            touched = given[1:] if name in _PARTLY else given
            made = [] if name == "index_copy_" else tree_leaves(out)
            self.bytes += sum(one.nbytes for one in [*touched, *made] if isinstance(one, FakeTensor))
        return out


class _Attention(TorchFunctionMode):
    """Counts SDPA by its name: its fused kernels cannot be chosen without a card."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__()
        self._kernels = kernels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self._kernels.launched[func.__name__] += 1
        self._kernels.quiet = True
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._kernels.quiet = False


@contextlib.contextmanager
def fake_cuda() -> Iterator[Kernels]:
    """Within, tensors may be put on `cuda`, and autocast works there."""
    kernels = Kernels()
    with contextlib.ExitStack() as stack:
        patched: dict[str, Any] = {"torch.cuda.is_bf16_supported": True}
        patched["torch.cuda.amp.common.amp_definitely_not_available"] = False
        patched["torch.cuda.get_device_capability"] = (9, 0)
        for name, value in patched.items():
            stack.enter_context(mock.patch(name, lambda *_, value=value, **__: value))
        stack.enter_context(mock.patch("torch.Tensor.pin_memory", lambda tensor: tensor))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(kernels)
        stack.enter_context(_Attention(kernels))
        yield kernels


def fake_policy(sizes: dict[str, Any] = QWEN2_VL_2B, *, suppressed: int = 293) -> Policy:
    """A policy of these sizes in bf16 arithmetic on the device, without a processor; within `fake_cuda`."""
    newer = "out_hidden_size" in sizes["vision_config"]
    config = (Qwen2_5_VLConfig if newer else Qwen2VLConfig)(**sizes)
    config._attn_implementation = {"text_config": ATTENTION_NAME, "vision_config": VISION_ATTENTION}
    with torch.device("cuda"):
        family = families.get(config.model_type)
        model = model_class(family).from_config(config)
        policy = Policy(model, None, family, bf16=True)
        policy.suppressed_ids = torch.empty(suppressed, dtype=torch.long)
    return policy
