"""What processes exchange: tensors in buckets of one type and a bounded size."""

import torch

from gpg_vl.runtime.parallel import buckets


def test_buckets_are_bounded_and_of_one_type():
    sizes = [(3, torch.float32), (4, torch.float32), (4, torch.float32), (20, torch.float32)]
    sizes += [(1, torch.float32), (2, torch.bfloat16), (8, torch.bfloat16), (0, torch.bfloat16)]
    tensors = [torch.zeros(size, dtype=dtype) for size, dtype in sizes]
    found = buckets(tensors, 10)
    assert [[len(one) for one in bucket] for bucket in found] == [[3, 4], [4], [20], [1], [2, 8, 0]]
    assert buckets([], 10) == []
