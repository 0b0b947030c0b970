"""A request as vLLM takes it, and its answers as the trainer does."""

import base64
import hashlib
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from gpg_vl.errors import EngineError
from gpg_vl.model.families.family import Family
from gpg_vl.model.frontend import Frontend
from gpg_vl.prompting.encode import Unexpanded
from gpg_vl.rollout.engine import Answer, Request
from gpg_vl.rollout.sampling import Sampling, cut_at_stop
from gpg_vl.rollout.vllm.serving import Kind
from gpg_vl.types import FinishReason

_CLAMPED = -9999.0
"""What vLLM says of a probability that is 0 or no number."""
BAN = -100.0
"""Added to logits of tokens that are never sampled: JSON has no infinity, and e^-100 is none in a run."""


class Asking:
    """Between the trainer's requests and vLLM's, for one model."""

    def __init__(self, frontend: Frontend, seed: int) -> None:
        self.frontend, self.seed = frontend, seed

    def sampling(self, request: Request, group_size: int, sampling: Sampling) -> dict[str, Any]:
        """Fields of vLLM's SamplingParams for a group; a greedy one is one answer, `group_size` times."""
        greedy = sampling.temperature == 0
        return {
            "n": 1 if greedy else group_size,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": list(self.frontend.eos_token_ids),
            "ignore_eos": True,  # which are its own idea of them
            "logit_bias": {token: BAN for token in self.frontend.suppressed},
            "logprobs": 0,  # of the sampled token
            "seed": None if greedy else seed_of(self.seed, request.step, request.id),
        }

    def check_prompt(self, request: Request, read: Sequence[int] | None) -> None:
        """Raise EngineError unless the prompt that was answered is the trainer's, token for token."""
        own = request.prompt.token_ids.tolist()
        if read is None or list(read) == own:
            if read is None:
                raise EngineError("vLLM does not say which prompt it answered (prompt_token_ids)")
            return
        raise EngineError(
            f"question {request.id!r}: vLLM read {len(read)} tokens, and the trainer {len(own)}: another "
            "processor or chat template, or images of another size. Serve the model that is trained, with "
            "--max_pixels of at least model.max_pixels"
        )

    def answers(
        self,
        tokens: Sequence[tuple[Sequence[int], Sequence[float], str]],
        group_size: int,
        sampling: Sampling,
        version: int,
    ) -> list[Answer]:
        """A group of its token ids, log-probabilities and finish reasons, by index."""
        texts = self.frontend.tokenizer.batch_decode([ids for ids, _, _ in tokens], skip_special_tokens=True)
        group = [
            Answer(
                tuple(ids),
                tuple(float("-inf") if value <= _CLAMPED else value for value in logprobs),
                cut_at_stop(text, sampling.stop),
                self._reason(ids, reason),
                version,
            )
            for (ids, logprobs, reason), text in zip(tokens, texts, strict=True)
        ]
        return group * group_size if len(group) == 1 else group

    def _reason(self, ids: Sequence[int], reason: str) -> FinishReason:
        if reason == "length":
            return "length"
        return "eos" if ids[-1] in self.frontend.eos_token_ids else "stop"


def seed_of(seed: int, step: int, question: str) -> int:
    """Of a group's answers: vLLM draws answer g with this + g."""
    text = f"{seed}\x1f{step}\x1f{question}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


def kind_of(family: Family) -> Kind:
    """What vLLM is told of it."""
    reader = family.reader
    return Kind(reader is not None and reader.keeps_limits, family.recurrent, family.takes_images)


def unexpanded(request: Request) -> Unexpanded:
    """The request's prompt for vLLM's own processor."""
    assert request.unexpanded is not None, "Answerer says it of each request"
    return request.unexpanded()


def data_url(image: Image.Image) -> str:
    """An image as it is, for HTTP."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
