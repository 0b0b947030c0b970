"""What a device allows at most: measured rates, and the bytes and FLOPs that the work needs by formula."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gpg_vl.model.packing import Row, Segment
from gpg_vl.model.sizes import ModelSizes, Tower


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until `work` and all that it queued on the device are done."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bandwidth(device: torch.device, size: int, repeats: int = 10) -> float:
    """Bytes read and written per second, the best of several copies of `size` bytes within the device."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)  # touches the pages
    return 2 * size / min(timed(lambda: target.copy_(source), device) for _ in range(repeats))


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int, repeats: int = 10) -> float:
    """FLOP per second, the best of several products of two square matrices; a product has 2·side³."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = left @ right
    best = min(timed(lambda: torch.mm(left, right, out=out), device) for _ in range(repeats))
    return float(2 * side**3 / best)


def layer_weights(tower: Tower) -> int:
    """Numbers in one layer's matrices; biases and norms are left out.

    Gated: query and output (width × query each), key and value (width × key each), three of the feed-forward
    part. Else: joint query-key-value, output, two of the feed-forward part.
    """
    width, inner = tower.width, tower.feed_forward
    if tower.gated:
        return 2 * width * tower.query + 2 * width * tower.key + 3 * width * inner
    return 4 * width**2 + 2 * width * inner


def decode_bytes(
    sizes: ModelSizes, *, prompts: int, prompt_tokens: int, answers: int, new_tokens: int, itemsize: int
) -> float:
    """Bytes that one step of decoding must read, in the mean over the steps behind the first token.

    itemsize · (W + c · (prompts · prompt_tokens + answers · new_tokens / 2)): the matrices of the text layers
    and of the vocabulary once, W; the cache of every prompt once, whatever number of answers share it; their
    own tokens so far, which are 1 to new_tokens − 1 each. c = 2 · layers · key numbers a token: keys, values.
    """
    text = sizes.text
    weights = text.layers * layer_weights(text) + sizes.vocabulary * text.width
    cached = prompts * prompt_tokens + answers * new_tokens / 2
    return itemsize * (weights + 2 * text.layers * text.key * cached)


@dataclass(frozen=True)
class Work:
    """What one pass over packed rows has to do; padding is no work."""

    tokens: int
    pairs: int
    """Of tokens, one of which reads the other in the text layers; itself included."""
    targets: int
    """Tokens that the vocabulary is projected for."""
    patches: int = 0
    patch_pairs: int = 0
    """Of patches that read each other: those of one image."""


def work_of(rows: Sequence[Row]) -> Work:
    """Counted from what the rows hold; every row has a prompt of its own."""
    segments = [segment for row in rows for segment in row.segments]
    images = [int(grid.prod()) for segment in segments for grid in segment.prompt.grid]
    return Work(
        tokens=sum(row.length for row in rows),
        pairs=sum(map(_pairs, segments)),
        targets=sum(row.targets for row in rows),
        patches=sum(images),
        patch_pairs=sum(patches**2 for patches in images),
    )


def _pairs(segment: Segment) -> int:
    """A prompt of P tokens reads itself, P(P+1)/2; so does an answer, which reads the prompt as well."""
    prompt = segment.prompt.length
    read = [len(answer) - 1 for answer in segment.answers]  # the last token is predicted, never read
    return prompt * (prompt + 1) // 2 + sum(n * prompt + n * (n + 1) // 2 for n in read)


def training_flops(sizes: ModelSizes, work: Work) -> float:
    """FLOP of a forward and a backward pass, all weights trained: three times those of the forward.

    Forward, 2 FLOP a multiplication and addition:
      text        2 · layers · (matrices · tokens + 2 · query · pairs)   the two products of attention
      vocabulary  2 · vocabulary · width · targets
      vision      the same as text with patches, and 2 · pixels · width · patches of the patches' embedding
      merger      2 · (m² + m · text width) · image tokens, m = vision width · patches an image token
    The backward pass has two products for each of these. What checkpointing computes again
    does not count, nor do norms, activations, softmax and padding: it is no useful work.
    """
    forward = _tower_flops(sizes.text, work.tokens, work.pairs)
    forward += 2 * sizes.vocabulary * sizes.text.width * work.targets
    if sizes.vision is not None:
        merged = sizes.vision.width * sizes.patches
        forward += _tower_flops(sizes.vision, work.patches, work.patch_pairs)
        forward += 2 * sizes.pixels * sizes.vision.width * work.patches
        forward += 2 * (merged**2 + merged * sizes.text.width) * work.patches / sizes.patches
    return 3 * forward


def _tower_flops(tower: Tower, tokens: int, pairs: int) -> float:
    return 2 * tower.layers * (layer_weights(tower) * tokens + 2 * tower.query * pairs)
