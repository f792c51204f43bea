"""The training engine: one cell, from token ids to the best weights, resumable at any moment.

Started as `python -m longwatt.training SPEC`, one process per device; several meet through torch's launcher and run the
same code.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    set_seed,
)

from longwatt import devices, distributed, stopping
from longwatt.cells import LARGEST, effective_batch_size
from longwatt.decoding import Predictor
from longwatt.energy.marks import Marker
from longwatt.examples import Examples
from longwatt.ledger import Ledger, Stopwatch
from longwatt.models import load_family
from longwatt.models.family import Batch, Family
from longwatt.progress import say
from longwatt.provenance import asked_anew, read_object, whole_file, whole_path, write_json
from longwatt.sampling import LengthGroupedSampler, MicroBatches, ShardedBatches, WeightedExamples
from longwatt.tokenization import SpecialTokens, load_split, load_tokenizer, repair_tokens
from longwatt.validation import CutShort, Validator
from longwatt.workdir import WorkFolder, checkpoint_state, checkpoint_step, checkpoint_times
from longwatt.worker import Spec, WorkerError, die_with_parent, free_space, run

HISTORY_COLUMNS = ("step", "epoch", "loss", "learning_rate", "score", "seconds")
RECORDED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
OUTPUTS = {"model": "model", "history": "history.csv", "training": "training.json"}


class Schedule(TrainerCallback):  # type: ignore[misc]
    """Says when to validate (every N steps and at the last), when to save (by elapsed time), and when to leave.

    Attributes:
        stopped: some process was asked to end, and training was left after a step.
        history: log entries that the checkpoint to resume from lacks; None if it lacks none.
    """

    def __init__(
        self, sampler: LengthGroupedSampler, stopwatch: Stopwatch, every_steps: int, checkpoint_every_s: float
    ) -> None:
        self.sampler = sampler
        self.stopwatch = stopwatch
        self.every_steps = every_steps
        self.checkpoint_every_s = checkpoint_every_s
        self.saved_at = time.monotonic()
        self.stopped = False
        self.history: list[dict[str, float]] | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add what happened between the checkpoint and now."""
        if self.history is not None:
            state.log_history = self.history

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the sampler its epoch; after a resume the epoch is a fraction."""
        self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Training begins with its first step; what went before (loading, skipping what was seen) is no training."""
        if self.stopwatch.phase is None:
            self.stopwatch.switch("train", state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Decide after each optimiser step; the main process's clock decides for all, a signal to any stops all."""
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.every_steps == 0:
            control.should_evaluate = True
        due = time.monotonic() - self.saved_at >= self.checkpoint_every_s
        said = distributed.gather((due, stopping.asked()))
        due, self.stopped = said[0][0], any(asked for _, asked in said)
        if (due or self.stopped) and not last:
            control.should_save = True
            self.saved_at = time.monotonic()
        control.should_training_stop = control.should_training_stop or self.stopped
        return control


def _outlast_signals(worker: int) -> None:
    """In a loader's process: a SIGTERM to all of a job is the trainer's to answer; without its parent this one ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()


class CellTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """The Trainer, with our sampler, our validation and checkpoints that are whole or not there."""

    def __init__(
        self,
        *,
        family: Family,
        micro_batches: ShardedBatches,
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
        self.model_accepts_loss_kwargs = False  # the loss is a mean, divided by the accumulation steps
        self.family = family
        self.micro_batches = micro_batches
        self.validator = validator
        self.stopwatch = stopwatch
        self.ledger = stopwatch.ledger
        self.work = work
        self.patience = patience
        # Counted on the device, so that counting never makes it wait.
        self._counts = torch.zeros(4, dtype=torch.long, device=self.args.device)
        # Each process goes on with its own sum: a mean of means would end in another last digit.
        mine = self.ledger.pending_losses[distributed.rank()] if self.ledger.pending_losses else 0.0
        self._loss = torch.tensor(mine, device=self.args.device)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's micro-batches; the library's own sharding would repeat examples to make processes even."""
        assert self.train_dataset is not None
        return DataLoader(
            MicroBatches(self.train_dataset),
            batch_sampler=self.micro_batches,  # type: ignore[arg-type]  # of micro-batches, not of lists
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=_outlast_signals,
            pin_memory=self.args.device.type == "cuda",
        )

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """The family's loss by its weight in the mean over processes; counts what is processed."""
        weight = inputs.pop("weight")
        mask, labels = inputs["attention_mask"], inputs["labels"]
        counts = (
            torch.tensor(len(mask)),
            mask.sum(),
            torch.tensor(mask.numel()),
            (labels >= 0).sum(),
        )
        self._counts += torch.stack([count.to(self._counts.device) for count in counts]) * (weight > 0)
        return self.family.loss(model, inputs) * weight

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One step; sums its loss where a checkpoint can keep it, since the library's own sum is lost with a kill."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._loss += loss
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add seconds since the first step to every entry, and tell whoever watches."""
        self.stopwatch.tick()
        logs["seconds"] = self.ledger.runtime_s
        if "loss" in logs:
            logs["loss"] = self._mean_loss() / (self.state.global_step - self.ledger.logged_step)
            self.ledger.logged_step = self.state.global_step
            self._loss.zero_()
        super().log(logs, start_time)
        if self.args.should_save and ("loss" in logs or "eval_score" in logs):
            say(_progress_line(self.state, logs))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate, keep the weights if they are the best, and stop when they no longer improve."""
        step = self.state.global_step
        self.stopwatch.switch("validation", step)
        try:
            score, seconds = self.validator.score()
        except CutShort:
            self._leave_pending(step)
            return {}
        self.ledger.scoring_s += seconds
        self._judge(score, step)
        metrics_ = {"eval_score": score}
        self.log(metrics_)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics_)
        self.stopwatch.switch("train", step)
        return metrics_

    def _leave_pending(self, step: int) -> None:
        """Save and leave; the next attempt begins with this validation."""
        self.stopwatch.discard(step)
        self.ledger.pending_validation = True
        self.control.should_evaluate = False
        self.control.should_save = self.control.should_training_stop = True

    def validate_pending(self, checkpoint: Path) -> None:
        """Make up for the validation that the attempt before this one was asked to leave."""
        step = checkpoint_step(checkpoint)
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self.ledger.pending_validation = False
        self.evaluate()
        self.schedule.history = self.state.log_history
        self.stopwatch.leave("load", step)

    def _mean_loss(self) -> float:
        """The summed loss since the last log line, mean over processes."""
        parts: list[float] = distributed.gather(self._loss.item())
        return sum(parts) / len(parts)

    def _judge(self, score: float, step: int) -> None:
        ledger = self.ledger
        ledger.validations += 1
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
        partial = self.work.path / f"best-{step}.part"
        shutil.rmtree(partial, ignore_errors=True)
        with self._written(f"the weights of step {step}"):
            self.accelerator.unwrap_model(self.model).save_pretrained(partial, safe_serialization=True)
            self.work.keep_best(partial, step)

    @contextmanager
    def _written(self, what: str) -> Iterator[None]:
        """Name what could not be written; the libraries' errors name neither the file nor the disk.

        Raises:
            WorkerError: says what, where, and how much room there is.
        """
        try:
            yield
        except Exception as error:
            if distributed.lost_a_process(error) or devices.out_of_memory(error):
                raise
            raise WorkerError(
                f"{what} could not be written ({error}); {free_space(self.work.path)}. Free some, then run again: "
                "the cell goes on from its last checkpoint"
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
                self.work.commit_checkpoint(written / f"checkpoint-{step}", step, asdict(self.ledger))
        self.stopwatch.switch("train", step)  # marked only now: the checkpoint is durable
        if main:
            self.work.note_times(step, self.ledger.times)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.work.path / "partial")

    def count(self) -> None:
        """Move what was counted on all devices since the last call into the ledger, and their largest memory."""
        peaks = distributed.gather(devices.peak_memory_gib(self.args.device))
        self.ledger.peak_memory_gib = max(self.ledger.peak_memory_gib, *peaks)
        totals = sum(torch.tensor(part) for part in distributed.gather(self._counts.tolist()))
        assert isinstance(totals, torch.Tensor)
        self._counts.zero_()
        names = ("samples", "input_tokens", "padded_input_tokens", "target_tokens")
        for name, count in zip(names, totals.tolist(), strict=True):
            setattr(self.ledger, name, getattr(self.ledger, name) + count)


def train(spec: Spec) -> None:
    """Train one cell.

    Args:
        spec: settings as `longwatt.settings.finetune_settings`; paths tokens, tokenized, dataset, tokenizer, checkpoint
            (or None), batch_size (where the budget's is to be found out), work, model, training, history; identity,
            provenance and energy_log.

    Raises:
        longwatt.stopping.Stopped: it was asked to end, and has saved.
        WorkerError: it cannot be done here; says what to change.
    """
    work = WorkFolder(Path(spec.paths["work"]), spec.identity, Path(spec.energy_log) if spec.energy_log else None)
    if distributed.from_main(_had_completed(spec, work) if distributed.rank() == 0 else None):
        return
    if distributed.rank() == 0:
        repair_tokens(spec.paths)
    attempt, checkpoint, sentence = distributed.from_main(work.begin() if distributed.rank() == 0 else None)
    ledger, marker = Ledger(), None
    if checkpoint:
        ledger = Ledger(**{**checkpoint_state(checkpoint), **checkpoint_times(checkpoint)})
    if distributed.rank() == 0:
        say(sentence)
        marker = spec.marker()
        marker.mark("load", attempt=attempt, step=checkpoint_step(checkpoint) if checkpoint else 0)
    with devices.memory_named(spec.settings["budget"], _advice(spec)):
        trainer = _trainer(spec, work, ledger, marker, attempt)
        with stopping.deferred():
            _run(trainer, checkpoint)
            trainer.stopwatch.leave("finish", trainer.state.global_step)
            trainer.count()
            if _stopped(trainer):
                _leave(trainer, attempt)
            if distributed.rank() == 0:
                work.finish(attempt, _result(spec, work, trainer))
                _publish(work.result, spec.paths)


def _run(trainer: CellTrainer, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint if there is one, or until asked to end."""
    if checkpoint is None:
        trainer.train()
        return
    if trainer.ledger.pending_validation:
        trainer.validate_pending(checkpoint)
    else:
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    # Killed between its last validation and writing the results, it has nothing left to train.
    ended = trainer.ledger.stopped_early or trainer.state.global_step >= trainer.state.max_steps
    if not (ended or trainer.ledger.pending_validation):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def _stopped(trainer: CellTrainer) -> bool:
    return trainer.schedule.stopped or trainer.ledger.pending_validation


def _leave(trainer: CellTrainer, attempt: int) -> None:
    """Say that this attempt ended as asked, with nothing lost."""
    step = trainer.state.global_step
    if distributed.rank() == 0:
        trainer.work.end(attempt, "stopped")
    raise stopping.Stopped(f"stopped by SIGTERM at step {step}, saved; the next run goes on there")


def _advice(spec: Spec) -> str:
    """What was tried, and what needs less memory."""
    validation = spec.settings["training"]["validation"]["batch_size"]
    return (
        f"trained with {per_device_batch_size(spec)} examples per device and validated with {validation}, at "
        f"{spec.settings['seq_len']} tokens; if it was in training, lower the budget's per_device_batch_size (and "
        "raise its gradient_accumulation_steps), or set it to largest, or set training.activation_checkpointing; if "
        "in validation, lower training.validation.batch_size"
    )


def per_device_batch_size(spec: Spec) -> int:
    """The budget's number, or where that is to be found out, what was found."""
    given = spec.settings["budget"]["per_device_batch_size"]
    return int(read_object(Path(spec.paths["batch_size"]))["per_device_batch_size"] if given == LARGEST else given)


def _had_completed(spec: Spec, work: WorkFolder) -> bool:
    """Put the result of this very training in place again, if there is one and no new one was asked for."""
    if not work.has_result():
        return False
    if asked_anew("finetune"):
        work.clear()
        return False
    say(f"this training had completed before: its result is taken from {work.result}")
    _publish(work.result, spec.paths)
    return True


def _trainer(spec: Spec, work: WorkFolder, ledger: Ledger, marker: Marker | None, attempt: int) -> CellTrainer:
    settings = spec.settings
    training, budget = settings["training"], settings["budget"]
    device = devices.prepare(budget)
    per_device = per_device_batch_size(spec)
    arguments = _arguments(settings, work, per_device)
    set_seed(settings["seed"])
    tokenizer = load_tokenizer(Path(spec.paths["tokenizer"]).parent)
    family = load_family(settings["model"]["family"])
    source = spec.paths.get("checkpoint")
    checkpoint = Path(source).parent if source else None
    target_tokens = max(training["max_target_tokens"], settings["generation"]["max_new_tokens"])
    model = family.build(settings["model"], tokenizer, checkpoint, settings["seq_len"], target_tokens)
    if training["activation_checkpointing"]:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    model.to(device)
    examples = _examples(spec, tokenizer, "train", None)
    _check_size(examples, budget, per_device)
    pad_to = settings["seq_len"] if training["padding"] == "max_length" else None
    targets = training["max_target_tokens"] if training["padding"] == "max_length" else None
    sampler = LengthGroupedSampler(
        examples.lengths,
        per_device,
        settings["seed"],
        training["group_by_length"],
    )
    micro_batches = ShardedBatches(
        sampler,
        per_device,
        budget["gradient_accumulation_steps"],
        distributed.rank(),
        distributed.world_size(),
    )
    stopwatch = Stopwatch(ledger, marker, attempt, device)
    schedule = Schedule(sampler, stopwatch, training["validation"]["every_steps"], training["checkpoint_every_s"])
    trainer = CellTrainer(
        family=family,
        micro_batches=micro_batches,
        validator=_validator(spec, family, model, tokenizer, pad_to),
        stopwatch=stopwatch,
        work=work,
        schedule=schedule,
        patience=training["validation"]["patience"],
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=_collator(family, pad_to, targets),
    )
    if distributed.rank() > 0:  # equal dropout everywhere would be less of it
        torch.manual_seed(settings["seed"] * 1_000_003 + distributed.rank())
    return trainer


def _collator(family: Family, pad_to: int | None, targets: int | None) -> Callable[[WeightedExamples], Batch]:
    """Makes tensors of a micro-batch: the family's, and its weight."""

    def collate(micro_batch: WeightedExamples) -> Batch:
        examples, weight = micro_batch
        return {**family.collate(examples, pad_to, targets), "weight": torch.tensor(weight)}

    return collate


def _validator(spec: Spec, family: Family, model: Any, tokenizer: Any, pad_to: int | None) -> Validator:
    settings = spec.settings
    validation = settings["training"]["validation"]
    examples = _examples(spec, tokenizer, validation["split"], validation["max_examples"])
    predictor = Predictor(
        family,
        model,
        tokenizer,
        protocol=settings["protocol"],
        generation=settings["generation"],
        precision=settings["budget"]["precision"],
        pad_to=pad_to,
    )
    return Validator(examples, predictor, settings["metric"], validation["batch_size"])


def _examples(spec: Spec, tokenizer: Any, split: str, max_examples: int | None) -> Examples:
    rows = load_split(Path(spec.paths["tokens"]), split, max_examples)
    return Examples(
        rows,
        SpecialTokens.of(tokenizer),
        spec.settings["seq_len"],
        spec.settings["training"]["max_target_tokens"],
        every_reference=split == "train",
    )


def _check_size(examples: Examples, budget: Mapping[str, Any], per_device: int) -> None:
    """Refuse a training split that does not fill one batch: the declared batch would not be the one trained with."""
    batch = effective_batch_size(per_device, budget)
    if len(examples) < batch:
        raise WorkerError(
            f"the training split has {len(examples)} examples, fewer than one effective batch of {batch} "
            f"({per_device} per device x {budget['gradient_accumulation_steps']} accumulation "
            f"steps x {distributed.world_size()} devices); lower per_device_batch_size or gradient_accumulation_steps "
            "in the cell's budget, or give the dataset more training rows"
        )


def _arguments(settings: Mapping[str, Any], work: WorkFolder, per_device: int) -> Seq2SeqTrainingArguments:
    training, budget = settings["training"], settings["budget"]
    return Seq2SeqTrainingArguments(
        output_dir=str(work.path),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=budget["gradient_accumulation_steps"],
        learning_rate=training["learning_rate"],
        adam_beta1=training["adam_beta1"],
        adam_beta2=training["adam_beta2"],
        adam_epsilon=training["adam_epsilon"],
        weight_decay=training["weight_decay"],
        lr_scheduler_type=training["lr_scheduler"],
        warmup_steps=float(training["warmup_ratio"]),  # below 1 it is a ratio
        max_grad_norm=training["max_grad_norm"],
        num_train_epochs=training["max_epochs"],
        max_steps=training["max_steps"] or -1,
        logging_steps=training["log_every_steps"],
        seed=settings["seed"],
        bf16=budget["precision"] == "bf16",
        fp16=budget["precision"] == "fp16",
        use_cpu=budget["gpus"] == 0,
        dataloader_num_workers=training["dataloader_workers"],
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        eval_strategy="no",  # Schedule decides
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _progress_line(state: TrainerState, logs: Mapping[str, float]) -> str:
    place = f"step {state.global_step}/{state.max_steps}"
    names = {"loss": "loss", "learning_rate": "lr", "eval_score": "score", "seconds": "seconds"}
    return "  ".join([place, *(f"{names[k]} {v:.4g}" for k, v in logs.items() if k in names)])


def _result(spec: Spec, work: WorkFolder, trainer: CellTrainer) -> Path:
    """A folder with everything that the training gave, under the names of OUTPUTS."""
    assert trainer.ledger.best_step is not None
    folder = work.path / "result.part"
    shutil.rmtree(folder, ignore_errors=True)
    # Linked, not moved: should this be killed half-way, the work folder is still whole.
    shutil.copytree(work.best(trainer.ledger.best_step), folder / OUTPUTS["model"], copy_function=_link)
    trainer.validator.predictor.tokenizer.save_pretrained(folder / OUTPUTS["model"])
    _write_history(folder / OUTPUTS["history"], trainer.state.log_history)
    write_json(folder / OUTPUTS["training"], _facts(spec, work, trainer))
    return folder


def _publish(result: Path, paths: Mapping[str, Any]) -> None:
    """Put a result under the names that the rule declares; the stamped file last."""
    model = Path(paths["model"])
    shutil.rmtree(model, ignore_errors=True)
    copy = model.with_name(".model.part")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(result / OUTPUTS["model"], copy, copy_function=_link)
    copy.rename(model)
    with whole_path(Path(paths["history"])) as partial:
        shutil.copyfile(result / OUTPUTS["history"], partial)
    write_json(paths["training"], json.loads((result / OUTPUTS["training"]).read_text(encoding="utf-8")))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or one without links
        shutil.copyfile(source, target)


def _write_history(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, HISTORY_COLUMNS, restval="NA", extrasaction="ignore")
        writer.writeheader()
        for entry in entries:
            if "loss" in entry or "eval_score" in entry:
                writer.writerow({**entry, **({"score": entry["eval_score"]} if "eval_score" in entry else {})})


def _facts(spec: Spec, work: WorkFolder, trainer: CellTrainer) -> dict[str, Any]:
    ledger, settings = trainer.ledger, spec.settings
    model = trainer.accelerator.unwrap_model(trainer.model)
    kept = {key: value for key, value in asdict(ledger).items() if not key.startswith(("pending", "logged"))}
    return {
        **kept,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "max_steps": trainer.state.max_steps,
        "train_runtime_s": ledger.runtime_s,
        "train_samples_per_second": ledger.samples / ledger.runtime_s,
        "train_steps_samples_per_second": ledger.samples / ledger.train_s,
        "per_device_batch_size": trainer.micro_batches.batch_size,
        "effective_batch_size": effective_batch_size(trainer.micro_batches.batch_size, settings["budget"]),
        "processes": distributed.world_size(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "initialisation": settings["model"]["initialisation"],
        "attention_regime": trainer.family.regime(model.config.to_dict(), settings["seq_len"]),
        "notes": trainer.family.notes(model.config.to_dict(), settings["seq_len"]),
        "validation_examples": len(trainer.validator.examples),
        "peak_memory_kind": devices.peak_memory_kind(trainer.args.device),
        "device": devices.name(trainer.args.device),
        "threads": torch.get_num_threads(),
        "attempts": work.starts(),
        "versions": {
            "python": sys.version.split()[0],
            **{p: version(p) for p in RECORDED_PACKAGES},
        },
        "identity": dict(spec.identity),
        "provenance": spec.provenance,
    }


if __name__ == "__main__":
    run(train)
