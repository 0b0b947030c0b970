"""The processors of the model families, on the tokenizer and the chat format of the tiny Qwen2-VL."""

from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import AddedToken
from transformers import (
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

HALF = [0.5, 0.5, 0.5]
TILE = 56
"""Side of the squares, in pixels, that families with images of one size cut and resize images to."""
TILE_TOKENS = 4
"""Tokens of a square: 4 x 4 patches of 14 pixels, merged by twos along each side."""

# The chat formats are the published ones, without tools, videos and their default system turns.
INTERNVL_CHAT = """{%- for turn in messages -%}
<|im_start|>{{ turn['role'] }}
{% if turn['content'] is string -%}
{{- turn['content'] -}}
{%- else -%}
{%- for part in turn['content'] -%}
{{- '<IMG_CONTEXT>\n' if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""

# A turn whose content is a string loses it, as in the published template.
SMOLVLM_CHAT = """<|im_start|>
{%- for turn in messages -%}
{{- turn['role'] | capitalize -}}
{{- ':' if turn['content'][0]['type'] == 'image' else ': ' -}}
{%- for part in turn['content'] -%}
{%- if part['type'] == 'text' -%}{{- part['text'] -}}
{%- elif part['type'] == 'image' -%}{{- '<image>' -}}
{%- endif -%}
{%- endfor -%}
<end_of_utterance>
{% endfor -%}
{%- if add_generation_prompt -%}Assistant:{%- endif -%}"""

GEMMA3_CHAT = """{{- bos_token -}}
{%- set opening = '' -%}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set content = messages[0]['content'] -%}
{%- set opening = (content if content is string else content[0]['text']) + '\n\n' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for turn in turns -%}
{%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}
{%- endif -%}
<start_of_turn>{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}
{{ opening if loop.first -}}
{%- if turn['content'] is string -%}
{{- turn['content'] | trim -}}
{%- else -%}
{%- for part in turn['content'] -%}
{{- '<start_of_image>' if part['type'] == 'image' else part['text'] | trim -}}
{%- endfor -%}
{%- endif -%}
<end_of_turn>
{% endfor -%}
{%- if add_generation_prompt -%}
<start_of_turn>model
{% endif -%}"""

THINKING = """{%- if add_generation_prompt -%}
{{- '<think>\n\n</think>\n\n' if enable_thinking is defined and enable_thinking is false else '<think>\n' -}}
{%- endif -%}"""
"""What Qwen3.5's chat template writes behind the assistant's opening."""


def _tokenizer(
    tiny: Qwen2VLProcessor, special: Iterable[str], names: dict[str, str], **roles: Any
) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with more special tokens; `names` are attributes that a processor reads."""
    backend = tiny.tokenizer.backend_tokenizer
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    defaults = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=names, **(defaults | roles))


def _text_only(tiny: Qwen2VLProcessor) -> PreTrainedTokenizerBase:
    """The tokenizer alone, with the chat template that lies beside it in a processor."""
    tokenizer = tiny.tokenizer
    tokenizer.chat_template = tiny.chat_template
    return tokenizer


def _qwen2_5_vl(tiny: Qwen2VLProcessor) -> Qwen2_5_VLProcessor:
    return Qwen2_5_VLProcessor(
        image_processor=tiny.image_processor,
        tokenizer=tiny.tokenizer,
        video_processor=tiny.video_processor,
        chat_template=tiny.chat_template,
    )


def _qwen3_vl(tiny: Qwen2VLProcessor) -> Qwen3VLProcessor:
    """Patches of 16 pixels, as published; far smaller images than the published least of 256 x 256."""
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, image_mean=HALF, image_std=HALF),
        tokenizer=tiny.tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=tiny.chat_template,
    )


def _qwen3_5(tiny: Qwen2VLProcessor) -> Qwen3VLProcessor:
    processor = _qwen3_vl(tiny)
    processor.chat_template += THINKING
    return processor


def _internvl(tiny: Qwen2VLProcessor) -> InternVLProcessor:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    images = GotOcr2ImageProcessor(
        size={"height": TILE, "width": TILE},
        max_patches=6,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return InternVLProcessor(
        image_processor=images,
        tokenizer=_tokenizer(tiny, names.values(), names),
        video_processor=InternVLVideoProcessor(),
        image_seq_length=TILE_TOKENS,
        chat_template=INTERNVL_CHAT,
    )


def _tiled_tokenizer(tiny: Qwen2VLProcessor) -> PreTrainedTokenizerFast:
    """SmolVLM's and Idefics3's, with a token for each place of a tile."""
    names = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    return _tokenizer(
        tiny,
        [*names.values(), *places],
        names,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
    )


def _smolvlm(tiny: Qwen2VLProcessor) -> SmolVLMProcessor:
    return SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(
            size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
        ),
        tokenizer=_tiled_tokenizer(tiny),
        video_processor=SmolVLMVideoProcessor(),
        image_seq_len=TILE_TOKENS,
        chat_template=SMOLVLM_CHAT,
    )


def _idefics3(tiny: Qwen2VLProcessor) -> Idefics3Processor:
    return Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 2 * TILE}, max_image_size={"longest_edge": TILE}
        ),
        tokenizer=_tiled_tokenizer(tiny),
        image_seq_len=TILE_TOKENS,
        chat_template=SMOLVLM_CHAT,
    )


def _gemma3_tokenizer(tiny: Qwen2VLProcessor) -> PreTrainedTokenizerFast:
    """It begins every text with <bos>, which the chat template writes too."""
    names = {
        "boi_token": "<start_of_image>",
        "image_token": "<image_soft_token>",
        "eoi_token": "<end_of_image>",
    }
    roles = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    special = [*roles.values(), "<start_of_turn>", "<end_of_turn>", *names.values()]
    return _tokenizer(tiny, special, names, **roles, add_bos_token=True, chat_template=GEMMA3_CHAT)


def _gemma3(tiny: Qwen2VLProcessor) -> Gemma3Processor:
    return Gemma3Processor(
        image_processor=Gemma3ImageProcessor(
            size={"height": TILE, "width": TILE}, image_mean=HALF, image_std=HALF
        ),
        tokenizer=_gemma3_tokenizer(tiny),
        image_seq_length=TILE_TOKENS,
        chat_template=GEMMA3_CHAT,
    )


PROCESSORS: dict[str, Callable[[Qwen2VLProcessor], Any]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
    "qwen3_5": _qwen3_5,
    "qwen3_5_moe": _qwen3_5,
    "internvl": _internvl,
    "internvl3_5": _internvl,
    "smolvlm": _smolvlm,
    "idefics3": _idefics3,
    "gemma3": _gemma3,
    "gemma3_text": _gemma3_tokenizer,
}
"""By family; one that is not listed reads text only, with the tiny tokenizer."""


def processor_of(family: str, tiny: Qwen2VLProcessor) -> Any:
    """The processor of `family`, or its tokenizer where it reads text only."""
    return PROCESSORS.get(family, _text_only)(tiny)
