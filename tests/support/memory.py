"""The memory forecast beside the measured peak."""

import gc
from collections.abc import Callable
from typing import Any

from gpg_vl.config import TrainConfig
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import forecast
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.training.train import train_step
from tests.support.tensor_memory import peak_on_cpu
from tests.support.training import session_of

TOLERANCE = 0.15


def held(weight: Any) -> int:
    """Bytes of a weight, with the scales that bitsandbytes keeps beside a quantised one."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return int(weight.nbytes)
    return int(weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes)


def forecast_and_peak(
    config: TrainConfig, peak: Callable[[Callable[[], object]], int] = peak_on_cpu
) -> tuple[float, int]:
    """Bytes at the peak of two steps: forecast for the longest answers, and as `peak` measures them.

    Weights are counted one by one: threads load them, which `peak` does not see, and those that stay as the
    file has them keep all of it mapped.
    """
    session = session_of(config)

    def two_steps() -> None:
        for step in (1, 2):
            train_step(session, step)

    gc.collect()
    measured = sum(map(held, session.learner.policy.parameters())) + peak(two_steps)
    encoder, samples = session.learner.encoder, [session.learner.data[row] for row in range(8)]
    lengths = Lengths(max(map(encoder.prompt_length, samples)), max(map(encoder.image_tokens, samples)))
    machine = Machine()
    sizes = model_sizes(config.model, download=False, bf16=machine.bf16(config.model.precision))
    plan = Plan(config, sizes, lengths, machine)
    return forecast(sizes, plan.load(config.rollout.max_new_tokens), machine.cards).peak, measured
