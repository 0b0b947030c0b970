"""Families are found by a model's type, wherever their adapter comes from."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from gpg_vl import registry
from gpg_vl.errors import ConfigurationError, ModelError
from gpg_vl.model.families import families, family_of
from gpg_vl.model.families.family import Family
from gpg_vl.model.masks import Sight

NOT_ONE = "no adapter"


class Whole(Family):
    """An outsider's, whose images read each other."""

    bidirectional_images = True


whole = Whole()


def config(kind: str, **text):
    return SimpleNamespace(model_type=kind, get_text_config=lambda: SimpleNamespace(**text))


@pytest.fixture
def announced(monkeypatch):
    """Entry points of other packages beside our own, by name: places in this file."""

    def announce(**places):
        own = [point for points in families.announced().values() for point in points]
        others = [EntryPoint(name, f"{__name__}:{place}", families.group) for name, place in places.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: [*own, *others])

    return announce


def test_an_outsiders_family_is_found_by_its_type(announced):
    announced(somebodys="whole")
    family = family_of("model", config("somebodys", layer_types=["sliding_attention"], sliding_window=7))
    assert isinstance(family, Whole)
    sights = family.sights(
        SimpleNamespace(layer_types=["full_attention", "sliding_attention"], sliding_window=7)
    )
    assert sights == {"full_attention": Sight(None, True), "sliding_attention": Sight(7, True)}
    assert Family().sights(SimpleNamespace()) == {"full_attention": Sight()}


def test_what_is_no_adapter_is_refused(announced):
    announced(somebodys="NOT_ONE")
    with pytest.raises(ConfigurationError, match="model family 'somebodys' is no Family, but 'no adapter'"):
        family_of("model", config("somebodys"))


def test_two_adapters_of_one_type_are_refused(announced):
    announced(qwen2_vl="whole")
    with pytest.raises(ConfigurationError, match="several packages announce the model family 'qwen2_vl'"):
        family_of("model", config("qwen2_vl"))


def test_an_unknown_type_is_refused_with_the_known_ones(announced):
    announced(somebodys="whole")
    with pytest.raises(ModelError, match=r"is a 'gpt2' model; supported: .*qwen3_vl, .*somebodys"):
        family_of("model", config("gpt2"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"layer_types": ["full_attention", "chunked_attention"]}, "with chunked_attention layers"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "has 'longrope' rotary embeddings"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "dynamic"}}}, "has 'dynamic' rotary"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping .* not supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention .* not supported"),
    ],
)
def test_what_is_not_reproduced_exactly_is_refused(text, message):
    with pytest.raises(ModelError, match=message):
        Family().check("model", config("llama", **text))
