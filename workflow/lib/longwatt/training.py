"""The training engine: one cell, from token ids to the best weights, resumable at any moment.

Started as `python -m longwatt.training SPEC`, one process per device; several meet through torch's launcher and run the
same code.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    set_seed,
)

from longwatt import devices, distributed, metrics
from longwatt.decoding import Predictor
from longwatt.energy.marks import Marker
from longwatt.examples import Examples, batches
from longwatt.models import load_family
from longwatt.models.family import Batch, Family
from longwatt.progress import say
from longwatt.provenance import whole_file, whole_path, write_json
from longwatt.sampling import LengthGroupedSampler
from longwatt.tokenization import SpecialTokens, load_split, load_tokenizer
from longwatt.workdir import ANEW, WorkFolder, checkpoint_state, checkpoint_step, checkpoint_times
from longwatt.worker import Spec, WorkerError, run

HISTORY_COLUMNS = ("step", "epoch", "loss", "learning_rate", "score", "seconds")
RECORDED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")
OUTPUTS = {"model": "model", "history": "history.csv", "training": "training.json"}


@dataclass
class Ledger:
    """What the work so far cost and gave; stored with every checkpoint, so it speaks only of kept work.

    Times are seconds; tokens and samples are those really processed, over all processes.
    """

    train_s: float = 0.0
    validation_s: float = 0.0
    checkpoint_s: float = 0.0
    scoring_s: float = 0.0  # part of validation_s: ROUGE or F1, while the device waits
    samples: int = 0
    input_tokens: int = 0
    padded_input_tokens: int = 0
    target_tokens: int = 0
    validations: int = 0
    without_improvement: int = 0
    best_score: float | None = None
    best_step: int | None = None
    stopped_early: bool = False
    pending_loss: float = 0.0  # of the steps since the last log line
    logged_step: int = 0
    peak_memory_gib: float = 0.0

    @property
    def times(self) -> dict[str, float]:
        """Seconds by phase."""
        return {"train_s": self.train_s, "validation_s": self.validation_s, "checkpoint_s": self.checkpoint_s}

    @property
    def runtime_s(self) -> float:
        """Training as the published study counts it: validations (and checkpoints) included."""
        return self.train_s + self.validation_s + self.checkpoint_s


class Stopwatch:
    """Adds time to the ledger by phase, and marks the energy log at the same moments.

    Args:
        ledger: gains the time.
        marker: marks the phases; None in all processes but the main one.
        attempt: this run's number, said at every mark.
        device: waited for before a phase ends.
    """

    def __init__(self, ledger: Ledger, marker: Marker | None, attempt: int, device: torch.device) -> None:
        self.ledger = ledger
        self.marker = marker
        self.attempt = attempt
        self.device = device
        self.phase: str | None = None
        self.since = time.perf_counter()

    def switch(self, phase: str, step: int) -> None:
        """End the current phase and begin another once the device has finished its work."""
        self.tick()
        self.phase = phase
        self._mark(phase, step)

    def finish(self, step: int) -> None:
        """End the last phase; what follows (writing results) is no training."""
        self.tick()
        self.phase = None
        self._mark("finish", step)

    def _mark(self, phase: str, step: int) -> None:
        if self.marker is not None:
            self.marker.mark(phase, attempt=self.attempt, step=step)

    def tick(self) -> None:
        """Bring the ledger up to now."""
        devices.synchronize(self.device)
        now = time.perf_counter()
        if self.phase is not None:
            field = f"{self.phase}_s"
            setattr(self.ledger, field, getattr(self.ledger, field) + now - self.since)
        self.since = now


class Validator:
    """Scores the model on the validation examples by the cell's protocol."""

    def __init__(self, examples: Examples, predictor: Predictor, metric: str, batch_size: int) -> None:
        self.examples = examples
        self.predictor = predictor
        self.metric = metric
        self.groups = distributed.share(batches(examples, batch_size))
        self.references = {examples[i].id: examples[i].references for i in range(len(examples))}

    def score(self) -> tuple[float, float]:
        """The headline score, the same in every process, and the seconds that scoring kept the device waiting."""
        self.predictor.model.eval()
        results = list(self.predictor.predict(self.examples, self.groups))
        pairs = [pair for r in results for pair in zip(r.ids, r.texts, strict=True)]
        predictions = dict(pair for part in distributed.gather(pairs) for pair in part)
        start = time.perf_counter()
        per_example = metrics.score_examples(predictions, self.references, metrics=(self.metric,))
        score = metrics.corpus_scores(per_example)[metrics.headline(self.metric)]
        return score, time.perf_counter() - start


class Schedule(TrainerCallback):  # type: ignore[misc]
    """Says when to validate (every N steps and at the last) and when to save (by elapsed time)."""

    def __init__(
        self, sampler: LengthGroupedSampler, stopwatch: Stopwatch, every_steps: int, checkpoint_every_s: float
    ) -> None:
        self.sampler = sampler
        self.stopwatch = stopwatch
        self.every_steps = every_steps
        self.checkpoint_every_s = checkpoint_every_s
        self.saved_at = time.monotonic()

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the sampler its epoch; after a resume the epoch is a fraction."""
        self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Training begins with its first step; what went before (loading, skipping what was seen) is no training."""
        if self.stopwatch.phase is None:
            self.stopwatch.switch("train", state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Decide after each optimiser step; the main process's clock decides for all."""
        last = state.global_step >= state.max_steps
        if last or state.global_step % self.every_steps == 0:
            control.should_evaluate = True
        due = time.monotonic() - self.saved_at >= self.checkpoint_every_s
        if distributed.from_main(due) and not last:
            control.should_save = True
            self.saved_at = time.monotonic()
        return control


class CellTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    """The Trainer, with our sampler, our validation and checkpoints that are whole or not there."""

    def __init__(
        self,
        *,
        family: Family,
        sampler: LengthGroupedSampler,
        validator: Validator,
        stopwatch: Stopwatch,
        work: WorkFolder,
        patience: int,
        **kwargs: Any,
    ) -> None:
        self.control: TrainerControl  # the base class is untyped
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)  # `log` says it better
        self.model_accepts_loss_kwargs = False  # the loss is a mean, divided by the accumulation steps
        self.family = family
        self.sampler = sampler
        self.validator = validator
        self.stopwatch = stopwatch
        self.ledger = stopwatch.ledger
        self.work = work
        self.patience = patience
        # Counted on the device, so that counting never makes it wait.
        self._counts = torch.zeros(4, dtype=torch.long, device=self.args.device)
        self._loss = torch.tensor(self.ledger.pending_loss, device=self.args.device)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        return self.sampler

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """The family's loss; counts what is processed."""
        mask, labels = inputs["attention_mask"], inputs["labels"]
        counts = (
            torch.tensor(len(mask)),
            mask.sum(),
            torch.tensor(mask.numel()),
            (labels >= 0).sum(),
        )
        self._counts += torch.stack([count.to(self._counts.device) for count in counts])
        return self.family.loss(model, inputs)

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
        score, seconds = self.validator.score()
        self.ledger.scoring_s += seconds
        self._judge(score, step)
        metrics_ = {"eval_score": score}
        self.log(metrics_)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics_)
        self.stopwatch.switch("train", step)
        return metrics_

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
        self.accelerator.unwrap_model(self.model).save_pretrained(partial, safe_serialization=True)
        self.work.keep_best(partial, step)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        self.stopwatch.switch("checkpoint", step)
        self.count()
        self.ledger.pending_loss = self._mean_loss()
        main = self.args.should_save
        written = self.work.partial_checkpoint() if main else self.work.path / "partial"
        distributed.from_main(None)  # nobody writes before the folder is there
        super()._save_checkpoint(model, trial)
        distributed.gather(None)  # nobody's part is missing
        if main:
            folder = written / f"checkpoint-{step}"
            self.work.commit_checkpoint(folder, step, asdict(self.ledger))
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
        spec: settings as `longwatt.settings.finetune_settings`; paths tokens, tokenizer, checkpoint (or
            None), work, model, training, history; identity, provenance and energy_log.
    """
    work = WorkFolder(Path(spec.paths["work"]), spec.identity, Path(spec.energy_log) if spec.energy_log else None)
    if distributed.from_main(_had_completed(spec, work) if distributed.rank() == 0 else None):
        return
    attempt, checkpoint, sentence = distributed.from_main(work.begin() if distributed.rank() == 0 else None)
    ledger, marker = Ledger(), None
    if checkpoint:
        ledger = Ledger(**{**checkpoint_state(checkpoint), **checkpoint_times(checkpoint)})
    if distributed.rank() == 0:
        say(sentence)
        marker = spec.marker()
        marker.mark("load", attempt=attempt, step=checkpoint_step(checkpoint) if checkpoint else 0)
    trainer = _trainer(spec, work, ledger, marker, attempt)
    if checkpoint and ledger.stopped_early:  # killed between stopping and writing the results
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.stopwatch.finish(trainer.state.global_step)
    trainer.count()
    if distributed.rank() == 0:
        work.finish(attempt, _result(spec, work, trainer))
        _publish(work.result, spec.paths)


def _had_completed(spec: Spec, work: WorkFolder) -> bool:
    """Put the result of this very training in place again, if there is one and no new one was asked for."""
    if not work.has_result():
        return False
    if os.environ.get(ANEW):
        work.clear()
        return False
    say(f"this training had completed before: its result is taken from {work.result}")
    _publish(work.result, spec.paths)
    return True


def _trainer(spec: Spec, work: WorkFolder, ledger: Ledger, marker: Marker | None, attempt: int) -> CellTrainer:
    settings = spec.settings
    training, budget = settings["training"], settings["budget"]
    device = devices.prepare(budget)
    arguments = _arguments(settings, work)
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
    _check_size(examples, budget)
    pad_to = settings["seq_len"] if training["padding"] == "max_length" else None
    targets = training["max_target_tokens"] if training["padding"] == "max_length" else None
    sampler = LengthGroupedSampler(
        examples.lengths,
        budget["per_device_batch_size"],
        settings["seed"],
        training["group_by_length"],
    )
    stopwatch = Stopwatch(ledger, marker, attempt, device)
    schedule = Schedule(sampler, stopwatch, training["validation"]["every_steps"], training["checkpoint_every_s"])
    return CellTrainer(
        family=family,
        sampler=sampler,
        validator=_validator(spec, family, model, tokenizer, pad_to),
        stopwatch=stopwatch,
        work=work,
        patience=training["validation"]["patience"],
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=lambda chosen: family.collate(chosen, pad_to, targets),
        callbacks=[schedule],
    )


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


def _effective_batch_size(budget: Mapping[str, Any]) -> int:
    return int(budget["per_device_batch_size"] * budget["gradient_accumulation_steps"] * max(1, budget["gpus"]))


def _check_size(examples: Examples, budget: Mapping[str, Any]) -> None:
    """Refuse a training split that does not fill one batch: the declared batch would not be the one trained with."""
    batch = _effective_batch_size(budget)
    if len(examples) < batch:
        raise WorkerError(
            f"the training split has {len(examples)} examples, fewer than one effective batch of {batch} "
            f"({budget['per_device_batch_size']} per device x {budget['gradient_accumulation_steps']} accumulation "
            f"steps x {max(1, budget['gpus'])} devices); lower per_device_batch_size or gradient_accumulation_steps "
            "in the cell's budget, or give the dataset more training rows"
        )


def _arguments(settings: Mapping[str, Any], work: WorkFolder) -> Seq2SeqTrainingArguments:
    training, budget = settings["training"], settings["budget"]
    return Seq2SeqTrainingArguments(
        output_dir=str(work.path),
        per_device_train_batch_size=budget["per_device_batch_size"],
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
    kept = {key: value for key, value in asdict(ledger).items() if key not in ("pending_loss", "logged_step")}
    return {
        **kept,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "max_steps": trainer.state.max_steps,
        "train_runtime_s": ledger.runtime_s,
        "train_samples_per_second": ledger.samples / ledger.runtime_s,
        "train_steps_samples_per_second": ledger.samples / ledger.train_s,
        "effective_batch_size": _effective_batch_size(settings["budget"]),
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
