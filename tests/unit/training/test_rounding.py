"""bf16 weights: rounding that is exact in the mean, and a split that is exact."""

import math

import pytest
import torch

from gpg_vl.training.rounding import join, round_stochastically, split

WILD = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-40, -1e-40, 3.3895e38, -3.3895e38, 2.5, -2.5, 1e-3])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", [1.001, -1.001, 0.3, -1e-3, 7e-9, 1000.1])
def test_the_mean_of_many_roundings_is_the_number(value):
    wide = torch.full((400_000,), value)
    rounded = round_stochastically(wide.clone(), seeded())
    assert rounded.dtype == torch.bfloat16
    below, above = sorted({*rounded.double().tolist()})
    assert below < wide[0] < above and above - below <= abs(value) / 128  # neighbours in bf16
    share = (float(wide[0]) - below) / (above - below)
    error = 4 * math.sqrt(share * (1 - share) / len(wide)) * (above - below)  # four standard errors
    assert float(rounded.double().mean()) == pytest.approx(float(wide[0]), abs=error)


def test_what_bf16_holds_is_never_changed():
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    held = every[~every.isnan()]
    for seed in range(5):
        rounded = round_stochastically(held.float(), seeded(seed))
        assert torch.equal(rounded.view(torch.int16), held.view(torch.int16))
    weight, rest = split(held.float())
    assert torch.equal(weight.view(torch.int16), held.view(torch.int16)) and not rest.any()


@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0x7F800001, 0x7FC00000, -1, -0x7FFFFF])
def test_every_nan_stays_one(bits):
    """CUDA's own has all bits set, so anything added to it is another number."""
    wide = torch.full((100,), bits, dtype=torch.int32).view(torch.float32)
    assert round_stochastically(wide.clone(), seeded()).isnan().all()
    weight, rest = split(wide.clone())
    assert weight.isnan().all() and not rest.any() and join(weight, rest).isnan().all()


def test_a_split_is_joined_bit_for_bit():
    bits = torch.randint(-(2**31), 2**31, (300_000,), generator=seeded(), dtype=torch.int64)
    wide = torch.cat([WILD, bits.to(torch.int32).view(torch.float32)])
    wide = wide[~wide.isnan()]
    weight, rest = split(wide.clone())
    assert (weight.dtype, rest.dtype) == (torch.bfloat16, torch.int16)
    assert torch.equal(join(weight, rest).view(torch.int32), wide.view(torch.int32))
    ties = rest == -(2**15)  # away from zero, where torch goes to the even one
    assert torch.equal(weight[~ties].view(torch.int16), wide[~ties].bfloat16().view(torch.int16))


def test_infinities_stay_and_numbers_keep_their_sign():
    rounded = round_stochastically(WILD.clone(), seeded())
    assert torch.equal(rounded[2:4].float(), WILD[2:4])
    assert torch.equal(rounded.signbit(), WILD.signbit())
