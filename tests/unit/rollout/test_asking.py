"""vLLM's answers as the trainer has them."""

from gpg_vl.model.frontend import read_frontend
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.rollout.vllm.asking import Asking


def test_what_is_no_number_is_no_probability(tiny_folder):
    """JSON has neither infinity nor NaN, for which vLLM says -9999."""
    how = Asking(read_frontend(str(tiny_folder)), seed=5)
    (answer,) = how.answers([([3, 4], [-0.5, -9999.0], "length")], 1, Sampling(8), 0)
    assert answer.logprobs == (-0.5, float("-inf"))
