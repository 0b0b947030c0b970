"""Starts `train` in several processes on a CPU, as a launcher does, and is what each of them runs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpg_vl.__main__ import leave_after
from gpg_vl.config import TrainConfig
from gpg_vl.model.policy import Policy
from gpg_vl.model.step import StepModel
from gpg_vl.options import load_config, to_yaml
from gpg_vl.training.learner import Learner
from gpg_vl.training.train import train
from tests.support.other_sampler import disagree
from tests.support.processes import ending
from tests.support.sent import united

SETTINGS = Path(__file__).with_name("deepspeed.json")
"""DeepSpeed's settings as other trainers take them: with numbers that are ours to decide, and "auto"."""
LAUNCHES = {
    "ddp": {},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "zero2 by a file": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(SETTINGS),
    },
}
ACCUMULATING = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_GRADIENT_CLIPPING": "0.01"}
"""What a launcher may ask for beside: it must change nothing."""
_SENDS = "GPG_VL_TEST_SENDS"
"""For all ranks: send the weights behind each step, and keep those of the last."""
_SMALL = "GPG_VL_TEST_SMALL"
"""For rank 1: answers and tokens that a CPU has memory for, as a small GPU would."""
_OFF = "GPG_VL_TEST_OFF"
"""For all: their sampler is not the trainer."""


def start(
    config: TrainConfig,
    kind: str,
    *,
    processes: int = 2,
    resume: bool = False,
    small: tuple[int, int] | None = None,
    sends: bool = False,
    off: bool = False,
) -> list[subprocess.Popen]:
    """One process per rank, without a launcher between: killing them leaves nothing behind.

    `small`: rank 1 has memory for so many answers at a time, and so many tokens of a micro-batch.
    `sends`: each process leaves the weights that it would send behind the last step in `sent_file`. `off`:
    what they sample with is not the trainer.
    """
    file = Path(config.out).with_suffix(".yaml")
    file.write_text(to_yaml(config))
    root = Path(__file__).resolve().parents[2]
    shared = (
        os.environ
        | LAUNCHES[kind]
        | ACCUMULATING
        | {
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "error:the slopes known ahead",
            "PYTHONPATH": str(root),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
        }
    )
    command = [sys.executable, "-m", "tests.support.launched", str(file), *(["resume"] if resume else [])]
    started = []
    for rank in range(processes):
        with Path(config.out).with_suffix(f".{rank}.log").open("w") as log:
            own = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | ({_OFF: "1"} if off else {})
            if sends:
                own[_SENDS] = str(sent_file(config, rank))
            if small and rank == 1:
                own[_SMALL] = f"{small[0]} {small[1]}"
            started.append(
                subprocess.Popen(command, env=own, cwd=root, stdout=subprocess.DEVNULL, stderr=log, text=True)
            )
    return started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port


def finish(config: TrainConfig, started: list[subprocess.Popen]) -> None:
    """Wait for the end of all; an error in one process is shown and fails the test."""
    with ending(*started):
        codes = [process.wait(timeout=300) for process in started]
    for rank, code in enumerate(codes):
        assert code == 0, Path(config.out).with_suffix(f".{rank}.log").read_text()[-3000:]


def sent_file(config: TrainConfig, rank: int) -> Path:
    return Path(config.out).with_suffix(f".{rank}.safetensors")


def keep_sent(file: Path) -> None:
    """Write the weights behind each step, all of which are spread under ZeRO-3."""
    step = Learner.optimizer_step

    def sending_step(self, *arguments):
        norm = step(self, *arguments)
        spread = [weight for weight in self.policy.parameters() if hasattr(weight, "partition")]
        for weight in spread:  # ZeRO-3 leaves weights as small as these whole
            weight.partition()
        assert not any(weight.numel() for weight in spread)
        save_file(united(self.published()), file)
        return norm

    Learner.optimizer_step = sending_step


def limit_memory(answers: int, tokens: int) -> None:
    """Run out of memory above so many answers that grow, and tokens in a gradient pass."""
    read, forward = StepModel.read, Policy.forward

    def small_read(self, token_ids, *rest):
        if len(token_ids) > answers:
            raise torch.OutOfMemoryError(f"no memory for {len(token_ids)} answers")
        return read(self, token_ids, *rest)

    def small_forward(self, batch, *rest):
        if torch.is_grad_enabled() and batch.token_ids.numel() > tokens:
            raise torch.OutOfMemoryError(f"no memory for {batch.token_ids.numel()} tokens")
        return forward(self, batch, *rest)

    StepModel.read, Policy.forward = small_read, small_forward


def work() -> None:
    torch.set_num_threads(1)
    if _SENDS in os.environ:
        keep_sent(Path(os.environ[_SENDS]))
    if _OFF in os.environ:
        disagree()
    if _SMALL in os.environ:
        limit_memory(*map(int, os.environ[_SMALL].split()))
    config = load_config(TrainConfig, ["--config", sys.argv[1]])
    train(config, resume="auto" if "resume" in sys.argv else None)


if __name__ == "__main__":
    leave_after(work)
