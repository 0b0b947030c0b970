"""The mask of packed rows, token by token."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from gpg_vl.model.masks import MASK_ALIGNMENT, Sight, additive_mask

SEGMENTS = [[0, 0, 0, 0, 0, 1, 1, 1, -1], [0, 0, 0, 0, 0, 0, 0, 0, 0]]
BRANCHES = [[0, 0, 1, 1, 2, 0, 1, 2, -1], [0, 0, 0, 1, 1, 2, 3, 3, 3]]
PLACES = [[0, 1, 2, 3, 2, 0, 1, 1, -1], [0, 1, 2, 3, 4, 3, 3, 4, 5]]  # answers go on behind the prompt
IMAGES = [[1, 1, -1, -1, -1, 1, -1, -1, -1], [1, 1, 2, -1, -1, -1, -1, -1, -1]]
TREE = torch.tensor([SEGMENTS, BRANCHES, PLACES, IMAGES], dtype=torch.int32)  # (4, R, S)


def may_read(row: int, query: int, key: int, sight: Sight) -> bool:
    prompt_or_own = BRANCHES[row][key] in (0, BRANCHES[row][query])
    same_image = IMAGES[row][key] == IMAGES[row][query] > 0
    seen = (key <= query and prompt_or_own) or (sight.bidirectional_images and same_image)
    near = sight.window is None or PLACES[row][query] - PLACES[row][key] < sight.window
    return seen and near and SEGMENTS[row][key] == SEGMENTS[row][query]


@pytest.mark.parametrize("sight", [Sight(), Sight(2), Sight(None, True), Sight(2, True)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_who_may_read_whom(dtype: torch.dtype, sight: Sight):
    mask = additive_mask(TREE, dtype, sight)
    assert mask.shape == (2, 1, 9, 9) and mask.dtype == dtype
    expected = [[[may_read(r, q, k, sight) for k in range(9)] for q in range(9)] for r in range(2)]
    assert torch.equal(mask[:, 0] == 0, torch.tensor(expected))
    assert set(mask.unique().tolist()) == {0.0, float("-inf")}


class _Masks(TorchDispatchMode):
    """Strides of the masks that attention's kernels get."""

    def __init__(self) -> None:
        super().__init__()
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        mask = (kwargs or {}).get("attn_mask")
        if mask is not None:
            self.strides.append(mask.stride())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [9, 16, 33])
def test_its_rows_reach_attention_aligned_and_change_nothing(size: int):
    tree = torch.zeros(4, 2, size, dtype=torch.int32)
    tree[1, :, size // 2 :] = 1
    mask = additive_mask(tree, torch.float32)
    assert mask.stride()[-1] == 1
    assert all(stride % MASK_ALIGNMENT == 0 for stride in mask.stride()[:-1])
    query, key, value = torch.randn(3, 2, 4, size, 8)
    with _Masks() as seen:
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert seen.strides and all(strides[-2] % MASK_ALIGNMENT == 0 for strides in seen.strides)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask.contiguous())
    assert torch.equal(found, expected)
