"""Which tokens end an answer, and which are never in one."""

from typing import Any

from gpg_vl.prompting.format import PromptFormat


def ends_of_text(generation: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ends of text by a generation config; the tokenizer's own where it names none."""
    ids = generation.eos_token_id
    if ids is None:
        ids = tokenizer.eos_token_id
    return tuple(ids) if isinstance(ids, list) else (ids,)


def never_sampled(tokenizer: Any, vocabulary: int, family: PromptFormat) -> set[int]:
    """Rows of the embedding that no token has, and the tokens that images are written with."""
    known = tokenizer.get_vocab()
    unused = range(len(tokenizer), vocabulary)
    return {*unused, *(known[token] for token in family.image_markup if token in known)}
