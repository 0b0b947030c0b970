"""Chat templates: several by name, mistakes in one, and one that has no place for images."""

import pytest
from PIL import Image

from gpg_vl.errors import ConfigurationError
from gpg_vl.model.families.qwen2_vl import qwen2_vl
from gpg_vl.model.families.text import text
from gpg_vl.model.tiny import CHAT_TEMPLATE, tiny_processor
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.types import Sample

TEXT = Sample("s", "t", "How many?", "(A)", "choice", ("1", "2"))
PICTURE = Sample("s", "t", "How many?", "(A)", "choice", ("1", "2"), (Image.new("RGB", (56, 56)),))


def encoder(template, *, images=True) -> PromptEncoder:
    processor = tiny_processor(["How many?"])
    if not images:
        processor = processor.tokenizer
    processor.chat_template = template
    family = qwen2_vl if images else text
    return PromptEncoder(processor, Prompt(), family=family, min_pixels=784, max_pixels=3136)


@pytest.mark.parametrize("images", [True, False])
def test_of_several_templates_the_default_is_taken(images):
    several = {"tool_use": "{{ tools }}", "default": CHAT_TEMPLATE}
    assert encoder(several, images=images).text(TEXT) == encoder(CHAT_TEMPLATE, images=images).text(TEXT)
    with pytest.raises(ConfigurationError, match="has no chat template"):
        encoder({"tool_use": "{{ tools }}"}, images=images).text(TEXT)


@pytest.mark.parametrize(
    "template", ["{{ 1 / 0 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ x.y }}"]
)
def test_a_mistake_in_a_template_is_the_models(template):
    with pytest.raises(ConfigurationError, match="chat template does not take sample 's'"):
        encoder(template).text(TEXT)


@pytest.mark.parametrize(("place", "places"), [("", 0), ("<|image_pad|><|image_pad|>", 2)])
def test_a_template_without_one_place_for_each_image_is_refused(place, places):
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", place)
    with pytest.raises(ConfigurationError, match=f"has {places} places for the 1 images of sample 's'"):
        encoder(template).text(PICTURE)
