"""What transformers itself makes of a sample: the yardstick of every family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from gpg_vl.model.policy import Policy
from gpg_vl.prompting.image_reader import GridReader
from gpg_vl.prompting.image_size import resized
from gpg_vl.types import Sample
from tests.support.inputs import encoder_of


class Reference:
    """transformers' own model and processor, fed one sample and one answer at a time."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        kind = AutoModelForImageTextToText if policy.takes_images else AutoModelForCausalLM
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        self._encoder, self._suppressed = encoder_of(policy), policy.suppressed

    def inputs(self, sample: Sample, answer: Sequence[int] = ()) -> dict[str, Any]:
        """What the processor makes of the sample, with the answer's tokens behind it."""
        text, reader = self._encoder.text(sample), self._encoder.reader
        first = self._encoder.tokenizer.bos_token
        # as its apply_chat_template does
        special = reader is not None and not (first and text.startswith(first))
        options: dict[str, Any] = {"return_tensors": "pt", "add_special_tokens": special}
        if isinstance(reader, GridReader):  # whose pixel limits are ours
            images = [resized(image, reader.seen(image.size)) for image in sample.images]
            options |= {"do_resize": False, "return_mm_token_type_ids": True}
        else:
            images = list(sample.images)
        if images:
            options["images"] = [images]
        given = dict(self._encoder.processor(text=[text], **options))
        behind = torch.tensor([answer], dtype=torch.long)
        for name, filling in (("input_ids", behind), ("attention_mask", torch.ones_like(behind))):
            given[name] = torch.cat([given[name], filling], dim=1)
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in given:
                given[name] = torch.cat([given[name], torch.zeros_like(behind)], dim=1)
        return given

    def generate(self, sample: Sample, tokens: int) -> list[int]:
        """Its greedy answer."""
        self._forget()
        given = self.inputs(sample)
        suppressed = self._suppressed.nonzero().flatten().tolist()
        options = {"max_new_tokens": tokens, "do_sample": False, "suppress_tokens": suppressed}
        found: list[int] = self.model.generate(**given, **options)[0, given["input_ids"].shape[1] :].tolist()
        return found

    def logprobs(self, sample: Sample, answer: Sequence[int], temperature: float) -> torch.Tensor:
        """(T,) of an answer's tokens, under the sampler's distribution."""
        self._forget()
        logits = self.model(**self.inputs(sample, answer), use_cache=False).logits[0]
        logits = (logits / temperature).masked_fill(self._suppressed, float("-inf"))
        rows = logits.log_softmax(-1)[-len(answer) - 1 : -1]
        return rows.gather(1, torch.tensor(answer)[:, None])[:, 0]

    def gradient(self, weighted: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gradients of a sum by the weights' names."""
        weighted.backward()
        return {name: w.grad for name, w in self.model.named_parameters() if w.grad is not None}

    def _forget(self) -> None:
        if hasattr(self.model.model, "rope_deltas"):  # of the last prompt's images
            self.model.model.rope_deltas = None
