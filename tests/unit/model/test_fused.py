"""The Triton kernels beside plain attention; without a GPU they are interpreted."""

import os
import subprocess
import sys

import pytest
import torch

from gpg_vl.model.attention import CacheView, Prefix, attend
from gpg_vl.model.memory import PromptKeys

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


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from gpg_vl.model import fused, triton_kernels

sums = dict.fromkeys(["sums", "largest", "totals"], "*fp32")
known = dict.fromkeys(["first", "count", "lengths", "starts", "column"], "*i64")
for number, bits in ("bf16", 2), ("fp32", 4):
    shape = {"REPEATS": 6, "HEADS": 12, "SIZE": 128, "WIDTH": 128, "KEYS": fused.KEYS[bits]}
    for kernel, rows in (triton_kernels.read_prompts, fused.ROWS[bits]), (triton_kernels.read_answers, 16):
        constants = shape | {"ROWS": rows}
        read = dict.fromkeys(["queries", "keys", "values", "out"], f"*{number}")
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
    assert len(shared) == 4 and max(shared) <= 99 * 1024
