"""bf16 weights that are stepped in fp32: what a step adds below bf16's precision is not lost.

bf16 is the upper half of fp32's bits, so all of it is arithmetic on whole numbers.
"""

import torch
from torch import Tensor

_HALF = 16
"""Bits that fp32 has and bf16 has not."""


def round_stochastically(wide: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 in bf16: up or down, with the odds that make the mean exact.

    What bf16 holds already stays as it is. `wide` is overwritten. `generator` is on its device.
    Source: arXiv 2010.06192, section 4.
    """
    undefined = wide.isnan()  # adding to its bits could make a number of it
    bits = wide.view(torch.int32)
    bits += _noise(bits, generator)  # not kept: it is as large as the weight in fp32
    bits &= -1 << _HALF
    return wide.bfloat16().masked_fill_(undefined, torch.nan)


def _noise(bits: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(1 << _HALF, bits.shape, generator=generator, dtype=bits.dtype, device=bits.device)


def split(wide: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 as the nearest bf16 and the rest in int16, of which `join` makes the same fp32, bit for bit.

    `wide` is overwritten. Kahan's compensation with a bf16 rest has 16 bits for both, and loses steps of
    1e-6 on weights above 0.1; this rest takes no more memory and loses nothing.
    """
    undefined = wide.isnan()
    bits = wide.view(torch.int32)
    rest = bits.to(torch.int16)  # the lower half, read with a sign: 0.5 and above rounds up
    bits.sub_(rest)
    return wide.bfloat16().masked_fill_(undefined, torch.nan), rest.masked_fill_(undefined, 0)


def join(weight: Tensor, rest: Tensor) -> Tensor:
    """What `split` took apart, as new fp32."""
    return weight.float().view(torch.int32).add_(rest).view(torch.float32)
