"""An open run: what `train` and `sft` do around their steps."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from gpg_vl.algorithm.collect import Collection
from gpg_vl.config import SftConfig, TrainConfig
from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.errors import DivergedError
from gpg_vl.evaluation.benchmarks import protocol_of
from gpg_vl.evaluation.evaluate import evaluate, write_evaluation
from gpg_vl.evaluation.figures import in_words
from gpg_vl.options import to_yaml
from gpg_vl.prompting.card import README
from gpg_vl.rollout.answering import Answerer
from gpg_vl.rollout.sampling import Sampling
from gpg_vl.runs.best import choose_best, note_best
from gpg_vl.runs.files import Evaluation, read_evaluation, read_metrics
from gpg_vl.runs.folder import RunFolder
from gpg_vl.runs.resume import checkpoint_name, list_checkpoints
from gpg_vl.runtime.files import write_whole
from gpg_vl.runtime.profiling import Profiler
from gpg_vl.runtime.progress import ProgressBar
from gpg_vl.runtime.shutdown import Stopped, StopRequest
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.training.callbacks import NO_CALLBACKS, Callbacks
from gpg_vl.training.group_table import group_table
from gpg_vl.training.learner import Learner
from gpg_vl.training.metrics import tracked_evaluation
from gpg_vl.training.model_readme import Trained, model_readme
from gpg_vl.training.records import MetricsFile
from gpg_vl.training.session import agree_on_sampling, model_card
from gpg_vl.training.trackers import Trackers
from gpg_vl.types import Metrics


@dataclass
class Run:
    """A learner's run folder, logs, bar, and whether it was asked to stop."""

    learner: Learner
    config: TrainConfig | SftConfig
    folder: RunFolder
    stop: StopRequest
    metrics_file: MetricsFile | None
    """Of the first process only."""
    trackers: Trackers
    bar: ProgressBar
    profiler: Profiler
    callbacks: Callbacks
    nonfinite: int = 0
    """Steps in a row without finite log-probabilities, or a finite gradient."""
    told: set[str] = field(default_factory=set)
    """What the user was told of already."""

    def log(self, metrics: Metrics, shown: Sequence[str]) -> bool:
        """Write down the step that the learner just did; whether a callback ends the run behind it.

        Raises DivergedError after run.max_nonfinite steps in a row that had nothing finite to follow.
        """
        if self.metrics_file is not None:
            self.metrics_file.write(self.learner.step, metrics)
        self.trackers.log(self.learner.step, metrics)
        self.bar.advance(self.learner.step, shown)
        self._tell(metrics)
        self.nonfinite = self.nonfinite + 1 if _changed_nothing(metrics) else 0
        if self.nonfinite >= self.config.run.max_nonfinite:
            raise self._diverged(f"no finite gradient in {self.nonfinite} steps in a row")
        if not self.callbacks:
            return False
        world = self.learner.world
        return world.any(world.main and self.callbacks.call("on_step", self.learner.step, metrics))

    def log_groups(self, collection: Collection, advantages: Tensor) -> None:
        """Send a few groups of the step that the learner just did to the trackers, where it is due.

        advantages: (B, G).
        """
        every, step, data = self.config.run.log_groups, self.learner.step, self.learner.data
        if every and step % every == 0 and self.learner.world.main:
            # Groups of other processes come without their images.
            self.trackers.log_groups(step, group_table(collection, advantages, lambda group: data[group.row]))

    def _diverged(self, what: str) -> DivergedError:
        saved = list_checkpoints(self.folder.checkpoints)
        return DivergedError(
            f"{what}, up to step {self.learner.step}; the last good checkpoint is "
            f"{saved[-1] if saved else 'none'}. Lower optim.learning_rate"
        )

    def _tell(self, metrics: Metrics) -> None:
        """Say aloud, once each, what would make a run look well that learns nothing."""
        dropped = [name.removeprefix("dropped/") for name in metrics if name.startswith("dropped/")]
        idle = [name for name in dropped if metrics[f"dropped/{name}"] == metrics["groups/sampled"]]
        news = [f"reward {name!r} could grade no group" for name in idle]
        if _changed_nothing(metrics):
            news.append("log-probabilities or gradient are not finite, so the step changed nothing")
        elif metrics.get("nonfinite"):
            news.append("a gradient is not finite, so one of the step's optimizer steps was dropped")
        elif metrics.get("skipped"):
            news.append("no group was valid (all its answers scored the same), so the step changed nothing")
        limit = self.config.rollout.gap_warning if isinstance(self.config, TrainConfig) else 0.0
        if 0 < limit < metrics.get("logprob_gap", 0.0):
            news.append(
                f"logprob_gap is above rollout.gap_warning {limit:g}: the sampler's probabilities are not "
                "the trainer's; its weights may be others, its precision, or the image sizes that it reads"
            )
        for text in news:
            if text not in self.told:
                self.told.add(text)
                self.bar.say(f"step {self.learner.step}: {text}; see docs/metrics.md")

    def save(self, *, last: bool) -> None:
        """Save if it is due, the last step, or asked to stop; raises Stopped in that case.

        Raises DivergedError, with nothing saved, for weights that good ones must not be replaced by.
        """
        every, step = self.config.run.save_every, self.learner.step
        best = self.config.run.keep_best and step % self.config.eval.every == 0  # it must be there to be kept
        stopping = self.learner.world.any(self.stop.asked)  # a signal may reach one process only
        if last or best or stopping or (every and step % every == 0):
            if not self.learner.sound():
                raise self._diverged("weights or their log-probabilities are not finite")
            world = self.learner.world
            readme = world.together(lambda: self._readme() if world.main else "")
            settings, keep_last = to_yaml(self.config), self.config.run.keep_last
            self.learner.save(self.folder, model_card(self.config), readme, settings, keep_last)
            if self.learner.world.main:
                self.callbacks.call("on_save", step, self._saved())
        if stopping:  # later signals wait for the next step, on all processes
            raise Stopped(step)

    def _saved(self) -> Path:
        """Where the learner's step has its model, once it is saved."""
        return self.folder.checkpoints / checkpoint_name(self.learner.step) / "model"

    def _readme(self) -> str:
        """The model card of the learner's step, from what the run's folder says of it."""
        learner, step = self.learner, self.learner.step
        metrics = next((line for line in read_metrics(self.folder.path) if line["step"] == step), {})
        files = sorted(self.folder.evaluations.glob("step_*.json"))
        evaluations = [file for file in files if file.stem <= f"step_{step:06d}"]  # a killed run may be ahead
        return model_readme(
            Trained(
                self.config,
                step,
                {name: value for name, value in metrics.items() if name != "step"},
                read_evaluation(evaluations[-1]) if evaluations else None,
                learner.encoder,
                learner.data.peek(0),
                learner.world.size,
            )
        )

    def evaluate(
        self,
        answerer: Answerer,
        data: PreparedDataset | None,
        stop_texts: Sequence[str],
        *,
        last: bool,
        scorer: Scorer | None = None,
    ) -> None:
        """Evaluate greedily before the first step, after the last, and every `eval.every` steps; by the
        run's own rewards too where `scorer` has them.

        Skipped where a resumed run has done so already. Raises Stopped between questions if asked to stop:
        the weights are saved, and the resumed run evaluates again.
        """
        step, settings = self.learner.step, self.config.eval
        due = last or step == 0 or (settings.every and step % settings.every == 0)
        path = self.folder.evaluations / f"step_{step:06d}.json"
        if data is None or not due:
            return
        if path.exists():
            self._note(lambda: read_evaluation(path))
            return
        sampling = Sampling(settings.max_new_tokens, temperature=0.0, stop=tuple(stop_texts))
        main, engine = self.learner.world.main, answerer.engine
        self.learner.bring_weights(engine, self.config.run.phase_limit)
        with (
            self.learner.whole_weights() if engine.own else contextlib.nullcontext(),
            self.bar.paused(),
            ProgressBar("evaluate", len(data), quiet=not main) as bar,
        ):

            def progress(done: int) -> None:
                bar.advance(done)
                if self.learner.world.size == 1:  # the others would wait for this one's answers
                    self.stop.check(step)

            benchmark = protocol_of(data.folders)
            concurrent = engine.max_concurrent
            evaluation = evaluate(
                answerer, data, sampling, benchmark=benchmark, scorer=scorer, progress=progress
            )
            agree_on_sampling(self.learner, answerer)
            engine.max_concurrent = concurrent  # what longer answers had no room for, rollouts may
        engine.rest()
        if not main:
            return
        table = {}
        if scorer is not None and isinstance(self.config, TrainConfig):
            table = {"rewards": dict(self.config.rewards)}
        evaluation = {"step": step, "model": self.config.model.path, **table, **evaluation}
        write_evaluation(path, evaluation)
        self.bar.say(f"step {step}: {in_words(evaluation)}")
        if self._saved().is_dir():  # before it was evaluated
            write_whole(self._saved() / README, self._readme())
        self._note(lambda: evaluation)
        self.callbacks.call("on_evaluation", step, evaluation)
        self.trackers.log(step, tracked_evaluation(evaluation))

    def _note(self, evaluation: Callable[[], Evaluation]) -> None:
        """Remember the best model so far."""
        if self.config.run.keep_best and self.learner.world.main:
            note_best(self.folder.checkpoints, evaluation(), self.config.run.best_by)


@contextlib.contextmanager
def open_run(
    title: str,
    learner: Learner,
    config: TrainConfig | SftConfig,
    folder: RunFolder,
    stop: StopRequest,
    callbacks: Callbacks = NO_CALLBACKS,
) -> Iterator[Run]:
    """A run that goes on at the learner's step."""
    main = learner.world.main
    metrics_file = MetricsFile(folder.metrics, learner.step) if main else None
    if main and config.run.keep_best:
        choose_best(folder.path, folder.checkpoints, config.run.best_by, learner.step)
    with (
        Trackers(learner.accelerator, config) as trackers,
        ProgressBar(title, config.run.steps, learner.step, quiet=not main) as bar,
        Profiler(folder.profile, config.run.profile if main else 0) as profiler,
    ):
        if learner.step:
            bar.say(f"{title}: going on after step {learner.step} of {config.run.steps}")
        yield Run(learner, config, folder, stop, metrics_file, trackers, bar, profiler, callbacks)


def _changed_nothing(metrics: Metrics) -> bool:
    """Whether a step had something that is not finite, and no gradient that is."""
    return bool(metrics.get("nonfinite")) and not math.isfinite(metrics.get("grad_norm", math.nan))
