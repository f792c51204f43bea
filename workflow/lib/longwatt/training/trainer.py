"""The library's Trainer with this project's order of examples, validation and checkpoints."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from longwatt.disk_space import disk_error_words, free_space
from longwatt.jobs import distributed, endings, sigterm, torch_device
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.work_folder import WorkFolder, checkpoint_step
from longwatt.jobs.worker import die_with_parent
from longwatt.models import adapters
from longwatt.models.family import Batch, Family
from longwatt.progress import say
from longwatt.training.batching import StepBatches
from longwatt.training.ledger import Stopwatch
from longwatt.training.sampling import MicroBatches
from longwatt.training.validation import CutShort, Validator

# Errors of code, not of a disk: a number that JSON cannot hold, a missing name.
NOT_THE_DISKS = (ValueError, TypeError, LookupError, AttributeError, AssertionError)
# Each step that fp16 skips halves the factor of its loss, which starts at 65,536. This many in a
# row bring it below 0.002.
MOST_SKIPPED = 25
# What a ledger counts of a micro-batch.
BATCH_COUNTS = ("samples", "input_tokens", "padded_input_tokens", "target_tokens")
UNCOUNTED = (0, 0, 0, 0)
# Log entry -> its name in progress lines.
SHOWN = {"loss": "loss", "learning_rate": "lr", "eval_score": "score", "seconds": "seconds"}


@dataclass(eq=False)
class Schedule(TrainerCallback):  # type: ignore[misc]
    """The schedule of validation (every N steps and last), saving (by time) and leaving."""

    batches: StepBatches
    stopwatch: Stopwatch
    every_steps: int
    checkpoint_every_s: float
    saved_at: float = field(default_factory=time.monotonic)
    stopped: bool = False  # some process was asked to end, and training was left after a step
    # Log entries that the checkpoint to resume from lacks; None if it lacks none.
    history: list[dict[str, float]] | None = None
    # Names the part of this process's training that is not finite. It is called after every step,
    # and checks the weights too where a validation is due.
    not_finite: Callable[[bool], str | None] = lambda weights: None

    def on_train_begin(self, args: Any, state: TrainerState, *rest: Any, **kwargs: Any) -> None:
        """Add log entries that the checkpoint lacks, and set the logging interval."""
        state.logging_steps = args.logging_steps
        if self.history is not None:
            state.log_history = self.history

    def on_epoch_begin(self, args: Any, state: TrainerState, *rest: Any, **kwargs: Any) -> None:
        """Give the batches their epoch, which is a fraction after a resume."""
        self.batches.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: TrainerState, *rest: Any, **kwargs: Any) -> None:
        """Count training from its first step, without loading and skipping seen examples."""
        if self.stopwatch.phase is None:
            self.stopwatch.switch("train", state.global_step)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Decide after each optimiser step: validate, save, or stop.

        The main process's clock decides for all, and a signal to any process stops all.
        """
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.every_steps == 0:
            control.should_evaluate = True
        due = time.monotonic() - self.saved_at >= self.checkpoint_every_s
        said = distributed.gather((due, sigterm.asked(), self.not_finite(control.should_evaluate)))
        if what := next((found for *_, found in said if found), None):
            return self.give_up(what, state.global_step, control)
        due, self.stopped = said[0][0], any(asked for _, asked, _ in said)
        if (due or self.stopped) and not last:
            control.should_save = True
            self.saved_at = time.monotonic()
        control.should_training_stop = control.should_training_stop or self.stopped
        return control

    def give_up(self, what: str, step: int, control: TrainerControl) -> TrainerControl:
        """End a diverged training at once, without another validation or checkpoint."""
        self.stopwatch.ledger.diverged_in, self.stopwatch.ledger.diverged_step = what, step
        control.should_evaluate = control.should_save = False
        control.should_log = control.should_training_stop = True
        return control


def counts_of(batch: Batch) -> tuple[int, ...]:
    """Count what is BATCH_COUNTS of a batch, before it lies on a device."""
    targets = int((batch["labels"] >= 0).sum())
    if "attention_mask" not in batch:  # packed: without padding, positions from 0 in each example
        positions = batch["position_ids"]
        return int((positions == 0).sum()), positions.numel(), positions.numel(), targets
    mask = batch["attention_mask"]
    return len(mask), int(mask.sum()), mask.numel(), targets


def _outlast_signals(worker: int) -> None:
    """Make a loader's process ignore SIGTERM (the trainer answers it) and end with its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()


class CellTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """The Trainer with its own micro-batches and validation, and checkpoints written whole."""

    def __init__(
        self,
        *,
        family: Family,
        micro_batches: StepBatches,
        validator: Validator,
        stopwatch: Stopwatch,
        work: WorkFolder,
        schedule: Schedule,
        patience: int,
        **kwargs: Any,
    ) -> None:
        self.control: TrainerControl  # the base class is untyped
        super().__init__(callbacks=[schedule], **kwargs)
        self.schedule = schedule
        self.remove_callback(PrinterCallback)  # `log` says it better
        self.model_accepts_loss_kwargs = False  # the loss is a mean, divided by accumulation steps
        self.family = family
        self.micro_batches = micro_batches
        self.validator = validator
        self.stopwatch = stopwatch
        self.ledger = stopwatch.ledger
        self.work = work
        self.patience = patience
        self._counts = list(UNCOUNTED)
        # Each process goes on with its own sum: a mean of means would end in another last digit.
        mine = self.ledger.pending_losses[distributed.rank()] if self.ledger.pending_losses else 0.0
        self._loss = torch.tensor(mine, device=self.args.device)
        self._skipped = 0
        # Where micro-batches come from, how many a step has, and those of the next step.
        self._source: Iterator[Any] = iter(())
        self._batches, self._ahead = 1, list[Any]()
        schedule.not_finite = self._not_finite

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and then let go of the loader, whose processes would go on."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._source, self._ahead = iter(()), []

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Load this process's micro-batches, since the library's sharding repeats examples."""
        assert self.train_dataset is not None
        return DataLoader(
            MicroBatches(self.train_dataset),
            batch_sampler=self.micro_batches,  # type: ignore[arg-type]  # not of lists
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=_outlast_signals,
            pin_memory=self.args.device.type == "cuda",
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *rest: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Count the examples, and return the family's loss by its weight."""
        weight, found = inputs.pop("weight"), inputs.pop("counts")
        self._counts = [sum(pair) for pair in zip(self._counts, found, strict=True)]
        loss: torch.Tensor = self.family.loss(model, inputs) * weight
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Leave out the library's estimate: it looks through the model at every step."""
        return 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Make a step, and sum its loss where a checkpoint can keep it."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._loss += loss
        if self.accelerator.sync_gradients:
            self._ahead = self._next_batches()
        return loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Return the micro-batches of a step, which were made during the last one."""
        if epoch_iterator is not self._source:  # another epoch
            self._source, self._ahead = epoch_iterator, []
        self._batches = num_batches
        ready, self._ahead = self._ahead or self._next_batches(), []
        return ready, None

    def _next_batches(self) -> list[Any]:
        # A step's work is queued on its device by then, so a GPU computes meanwhile. A CPU does one
        # after the other: it only gains by a loader's processes, and only where cores are idle.
        return list(islice(self._source, self._batches))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds since the first step to every entry, and print progress."""
        self.stopwatch.tick()
        logs["seconds"] = self.ledger.runtime_s
        if "loss" in logs:
            parts: list[float] = distributed.gather(self._loss.item())
            steps = self.state.global_step - self.ledger.logged_step
            logs["loss"] = sum(parts) / len(parts) / steps
            self.ledger.logged_step = self.state.global_step
            self._loss.zero_()
        super().log(logs, start_time)
        if self.args.should_save and ("loss" in logs or "eval_score" in logs):
            values = (f"{SHOWN[k]} {v:.4g}" for k, v in logs.items() if k in SHOWN)
            say("  ".join([f"step {self.state.global_step}/{self.state.max_steps}", *values]))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate, keep the best weights, and stop once they no longer improve."""
        step = self.state.global_step
        self.stopwatch.switch("validation", step)
        try:
            score, seconds = self.validator.score()
        except CutShort:
            # Save and leave; the next attempt begins with this validation.
            self.stopwatch.discard(step)
            self.ledger.pending_validation = True
            self.control.should_evaluate = False
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self.ledger.scoring_s += seconds
        finite = self.validator.finite()
        self._judge(score, step, finite)
        found = {"eval_score": score if finite else math.nan}
        self.log(found)
        evaluated = self.callback_handler.on_evaluate
        self.control = evaluated(self.args, self.state, self.control, found)
        self.stopwatch.switch("train", step)
        return found

    def validate_pending(self, checkpoint: Path) -> None:
        """Make up for the validation that the last attempt was asked to leave."""
        step = checkpoint_step(checkpoint)
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self.ledger.pending_validation = False
        self.evaluate()
        self.schedule.history = self.state.log_history
        self.stopwatch.leave("load", step)

    def _not_finite(self, weights: bool) -> str | None:
        """Name what is not finite in this process: loss, gradients or, if asked for, weights."""
        # The library would wait for every micro-batch's loss (`logging_nan_inf_filter`).
        if not math.isfinite(self._loss.item()):
            return endings.LOSS
        self._skipped = self._skipped + 1 if self.accelerator.optimizer_step_was_skipped else 0
        if self._skipped >= MOST_SKIPPED:
            return endings.GRADIENTS
        if weights:  # this waits for the device once
            trained = (p.detach() for p in self.model.parameters() if p.requires_grad)
            finite = [weights.isfinite().all() for weights in trained]
            return None if bool(torch.stack(finite).all()) else endings.WEIGHTS
        return None

    def _judge(self, score: float, step: int, finite: bool) -> None:
        ledger = self.ledger
        ledger.validations += 1
        if not (finite and math.isfinite(score)):
            what = endings.SCORE_WORDS if finite else endings.VALIDATION
            self.control = self.schedule.give_up(what, step, self.control)
            return
        if ledger.best_score is None or score > ledger.best_score:
            ledger.best_score, ledger.best_step, ledger.without_improvement = score, step, 0
            self._keep_weights(step)
            return
        ledger.without_improvement += 1
        if ledger.without_improvement >= self.patience and step < self.state.max_steps:
            ledger.stopped_early = True
            self.control.should_training_stop = True

    def _keep_weights(self, step: int) -> None:
        if not self.args.should_save:
            return
        self.stopwatch.switch("checkpoint", step)  # writing weights validates nothing
        partial = self.work.path / f"best-{step}.part"
        shutil.rmtree(partial, ignore_errors=True)
        with self._written(f"the weights of step {step}"):
            model = self.accelerator.unwrap_model(self.model)
            if adapters.is_adapted(model):
                adapters.keep_trained(model, partial)
            else:
                model.save_pretrained(partial, safe_serialization=True)
            self.work.keep_best(partial, step)
        self.stopwatch.switch("validation", step)

    @contextmanager
    def _written(self, what: str) -> Iterator[None]:
        """Raise a WorkerError for files that could not be written: what, where, how much room."""
        try:
            yield
        except Exception as error:
            lost = distributed.lost_a_process(error) or torch_device.out_of_memory(error)
            if lost or isinstance(error, NOT_THE_DISKS):
                raise
            said, room = disk_error_words(error, self.work.path), free_space(self.work.path)
            raise WorkerError(
                f"{what} could not be written ({said}); {room}. Free some, then run again: the "
                "cell goes on from its last checkpoint"
            ) from error

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        self.stopwatch.switch("checkpoint", step)
        self.count()
        self.ledger.pending_losses = distributed.gather(self._loss.item())
        main = self.args.should_save
        written = self.work.partial_checkpoint() if main else self.work.path / "partial"
        with self._written(f"the checkpoint of step {step}"):
            distributed.from_main(None)  # nobody writes before the folder is there
            super()._save_checkpoint(model, trial)
            distributed.gather(None)  # nobody's part is missing
            if main:
                folder = written / f"checkpoint-{step}"
                self.work.commit_checkpoint(folder, step, asdict(self.ledger))
        self.stopwatch.switch("train", step)  # marked only now: the checkpoint is durable
        if main:
            self.work.note_times(step, self.ledger.times)

    def _save(self, output_dir: str, state_dict: Any = None) -> None:
        """Write the weights of a checkpoint, of a model with adapters those that are trained."""
        model = self.accelerator.unwrap_model(self.model)
        if adapters.is_adapted(model):
            adapters.keep_trained(model, Path(output_dir))
        else:
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        own = self.accelerator.unwrap_model(self.model)
        if adapters.is_adapted(own):
            adapters.take_trained(own, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.work.path / "partial")

    def count(self) -> None:
        """Move the counts and the peak memory of all devices into the ledger."""
        peaks = distributed.gather(torch_device.peak_memory_gib(self.args.device))
        self.ledger.peak_memory_gib = max(self.ledger.peak_memory_gib, *peaks)
        parts = distributed.gather(self._counts)
        self._counts = list(UNCOUNTED)
        for name, *counts in zip(BATCH_COUNTS, *parts, strict=True):
            setattr(self.ledger, name, getattr(self.ledger, name) + sum(counts))
