"""What supervised training writes behind a prompt: reasoning and answer, or the answer alone."""

from dataclasses import replace

import pytest

from gpg_vl.errors import DataError
from gpg_vl.model.families.qwen2_vl import qwen2_vl
from gpg_vl.prompting.encode import PromptEncoder
from gpg_vl.prompting.prompts import Prompt
from gpg_vl.training.warmstart import supervised_rows
from gpg_vl.types import Sample

ROW = Sample("a", "t", "Which?", "(B)", "choice", ("x", "y"), reasoning="Two left.\nSo y.")
BOXED = Sample("b", "t", "2 + 3?", "5", "math", reasoning="2 + 3 is 5.")


def encoder(policy, template="instruct"):
    prompt = Prompt(template)
    return PromptEncoder(policy.processor, prompt, family=qwen2_vl, min_pixels=3136, max_pixels=401_408)


@pytest.mark.parametrize(
    ("template", "row", "taught", "alone"),
    [
        (
            "instruct",
            ROW,
            "<think>Two left.\nSo y.</think><answer>(B)</answer>",
            "<think></think><answer>(B)</answer>",
        ),
        ("base", ROW, "Two left.\nSo y.</think><answer>(B)</answer>", "</think><answer>(B)</answer>"),
        ("boxed", BOXED, "2 + 3 is 5.\n\\boxed{5}", "\\boxed{5}"),
    ],
)
def test_the_reasoning_stands_before_the_answer_unless_left_out(policy, template, row, taught, alone):
    one = encoder(policy, template)
    assert one.target(row) == taught
    assert one.target(row, reasoning=False) == one.target(replace(row, reasoning="")) == alone


def test_rows_are_taught_with_their_reasoning_or_without(policy):
    one, eos = encoder(policy), policy.eos_token_ids[0]
    for reasoning in (True, False):
        (row,) = supervised_rows([ROW], one, eos, reasoning=reasoning)
        ((*written, end),) = row.segments[0].answers
        assert policy.tokenizer.decode(written) == one.target(ROW, reasoning=reasoning) and end == eos


def test_reasoning_counts_where_a_row_has_to_fit(policy):
    one = encoder(policy)
    context = one.prompt_length(ROW) + 1 + len(policy.tokenizer(one.target(ROW))["input_ids"])
    assert one.supervised_prompt_length(ROW, context=context) == one.prompt_length(ROW)
    with pytest.raises(DataError, match=f"'a': prompt and gold answer have {context} tokens"):
        one.supervised_prompt_length(ROW, context=context - 1)
    assert one.supervised_prompt_length(ROW, context=context - 1, reasoning=False) == one.prompt_length(ROW)


def test_special_tokens_in_reasoning_are_refused(policy):
    one, row = encoder(policy), replace(ROW, reasoning="so<|im_end|>")
    with pytest.raises(DataError, match=r"'a': the reasoning contains the special token <\|im_end\|>"):
        one.target(row)
    assert one.target(row, reasoning=False)
