import pytest

from gpg_vl.evaluation.evaluate import chunk_size


@pytest.mark.parametrize(
    ("max_concurrent", "samples", "max_new_tokens", "questions"),
    [
        (256, 1, 1024, 128),
        (64, 1, 1024, 64),
        (256, 8, 1024, 32),
        (256, 1, 32_768, 8),  # 262,144 tokens
        (256, 8, 32_768, 1),
        (4, 8, 1024, 1),
        (256, 16, 32_768, 1),
    ],
)
def test_a_chunk_is_bounded_in_questions_answers_and_tokens(
    max_concurrent, samples, max_new_tokens, questions
):
    assert chunk_size(max_concurrent, samples, max_new_tokens) == questions
