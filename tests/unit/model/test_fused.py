"""The Triton kernels beside plain attention; without a GPU they are interpreted."""

import os
import subprocess
import sys

import pytest
import torch

from gpg_vl.model.attention import CacheView, Prefix, attend
from gpg_vl.model.memory import AnswerKeys, PromptKeys
from gpg_vl.model.rotation import Rotation
from gpg_vl.model.step_kernels import PLAIN

pytest.importorskip("triton")
pytestmark = pytest.mark.gpu
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
HALF = torch.bfloat16 if CUDA else torch.float16  # the interpreter's products know no bf16

# questions' slots, KV heads, query heads of each, head size, prompt tokens, columns and the one written
CASES = {
    "ragged": ([3, 1, 4], 2, 3, 32, 150, 7, 5),
    "many columns": ([2, 2], 1, 6, 16, 20, 70, 69),
    "one answer, first token": ([1], 2, 1, 48, 5, 3, 0),
    "a prompt in parts, several blocks of rows": ([8, 8, 12], 2, 6, 128, 300, 64, 9),
}


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fused_attention_equals_plain(case, dtype):
    from gpg_vl.model import fused

    counts, kv_heads, repeats, size, prompt, span, column = case
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    lengths = torch.randint(1, prompt + 1, (len(counts),), generator=generator)
    lengths[0] = prompt
    lengths = lengths.to(DEVICE)
    caches = [random(len(counts), kv_heads, prompt, size) for _ in range(2)]
    prefix = Prefix([PromptKeys(*caches)], lengths)
    prefix.lay_out(counts)
    answers, heads = sum(counts), kv_heads * repeats
    queries = (random(answers, heads + 2 * kv_heads, size) * size**-0.5)[:, :heads]  # strided, as in a step
    keys, values = random(2, answers, kv_heads, span + 10, size)[:, :, :, :span].unbind()
    starts = torch.randint(0, column + 1, (answers,), generator=generator).to(DEVICE)
    view = CacheView.of(torch.tensor([column], device=DEVICE), starts, span, masked=True)
    exact = Prefix([PromptKeys(*(one.double() for one in caches))], lengths, prefix.layout, prefix.padding)
    expected = attend(queries.double(), keys.double(), values.double(), exact, 0, view)
    given = fused.attend(queries, keys, values, prefix, 0, view)
    assert given.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(given.double(), expected, rtol=0, atol=tolerance)
    # what lies outside of an answer and its prompt is not read
    for cache, length in zip(prefix.read(0)[0], lengths.tolist(), strict=True):
        cache[:, length:] = float("nan")
    keys[:, :, column + 1 :] = float("nan")
    again = fused.attend(queries, keys, values, prefix, 0, view)
    assert torch.equal(again, given)


TYPES = pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)


def close(given: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for a rounding of the last bit, in fp32 for sums that add up in another order."""
    assert given.dtype == expected.dtype and given.shape == expected.shape
    tolerance = max(torch.finfo(given.dtype).eps, 1e-6)
    torch.testing.assert_close(given, expected, rtol=tolerance, atol=tolerance)


@TYPES
@pytest.mark.parametrize("size", [48, 1536])
def test_add_norm_equals_plain(size, dtype):
    from gpg_vl.model.fused import FUSED

    generator = torch.Generator().manual_seed(0)
    hidden, added, weight = (
        torch.randn(*shape, generator=generator).to(DEVICE) for shape in [(5, size), (5, size), (size,)]
    )
    for more in (added.to(dtype), None):
        given = FUSED.add_norm(hidden, more, weight, 1e-6, dtype)
        for ours, expected in zip(given, PLAIN.add_norm(hidden, more, weight, 1e-6, dtype), strict=True):
            close(ours, expected)


@TYPES
@pytest.mark.parametrize("read", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize(("size", "turned"), [(32, 32), (48, 16)])
def test_rotate_equals_plain(size, turned, read, dtype):
    """Queries are returned; keys and values are stored in their column, and nothing else is touched."""
    from gpg_vl.model.fused import FUSED

    generator = torch.Generator().manual_seed(0)
    heads, kv_heads, answers, columns = 6, 2, 3, 5
    every = (answers, heads + 2 * kv_heads, size)
    inputs, cosines, sines = (torch.randn(every, generator=generator).to(DEVICE) for _ in range(3))
    sines[..., turned:] = 0
    rotation, column = Rotation(cosines, sines, turned), torch.tensor([3], device=DEVICE)
    results = []
    for kernels in (PLAIN, FUSED):
        memory = AnswerKeys(kv_heads, size, torch.zeros(0, dtype=dtype, device=DEVICE))
        memory.buffer = memory.buffer.new_full((2, answers, kv_heads, columns, size), 7)
        view = CacheView.of(column, torch.zeros(answers, dtype=torch.long, device=DEVICE), 4, masked=False)
        queries = kernels.rotate(inputs.to(read), rotation, memory, view)
        results.append((queries, memory.buffer))
    for given, expected in zip(results[1], results[0], strict=True):
        close(given, expected)
    assert (results[1][1][:, :, :, [0, 1, 2, 4]] == 7).all()


@TYPES
def test_gate_equals_plain(dtype):
    from gpg_vl.model.fused import FUSED

    gate_up = 4 * torch.randn(3, 2 * 1500, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype)
    close(FUSED.gate_by_silu(gate_up), PLAIN.gate_by_silu(gate_up))


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from gpg_vl.model import fused, triton_kernels

exact = ["sums", "largest", "totals", "hidden", "weight", "total", "cosines", "sines"]
sums = dict.fromkeys(exact, "*fp32") | {"epsilon": "fp32"}
known = dict.fromkeys(["first", "count", "lengths", "starts", "column"], "*i64")
for number, bits in ("bf16", 2), ("fp32", 4):
    heads = {"HEADS": 12, "SIZE": 128, "WIDTH": 128}
    shape = heads | {"REPEATS": 6, "KEYS": fused.KEYS[bits]}
    long = {"SIZE": 1536, "WIDTH": 2048}
    for kernel, constants in (
        (triton_kernels.read_prompts, shape | {"ROWS": fused.ROWS[bits]}),
        (triton_kernels.read_answers, shape | {"ROWS": 16}),
        (triton_kernels.add_norm, long | {"ADDS": True}),
        (triton_kernels.rotate, heads | {"KV_HEADS": 2, "TURNED": 128}),
        (triton_kernels.gate_by_silu, long),
    ):
        own = ["queries", "keys", "values", "out", "added", "normed", "heads", "memory", "gate_up"]
        read = dict.fromkeys(own, f"*{number}")
        types = {name: "i32" for name in kernel.arg_names} | sums | known | read
        types |= dict.fromkeys(constants, "constexpr")
        signature = {name: types[name] for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        print(compile(source, target=GPUTarget("cuda", 80, 32)).metadata.shared)
"""


def test_the_kernels_compile_for_a_card_that_is_not_here(tmp_path):
    """The interpreter takes what the compiler refuses. Small cards have 99 KiB of shared memory a program."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    shared = [int(line) for line in done.stdout.split()]
    assert len(shared) == 10 and max(shared) <= 99 * 1024
