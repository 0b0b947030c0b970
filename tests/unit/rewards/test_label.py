import pytest

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.rewards.label import label
from gpg_vl.types import Sample


def score(text, gold):
    completion = parse_completion(text, think_opened=False, token_count=1, finish_reason="eos")
    return label(completion, Sample("1", "flowers", "Which flower?", gold, "label"))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("black-eyed susan", "black-eyed susan"),
        ("Black_Eyed_Susan", "black-eyed susan"),
        ("BLACK EYED  SUSAN.", "black-eyed susan"),
        ("\n a black-eyed susan \n", "black-eyed susan"),
        ("An oak", "oak"),
        ("The Oak!", "oak"),
        ("oak", "the oak"),
        ("**oak**", "oak"),
        ('"oak"', "oak"),
        ("`oak`", "oak"),
        ("ｏａｋ", "oak"),
        ("colts foot", "colt's foot"),
        ("colt’s-foot", "colt's foot"),
        ("st bernard", "St. Bernard"),
        ("F/A 18", "F-A-18"),
        ("737–800", "737-800"),
        ("Acura TL 3.2", "acura_tl_3.2"),
        ("love in the mist", "love in the mist"),
        ("Straße", "STRASSE"),
        ("Citroën", "citroe\u0308n"),
        ("玫瑰。", "玫瑰"),
        ("A", "a"),
        ("the", "The"),
        ("It is an oak", "oak"),
        ("It's an oak.", "oak"),
        ("This is a photo of an oak", "oak"),
        ("The species shown in the image is oak.", "oak"),
        ("The image shows an oak", "oak"),
        ("Answer: oak", "oak"),
        ("\\boxed{oak}", "oak"),
        ("\\boxed{\\text{white oak}}", "white_oak"),
        ('{"answer": "oak"}', "oak"),
        ("这是一只狗", "狗"),
        ("答案是狗。", "狗"),
    ],
)
def test_spelling_does_not_count(answer, gold):
    assert score(f"<think>rose</think><answer>{answer}</answer>", gold) == 1.0
    assert score(f"<think>{gold}</think><answer>{answer}</answer>", "rose") == 0.0


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("", "oak"),
        ("oak", "oak"),
        ("<answer></answer>", "oak"),
        ("<answer> </answer>", "oak"),
        ("<answer>...</answer>", "oak"),
        ("<answer>the</answer>", "oak"),
        ("<answer>oak", "oak"),
        ("oak</answer>", "oak"),
        ("<think><answer>oak</answer></think>", "oak"),
        ("<think>oak</think>", "oak"),
        ("<answer>oak</answer><answer>oak</answer>", "oak"),
        ("<answer>oak</answer><answer>rose</answer>", "oak"),
        ("<answer>oak or rose</answer>", "oak"),
        ("<answer>oak, rose</answer>", "oak"),
        ("<answer>rose\noak</answer>", "oak"),
        ("<answer>not oak</answer>", "oak"),
        ("<answer>It is not an oak</answer>", "oak"),
        ("<answer>It is an oak or a rose</answer>", "oak"),
        ("<answer>It is an oak, not a rose</answer>", "oak"),
        ("<answer>It is a white oak</answer>", "oak"),
        ("<answer>It is no oak</answer>", "oak"),
        ("<answer>A rose is an oak</answer>", "oak"),
        ("<answer>The rose, or the species oak</answer>", "oak"),
        ("<answer>Answer: rose. Answer: oak</answer>", "oak"),
        ("<answer>\\boxed{rose} \\boxed{oak}</answer>", "oak"),
        ("<answer>这不是狗</answer>", "狗"),
        ("<answer>oaks</answer>", "oak"),
        ("<answer>oa</answer>", "oak"),
        ("<answer>o a k</answer>", "oak"),
        ("<answer>oak oak</answer>", "oak"),
        ("<answer>white oak</answer>", "oak"),
        ("<answer>oak</answer>", "white oak"),
        ("<answer>о\u0430k</answer>", "oak"),  # Cyrillic letters
        ("<answer>TL 32</answer>", "TL 3.2"),
        ("<answer>C++</answer>", "C"),
        ("<answer>٧٣٧</answer>", "737"),
        ("<answer>nan</answer>", "oak"),
        ("<answer>" + "oak " * 2_500 + "</answer>", "oak"),
    ],
)
def test_anything_but_the_name_alone_is_wrong(text, gold):
    assert score(text, gold) == 0.0


@pytest.mark.parametrize("gold", ["", " ", "...", "_-_"])
def test_an_empty_gold_name_cannot_be_graded(gold):
    assert score("<answer>oak</answer>", gold) is None
    assert score("<answer></answer>", gold) is None
