"""The memory forecast beside the measured peak."""

import gc
from collections.abc import Callable

from gpg_vl.config import TrainConfig
from gpg_vl.preflight.data import Lengths
from gpg_vl.preflight.memory import forecast
from gpg_vl.preflight.plan import Machine, Plan, model_sizes
from gpg_vl.training.session import Session
from gpg_vl.training.train import train_step
from tests.support.tensor_memory import peak_on_cpu
from tests.support.training import session_of

TOLERANCE = 0.15


def forecast_and_peak(
    config: TrainConfig, peak: Callable[[Callable[[], object]], int] = peak_on_cpu
) -> tuple[float, int]:
    """Bytes at the peak of two steps: forecast for the longest answers, and as `peak` measures them."""
    sessions: list[Session] = []

    def two_steps() -> None:
        session = session_of(config)
        sessions.append(session)
        for step in (1, 2):
            train_step(session, step)

    gc.collect()
    measured = peak(two_steps)
    [session] = sessions
    encoder, samples = session.learner.encoder, [session.learner.data[row] for row in range(8)]
    lengths = Lengths(max(map(encoder.prompt_length, samples)), max(map(encoder.image_tokens, samples)))
    machine = Machine()
    sizes = model_sizes(config.model, download=False, bf16=machine.bf16(config.model.precision))
    plan = Plan(config, sizes, lengths, machine)
    return forecast(sizes, plan.load(config.rollout.max_new_tokens), machine.cards).peak, measured
