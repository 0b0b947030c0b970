"""One step of TRL's GRPOTrainer without a KL term."""

import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.inputs import samples, suppressed_tokens, text_score
from benchmarks.naive import load
from benchmarks.phases import Phases
from benchmarks.workloads import Workload
from gpg_vl.prompting.prompts import Prompt


class _Boundaries(TrainerCallback):
    """Drops the first step's figures, and charges what the trainer does between callbacks."""

    def __init__(self, phases: Phases) -> None:
        self.phases = phases

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.phases.start()
        self.phases.enter("other")

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.phases.enter("optimizer")

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.phases.leave()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.phases.leave()


def run(workload: Workload, model: Path, phases: Phases, batch: int) -> None:
    """Measure one step; `batch` answers a micro-batch."""
    policy, processor = load(model)
    processor.tokenizer.padding_side = "left"

    def text_hash(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
        with phases("rewards"):
            return [text_score(turns[0]["content"]) for turns in completions]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            policy,
            reward_funcs=text_hash,
            args=_config(workload, folder, batch, suppressed_tokens(processor, policy)),
            train_dataset=_rows(workload),
            processing_class=processor,
            callbacks=[_Boundaries(phases)],
        )
        phases.hook_model(policy)
        phases.wrap(policy, "generate", "decode")
        phases.wrap(trainer, "compute_loss", "forward")
        phases.wrap(trainer.accelerator, "backward", "backward")
        phases.wrap(trainer.accelerator, "clip_grad_norm_", "optimizer")
        trainer.train()


def _rows(workload: Workload) -> Dataset:
    asked = samples(workload)
    prompts = [[{"role": "user", "content": Prompt().user_text(sample)}] for sample in asked]
    return Dataset.from_dict({"prompt": prompts, "images": [list(sample.images) for sample in asked]})


def _config(workload: Workload, folder: str, batch: int, suppressed: list[int]) -> GRPOConfig:
    answers = workload.questions * workload.group_size
    batch = min(batch, answers)
    return GRPOConfig(
        output_dir=folder,
        max_steps=2,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=answers // batch,
        num_generations=workload.group_size,
        max_completion_length=workload.new_tokens,
        generation_kwargs={"suppress_tokens": suppressed},
        beta=0.0,
        scale_rewards="none",
        optim="adamw_torch",
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
