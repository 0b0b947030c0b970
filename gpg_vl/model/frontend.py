"""A model without its weights: what prompts, and an engine elsewhere that is asked, need of it."""

from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

from gpg_vl.model.families import family_of
from gpg_vl.model.families.family import Family
from gpg_vl.model.loading import read_config, read_processor
from gpg_vl.model.policy import Policy
from gpg_vl.model.vocabulary import ends_of_text, never_sampled


@dataclass(frozen=True)
class Frontend:
    """A model's processor, family and vocabulary."""

    processor: Any
    family: Family
    context: int
    """Tokens that a prompt and its answer may have together."""
    eos_token_ids: tuple[int, ...]
    suppressed: tuple[int, ...]
    """Tokens that are never sampled."""

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer if self.family.takes_images else self.processor

    @classmethod
    def of(cls, policy: Policy) -> "Frontend":
        """That of a loaded model."""
        suppressed = tuple(policy.suppressed_ids.tolist())
        return cls(policy.processor, policy.family, policy.context, policy.eos_token_ids, suppressed)


def read_frontend(path: str) -> Frontend:
    """Of a folder or hub id; no weights are read. Raises ModelError as `load_policy` does for these parts."""
    config = read_config(path)
    family = family_of(path, config)
    processor = read_processor(path, family)
    tokenizer = processor.tokenizer if family.takes_images else processor
    text = config.get_text_config()
    try:
        generation = GenerationConfig.from_pretrained(path)
    except OSError:  # it has none; the model's config says it then
        generation = GenerationConfig.from_model_config(config)
    return Frontend(
        processor,
        family,
        int(text.max_position_embeddings),
        ends_of_text(generation, tokenizer),
        tuple(sorted(never_sampled(tokenizer, int(text.vocab_size), family))),
    )
