"""Adapters added to the weights they stand beside, and the proof that the model still says the same."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gpg_vl.config import ModelConfig
from gpg_vl.errors import ModelError
from gpg_vl.model.adapter_files import UNREADABLE
from gpg_vl.model.adapters import adapter_weights, has_adapter
from gpg_vl.model.families.family import Family
from gpg_vl.model.packing import PackedBatch, Row, Segment, collate
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.types import Sample

ONE_MATRIX = "these adapters cannot be merged: embedding and head are one matrix"
_UNLOAD = "unload_and_optionally_merge_module"
"""How what peft put around a module is asked for what is inside."""
_TOKENS = 24
_ROUNDING = 1e-4
"""Of the largest logit: what sums in another order may differ by."""
_SHARE = 0.05
"""Of the adapters' own effect: what the merged model may differ by."""


def merge_adapter(model: Any, family: Family, batch: PackedBatch) -> None:
    """Add the adapters to the weights they stand beside, and take them away; `batch`: as `probe` makes it.

    Raises ModelError if peft cannot, if the logits are others than before or the adapters change none though
    they were trained, or if they change only one of embedding and head where these are one matrix.
    """
    learned = any(weight.any() for name, weight in adapter_weights(model).items() if not _random(name))
    family.prepare(model)
    adapted = _logits(model, family, batch)
    with _without_adapters(model):
        bare = _logits(model, family, batch)
    _merge(model)
    merged = _logits(model, family, batch)
    if learned and torch.equal(merged, bare):
        raise ModelError("these adapters change nothing, though their weights are not zero; is lora_alpha 0?")
    effect, error = (float((adapted - other).abs().max()) for other in (bare, merged))
    if not error <= _ROUNDING * float(adapted.abs().max()) + _SHARE * effect:  # NaN too
        raise ModelError(
            f"these adapters cannot be merged: the merged model's logits are off by {error:.2g}, where the "
            f"adapters change them by {effect:.2g}"
        )


def _random(name: str) -> bool:
    """Whether a fresh adapter's weight is random; its partner's is zero."""
    return "lora_A" in name or "lora_embedding_A" in name


def _merge(model: Any) -> None:
    tied = tied_weight(model)
    whole: dict[str, nn.Module] = {}
    for name, layer in adapted_layers(model).items():
        if not hasattr(layer, _UNLOAD) and layer.get_base_layer().weight is tied:
            raise ModelError(f"{ONE_MATRIX}, and the adapter on {name} would change both")
        whole[name] = merged(name, layer)
    for name, layer in whole.items():
        model.set_submodule(name, layer)
    del model.peft_config
    if tied is not None and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise ModelError(f"{ONE_MATRIX}, and the checkpoint has a head of its own")


def tied_weight(model: Any) -> Tensor | None:
    """The embedding's weight where it is the head's too, whatever peft put around them."""
    weight: Tensor = _plain(model.get_input_embeddings()).weight
    return weight if _plain(model.get_output_embeddings()).weight is weight else None


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """What peft put adapters beside, or something around, by name; the outer one of two."""
    if not has_adapter(model):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, Any] = {}
    for name, layer in model.named_modules():
        adapted = hasattr(layer, _UNLOAD) or isinstance(layer, BaseTunerLayer)
        if adapted and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = layer
    return found


def merged(name: str, layer: Any) -> nn.Module:
    """A layer with the adapters in its weights, which change, and without what is peft's.

    Raises ModelError, by `name`, if peft cannot.
    """
    if hasattr(layer, _UNLOAD):  # trained beside the adapters
        return getattr(layer, _UNLOAD)(merge=True, safe_merge=False, adapter_names=None)
    try:
        layer.merge()
    except UNREADABLE as error:
        raise ModelError(f"the adapter on {name} cannot be merged: {error}") from error
    return layer.get_base_layer()


def _plain(layer: Any) -> Any:
    """A layer without what peft put around it."""
    for name in ("original_module", "base_layer"):
        if hasattr(layer, name):
            return _plain(getattr(layer, name))
    return layer


@contextlib.contextmanager
def _without_adapters(model: nn.Module) -> Iterator[None]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    switches = [layer.enable_adapters for layer in model.modules() if isinstance(layer, kinds)]
    try:
        for switch in switches:
            switch(False)
        yield
    finally:
        for switch in switches:
            switch(True)


def probe(processor: Any, family: Family, vocabulary: int) -> PackedBatch:
    """Words from all over the vocabulary, behind an image where the family takes one."""
    noise = torch.randint(256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = (Image.fromarray(noise.numpy()),) if family.takes_images else ()
    encoder = PromptEncoder(processor, Prompt("base"), family=family, **ModelConfig().pixels)
    (prompt,) = encoder.encode([Sample("probe", "probe", "?", "?", "label", images=images)])
    words = torch.linspace(0, vocabulary - 1, _TOKENS).long().tolist()
    return collate([Row((Segment(prompt, ((*words, 0),), (0,)),))])


@torch.no_grad()
def _logits(model: Any, family: Family, batch: PackedBatch) -> Tensor:
    """(1, S, V) of a row that is one text, read as plainly causal whatever the family's images see."""
    embeds, extra = family.embed(model, batch)
    places = family.positions(batch.position_ids)
    hidden = family.text_model(model)(
        inputs_embeds=embeds, position_ids=places, attention_mask=None, use_cache=False, **extra
    ).last_hidden_state
    logits: Tensor = model.lm_head(hidden)
    return logits
