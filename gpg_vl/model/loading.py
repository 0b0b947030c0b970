"""Loading a model: what a path stands for, its weights, all of them, and its processor."""

from collections.abc import Collection, Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.adapter_files import UNREADABLE, base_of, check_fetched, check_local, holds_model
from gpg_vl.model.adapters import load_adapter
from gpg_vl.model.attention import ATTENTION_NAME
from gpg_vl.model.compat import enable_checkpointing
from gpg_vl.model.compiling import compile_layers
from gpg_vl.model.experts import EXPERTS_NAME
from gpg_vl.model.families import family_of
from gpg_vl.model.families.family import Family
from gpg_vl.model.flex import check_flex
from gpg_vl.model.holding import Holding, four_bit_options, keep_trainable
from gpg_vl.model.policy import Policy
from gpg_vl.runtime.files import DIGESTS, damaged_file

_LFS = b"version https://git-lfs.github.com/spec/"
_NAMED = 3
"""Weights that a message names."""


def load_policy(
    path: str,
    *,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    gradient_checkpointing: bool = False,
    compiled: bool = False,
    attention: Literal["sdpa", "flex"] = "sdpa",
    vision_attention: str = "sdpa",
    device: torch.device | str = "cpu",
    holding: Holding | None = None,
) -> Policy:
    """Load a model and its processor from a folder or the hub.

    `holding`: the types that its weights are held in; None is for one that only answers. `compiled`: the
    decoder layers of the gradient pass. Raises ModelError if there is no model, or a damaged one, one of a
    family that packing does not support exactly, or no such attention on this machine; ConfigurationError if
    nothing is there to compile with, or nothing that can be, or for FlexAttention where it cannot train.
    """
    if damaged := damaged_file(Path(path)):
        raise ModelError(
            f"{path!r} is damaged, or was changed by hand: {damaged}. Restore it, or remove {DIGESTS} "
            "from the folder to use it as it is"
        )
    config, device = read_config(path), torch.device(device)
    family = family_of(path, config)
    if attention == "flex":
        check_flex(config.get_text_config(), device)
    if family.recurrent and (compiled or attention == "flex"):
        option = "model.compile" if compiled else "model.attention flex"
        raise ConfigurationError(
            f"{option} does not take layers that carry states from prompts to answers, as those of a "
            f"{config.model_type!r} model do"
        )
    bf16 = computes_in_bf16(precision, device)
    processor = read_processor(path, family)
    _check_vocabulary(path, config, processor.tokenizer if family.takes_images else processor)
    choose_kernels(device)
    model = load_weights(path, family, vision_attention, device, holding or Holding.untrained(bf16=bf16))
    if gradient_checkpointing:
        enable_checkpointing(model)
    policy = Policy(model.to(device), processor, family, bf16=bf16, flex=attention == "flex")
    if compiled:
        compile_layers(policy.text_model, policy.vision_tower, policy.device)
    return policy


def computes_in_bf16(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> bool:
    """What `model.precision` means on a device."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def choose_kernels(device: torch.device) -> None:
    """Leave attention on a GPU to kernels that need no plan."""
    if device.type == "cuda":
        # A first call at each new length took 0.09 to 1.8 s on an H100, and 0.02 s at most without cuDNN.
        torch.backends.cuda.enable_cudnn_sdp(False)


def read_config(path: str, *, download: bool = True) -> Any:
    """A model's config.json; without `download`, that of a folder or of a hub model fetched before.

    Raises ModelError if there is none, or one of a quantised model.
    """
    _check_place(path)
    base = _base_of(path)
    if download:
        check_fetched(base)
    try:
        config = AutoConfig.from_pretrained(base, local_files_only=not download)
    except UNREADABLE as error:
        place = "there or on the hub" if download else "on this machine"
        named = repr(path) if base == path else f"{base!r}, the base model of {path!r},"
        raise ModelError(
            f"{named} is not a model: no readable config.json {place} ({_reason(error, base)})"
        ) from error
    if quantised := getattr(config, "quantization_config", None):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise ModelError(
            f"{path!r} is quantised ({method}); such weights cannot be trained: take the model it was made of"
        )
    return config


def read_processor(path: str, family: Family, *, download: bool = True) -> Any:
    """A model's processor, a text model's tokenizer; without `download`, one that is on this machine.

    Raises ModelError if there is none, or one without the part for images.
    """
    kind = AutoProcessor if family.takes_images else AutoTokenizer
    if download:
        check_fetched(path)
    try:
        processor = kind.from_pretrained(path, local_files_only=not download)
    except ImportError as error:  # SmolVLM's needs num2words
        raise ModelError(
            f"{path!r} has a processor that cannot be used here: {_reason(error, path)}"
        ) from error
    except Exception as error:
        if not isinstance(error, UNREADABLE) and type(error) is not Exception:  # the latter: tokenizers' own
            raise
        raise ModelError(f"{path!r} has no loadable processor: {_reason(error, path)}") from error
    if family.takes_images and not hasattr(processor, "image_processor"):
        raise ModelError(
            f"{path!r}: the processor came without its image part; install torch and torchvision together "
            "from PyPI, and check that preprocessor_config.json or processor_config.json is there"
        )
    return processor


def _check_vocabulary(path: str, config: Any, tokenizer: Any) -> None:
    rows, tokens = int(config.get_text_config().vocab_size), len(tokenizer)
    if tokens > rows:
        raise ModelError(
            f"{path!r}: the tokenizer has {tokens} tokens, its embedding {rows} rows: they are not of one "
            "model, or the embedding was not resized when tokens were added"
        )


def model_class(family: Family) -> Any:
    """What transformers loads a family with."""
    return AutoModelForImageTextToText if family.takes_images else AutoModelForCausalLM


def load_weights(
    path: str,
    family: Family,
    vision_attention: str = "sdpa",
    device: torch.device | None = None,
    holding: Holding | None = None,
) -> Any:
    """A model, a LoRA checkpoint's with its adapters, which are in fp32.

    Weights go one by one to `device` and to the type they are held in: fp32 on a machine's CPU, they would be
    there once for each of its GPUs. Raises ModelError unless the files hold exactly the model's weights, all
    of them finite, and if there is no such attention on this machine.
    """
    base = _base_of(path)
    try:
        model, found = _read_weights(base, family, vision_attention, device, holding or Holding())
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        blamed = f"model.vision_attention {vision_attention!r}: " if vision_attention != "sdpa" else ""
        raise ModelError(f"{path!r} cannot be loaded: {blamed}{error}") from error
    except UNREADABLE as error:
        raise ModelError(f"{path!r} has no loadable weights: {_reason(error, base)}") from error
    _check_complete(base, found)
    _check_kinds(base)
    _check_head(base, model)
    if base != path:
        load_adapter(model, Path(path))
    if names := nonfinite_weights(model.named_parameters()):
        raise ModelError(f"{path!r}: weights are NaN, infinite or beyond all measure: {_listed(names)}")
    return model


def _read_weights(
    base: str, family: Family, vision_attention: str, device: torch.device | None, holding: Holding
) -> tuple[Any, dict[str, Any]]:
    """The model and what transformers found amiss. Raises as transformers does."""
    vision = family.vision_attention if vision_attention == "sdpa" else vision_attention
    towers = {"text_config": ATTENTION_NAME, "vision_config": vision}
    options: dict[str, Any] = {"attn_implementation": towers if family.takes_images else ATTENTION_NAME}
    if holding.four_bit or (device is not None and device.type != "cpu"):
        # transformers calls what is placed on the CPU offloaded, and warns when it is saved
        options["device_map"] = {"": device or "cpu"}
    config = AutoConfig.from_pretrained(base)
    if getattr(config.get_text_config(), "num_experts", 0):
        options["experts_implementation"] = EXPERTS_NAME
    kind = model_class(family)
    if not holding.plain:
        with torch.device("meta"):
            empty = kind.from_config(config)
        own = type(empty)
        kind = holding.loaded_as(own, family)
        options |= four_bit_options(empty, family) if holding.four_bit else {}
    # so that what does not fit is listed
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = kind.from_pretrained(base, dtype=torch.float32, **options)
    if not holding.plain:
        model.__class__ = own
        holding.apply_to_embedding(model, family)
    if holding.four_bit:
        keep_trainable(model)
    return model, found


def _check_complete(path: str, found: dict[str, Any]) -> None:
    """Raise ModelError for what transformers only warns of, and fills up with random weights."""
    shapes = {str(name[0]): name for name in found["mismatched_keys"]}
    problems = {
        "are missing": set(found["missing_keys"]) - shapes.keys(),
        "have other shapes than config.json says": shapes.keys(),
        "are no part of the model": set(found["unexpected_keys"]),
    }
    words = [f"{_listed(names)} {problem}" for problem, names in problems.items() if names]
    if words or found["error_msgs"]:
        raise ModelError(f"{path!r}: weights do not fit: {'; '.join([*words, *found['error_msgs']])}")


def _check_kinds(path: str) -> None:
    """Raise ModelError for whole numbers as weights, which transformers takes without a scale."""
    for file in sorted(Path(path).glob("model*.safetensors")):
        with safe_open(file, "pt") as weights:
            kinds = {name: str(weights.get_slice(name).get_dtype()) for name in weights.keys()}  # noqa: SIM118
        if whole := [
            name for name, kind in kinds.items() if kind.startswith(("I", "U", "B")) and kind != "BF16"
        ]:
            raise ModelError(
                f"{path!r}: weights are whole numbers, as in a quantised model: {_listed(whole)}; take the "
                "model it was made of"
            )


def _check_head(path: str, model: Any) -> None:
    """Raise ModelError for a head that config.json says is the embedding, and that is another matrix.

    transformers keeps both and notes it; what reads a checkpoint by its config would take the embedding.
    """
    tied = model.config.tie_word_embeddings  # the one that transformers looks at; the text config has another
    if tied and model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        raise ModelError(
            f"{path!r}: its config.json ties head and embedding, and its lm_head.weight is another matrix: "
            "set tie_word_embeddings to false there, or take lm_head.weight out of the weights"
        )


def _listed(names: Collection[str]) -> str:
    first = sorted(names)[:_NAMED]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return f"{', '.join(first)}{more}"


def nonfinite_weights(weights: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of weights whose square norm is no finite number; waits for a GPU once."""
    named = {name: weight for name, weight in weights if weight.is_floating_point()}  # no packed ones
    norms = torch.stack([torch.linalg.vector_norm(weight.detach()).float() for weight in named.values()])
    return [name for name, fine in zip(named, norms.square().isfinite().tolist(), strict=True) if not fine]


def _reason(error: Exception, path: str) -> str:
    """A library's message, in one line, with what is plainly wrong with the folder's files in front."""
    pointers = [file.name for file in sorted(Path(path).glob("*")) if _starts_with(file, _LFS)]
    empty = [file.name for file in sorted(Path(path).glob("*")) if file.is_file() and not file.stat().st_size]
    told = [f"{_listed(pointers)}: Git LFS pointers, fetch the files with `git lfs pull`"] if pointers else []
    told += [f"{_listed(empty)}: empty"] if empty else []
    if isinstance(error, UnpicklingError):  # torch's own words tell how to run it all the same
        return "; ".join([*told, "it is damaged, or holds more than weights and would run something"])
    return "; ".join([*told, " ".join(str(error).split())[:200] or type(error).__name__])


def _starts_with(file: Path, beginning: bytes) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(beginning)) == beginning


def _base_of(path: str) -> str:
    base = base_of(path)
    if base != path:
        _check_place(base)
    return base


def _check_place(path: str) -> None:
    """Raise ModelError for what is plainly a folder and no model, before the hub is asked for it."""
    check_local(path)
    folder = Path(path)
    if folder.is_dir() and not holds_model(folder):
        raise ModelError(f"{path!r} is not a model: it has no config.json{model_hint(folder)}")


def model_hint(folder: Path) -> str:
    """Where the model of a checkpoint's or a run's folder is, for the end of a message; empty elsewhere."""
    inner = [folder / "model", *sorted(folder.glob("checkpoints/step_*/model"))[-1:]]
    found = [str(place) for place in inner if holds_model(place)]
    return f"; did you mean {found[0]!r}?" if found else ""
