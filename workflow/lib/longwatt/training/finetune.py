"""Train one cell from token ids to the best weights, resumable at any moment.

It runs as `python -m longwatt.training.finetune SPEC`, one process per device. Several meet through
torch's launcher and run the same code.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments, TrainerState, set_seed

from longwatt.energy.marks import Marker
from longwatt.files import link_or_copy, whole_file, whole_path
from longwatt.inference.examples import (
    CellExamples,
    classified,
    label_names,
    layout_of,
    say_unasked,
    stops_of,
)
from longwatt.inference.predictor import Predictor, prediction_options
from longwatt.inference.trained_models import ensure_checkpoint, model_files, result_damage
from longwatt.jobs import distributed, endings, environment, sigterm, torch_device
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.work_folder import (
    WorkFolder,
    checkpoint_state,
    checkpoint_step,
    checkpoint_times,
)
from longwatt.jobs.worker import Spec, run_worker
from longwatt.models import adapters, load_family
from longwatt.models.family import Batch, Example, Family
from longwatt.progress import say
from longwatt.provenance.artefacts import digests, read_artefact
from longwatt.provenance.stamps import asked_anew, read_stamp, write_json
from longwatt.study.execution import PREDICTED_LATER, execution
from longwatt.tasks import CLASSIFICATION
from longwatt.tokens.prompt_templates import PromptError
from longwatt.tokens.references import EACH, compared_texts
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.tokens.tokenize import repair_tokens
from longwatt.training.batching import StepBatches, batch_words, lower_words, step_batches
from longwatt.training.ledger import Ledger, Stopwatch
from longwatt.training.sampling import WeightedExamples
from longwatt.training.trainer import UNCOUNTED, CellTrainer, Schedule, counts_of
from longwatt.training.validation import Judge, Validator

HISTORY_COLUMNS = ("step", "epoch", "loss", "learning_rate", "score", "seconds")
OTHERWISE = "it is to be made anew, or it was validated with another training.validation.batch_size"
OUTPUTS = {"model": "model", "history": "history.csv", "training": "training.json"}


def train(spec: Spec) -> None:
    """Train one cell.

    Args:
        spec: settings as `longwatt.study.settings.finetune_settings`, execution as
            `execution_settings`; paths tokens, tokenized, dataset, tokenizer, checkpoint (or None),
            batch_size (where the budget says largest), work, model, training, history; identity,
            provenance, energy_log.

    Raises:
        longwatt.jobs.sigterm.Stopped: it was asked to end, and has saved.
        WorkerError: it cannot be trained here; says what to change.
    """
    energy_log = Path(spec.energy_log) if spec.energy_log else None
    work = WorkFolder(Path(spec.paths["work"]), spec.identity, energy_log)
    main = distributed.rank() == 0
    if distributed.from_main(_had_completed(spec, work) if main else None):
        return
    if main:
        repair_tokens(spec.paths)
        ensure_checkpoint(spec.paths)
    validated = spec.settings["training"]["validation"]["batch_size"]  # may differ by attempt
    carried_out = {**execution(spec.execution), "validation.batch_size": validated}
    begun = work.begin(execution=carried_out) if main else None
    attempt, checkpoint, sentence = distributed.from_main(begun)
    ledger, marker, counted = Ledger(), None, None
    if checkpoint:
        times = checkpoint_times(checkpoint)
        counted = bool(times)
        ledger = Ledger(**{**checkpoint_state(checkpoint), **times})
    if main:
        say(sentence)
        marker = spec.marker()
        step = checkpoint_step(checkpoint) if checkpoint else 0
        marker.mark("load", attempt=attempt, step=step, checkpoint_counted=counted)
    with torch_device.memory_named(spec.settings["budget"], _advice(spec)):
        trainer = _trainer(spec, work, ledger, marker, attempt)
        taken = {"attention": trainer.family.attention}
        environment.note(work.path, spec.settings["budget"], fresh=checkpoint is None, **taken)
        with sigterm.deferred():
            _run(trainer, checkpoint)
            _end(spec, work, trainer, attempt)


def _run(trainer: CellTrainer, checkpoint: Path | None) -> None:
    """Train to the end or until asked to stop, from a checkpoint if given."""
    if checkpoint is None:
        trainer.train()
        return
    if trainer.ledger.pending_validation:
        trainer.validate_pending(checkpoint)
    else:
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    # If it was killed between its last validation and its results, nothing is left to train.
    over = trainer.ledger.stopped_early or trainer.ledger.diverged_step is not None
    ended = over or trainer.state.global_step >= trainer.state.max_steps
    if not (ended or trainer.ledger.pending_validation):
        trainer.train(resume_from_checkpoint=str(checkpoint))


def _end(spec: Spec, work: WorkFolder, trainer: CellTrainer, attempt: int) -> None:
    """End an attempt with the training's result, or as asked with nothing lost."""
    trainer.stopwatch.leave("finish", trainer.state.global_step)
    trainer.count()
    ledger, main = trainer.ledger, distributed.rank() == 0
    if trainer.schedule.stopped or ledger.pending_validation:
        if main:
            work.end(attempt, "stopped")
        place = f"step {trainer.state.global_step}"
        raise sigterm.Stopped(f"stopped by SIGTERM at {place}, saved; the next run goes on there")
    if ledger.diverged_step is not None:
        _say_diverged(spec, work, ledger, attempt)
    if main:
        work.finish(attempt, _result(spec, work, trainer))
        _publish(work.result, spec.paths)


def _say_diverged(spec: Spec, work: WorkFolder, ledger: Ledger, attempt: int) -> None:
    """Report where a training diverged, and fail unless best weights before are its result."""
    assert ledger.diverged_in is not None and ledger.diverged_step is not None
    found = endings.divergence_words(ledger.diverged_in, ledger.diverged_step, spec.settings)
    if ledger.best_step is not None:
        kept = f"kept are the best weights before, of step {ledger.best_step}"
        if distributed.rank() == 0:
            say(f"{found}; {kept}, and everything that tells of this cell says so")
        return
    message = f"{found}. {endings.not_again(spec.paths['training'])}"
    if distributed.rank() == 0:
        work.give_up(attempt, message, asked_anew("finetune"))
    distributed.gather(None)  # the first process to fail ends the others
    raise WorkerError(message)


def _advice(spec: Spec) -> str:
    """Describe the batch sizes tried, and the settings that need less memory."""
    validation = spec.settings["training"]["validation"]["batch_size"]
    return (
        f"trained with {batch_words(spec)} and validated with {validation} examples, at "
        f"{spec.settings['seq_len']} tokens. If it was in validation, lower "
        "training.validation.batch_size: this cell then goes on from its last checkpoint. If it "
        f"was in training, lower {lower_words(spec.settings['budget'])}, or set "
        "training.activation_checkpointing: this cell then begins anew. Finished cells that a "
        "change applies to are trained again: make it in the entry of this cell's model or budget, "
        "not for the whole study"
    )


def _had_completed(spec: Spec, work: WorkFolder) -> bool:
    """Publish the result of this same training again, unless a new one is asked for."""
    if given_up := work.gave_up():  # it diverged without weights to keep, and would again
        if asked_anew("finetune") in ("", given_up["anew"]):
            raise WorkerError(given_up["message"])
        work.clear()
        return False
    if not work.has_result():
        return False
    # Settings that may change half-way count once it is complete: its stamp would be of others.
    other = (read_stamp(work.result / OUTPUTS["training"]) or {}).get("settings_digest")
    if asked_anew("finetune") or other != spec.provenance.get("settings_digest"):
        refused = f"the completed training in {work.result} is not taken: {OTHERWISE}"
    elif damage := result_damage(work.result):
        refused = f"this training had completed before, but {damage}: it is trained again"
    else:
        say(f"this training had completed before: its result is taken from {work.result}")
        _publish(work.result, spec.paths)
        return True
    say(refused)
    work.clear()
    return False


def _trainer(
    spec: Spec, work: WorkFolder, ledger: Ledger, marker: Marker | None, attempt: int
) -> CellTrainer:
    settings = spec.settings
    training, budget = settings["training"], settings["budget"]
    device = torch_device.prepare(budget)
    set_seed(settings["seed"])
    tokenizer = load_tokenizer(Path(spec.paths["tokenizer"]).parent)
    family = load_family(settings["model"]["family"])
    model = family.place(_model(spec, family, tokenizer), device, budget["precision"])
    environment.say_attention(family)
    packing = training.get("packing", False)
    if packing:
        family.check_packing(model, budget["precision"])
    examples = _examples(spec, tokenizer, "train", None)
    micro_batches = step_batches(spec, examples)
    _check_rooms(spec, tokenizer)
    padded = training["padding"] == "max_length"
    pad_to = settings["seq_len"] if padded else None
    targets = training.get("max_target_tokens") if padded else None
    padding = partial(family.collate, pad_to=pad_to, targets=targets)
    stopwatch = Stopwatch(ledger, marker, attempt, device)
    every_steps = training["validation"]["every_steps"]
    schedule = Schedule(micro_batches, stopwatch, every_steps, spec.execution["checkpoint_every_s"])
    trainer = CellTrainer(
        family=family,
        micro_batches=micro_batches,
        validator=_validator(spec, family, model, tokenizer, pad_to, targets),
        stopwatch=stopwatch,
        work=work,
        schedule=schedule,
        patience=training["validation"]["patience"],
        model=model,
        args=_arguments(spec, work, micro_batches),
        train_dataset=examples,
        data_collator=partial(_collate, family.pack if packing else padding),
    )
    rank, seed = distributed.rank(), settings["seed"]
    if rank > 0:  # equal dropout everywhere would be less of it
        torch.manual_seed(seed * 1_000_003 + rank)
    return trainer


def _model(spec: Spec, family: Family, tokenizer: Any) -> torch.nn.Module:
    settings, source = spec.settings, spec.paths.get("checkpoint")
    classifies = settings.get("task") == CLASSIFICATION
    labels = label_names(spec.paths["dataset"]) if classifies else ()
    target_tokens = 1
    if not classifies:
        most = settings["training"]["max_target_tokens"]
        target_tokens = int(max(most, settings["generation"]["max_new_tokens"]))
    checkpoint = Path(source).parent if source else None
    model = family.build(
        settings["model"], tokenizer, checkpoint, settings["seq_len"], target_tokens, labels
    )
    adapters.check_adapted(model, settings["model"])
    if settings["training"]["activation_checkpointing"]:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    return model


def _collate(
    join: Callable[[Sequence[Example]], Batch], micro_batch: WeightedExamples
) -> dict[str, Any]:
    """Make a micro-batch with its weight and its counts."""
    examples, weight = micro_batch
    batch = join(examples)
    return {**batch, "weight": weight, "counts": counts_of(batch) if weight > 0 else UNCOUNTED}


def _validator(
    spec: Spec, family: Family, model: Any, tokenizer: Any, pad_to: int | None, targets: int | None
) -> Validator:
    settings = spec.settings
    validation, comparison = settings["training"]["validation"], settings.get("comparison", {})
    references = comparison.get("references", "best")
    split, most = validation["split"], validation["max_examples"]
    examples = _examples(spec, tokenizer, split, most, references)
    how = {**prediction_options(settings, validation), **stops_of(examples)}
    precision = settings["budget"]["precision"]
    predictor = Predictor(
        family, model, tokenizer, how=how, precision=precision, pad_to=pad_to, target_pad_to=targets
    )
    judge = _judge(settings, examples, tokenizer)
    return Validator(examples, predictor, judge, validation["batch_size"])


def _judge(settings: Mapping[str, Any], examples: CellExamples, tokenizer: Any) -> Judge:
    if settings.get("task") == CLASSIFICATION:
        rows = examples.rows
        labels = dict(zip(rows["id"], rows["references"], strict=True))
        return Judge(labels, settings["metric"], task=CLASSIFICATION)
    references = compared_texts(examples.rows, tokenizer, settings["comparison"])
    return Judge(references, settings["metric"], settings["comparison"]["text"])


def _examples(
    spec: Spec, tokenizer: Any, split: str, max_examples: int | None, references: str | None = None
) -> CellExamples:
    """Return a split's examples, for training (no `references`) one for every reference."""
    if spec.settings.get("task") == CLASSIFICATION:
        return classified(spec.paths, tokenizer, split, max_examples, spec.settings["seq_len"])
    rows = load_split(Path(spec.paths["tokens"]), split, max_examples)
    every, said = references in (None, EACH), references or "best"
    examples = CellExamples(rows, layout_of(spec.settings, tokenizer), every, references=said)
    if distributed.rank() == 0:
        say_unasked(examples, split)
    return examples


def _check_rooms(spec: Spec, tokenizer: Any) -> None:
    """Refuse a length at which some prompt of a later inference point has no room.

    Raises:
        PromptError: names the split.
    """
    for point in spec.execution.get(PREDICTED_LATER, ()):
        rows = load_split(Path(spec.paths["tokens"]), point["split"], point["max_examples"])
        settings = {**spec.settings, "generation": {"max_new_tokens": point["answer_tokens"]}}
        try:
            layout_of(settings, tokenizer).sizes(rows)
        except PromptError as error:
            raise PromptError(f"{point['split']} could not be predicted later: {error}") from None


def _arguments(spec: Spec, work: WorkFolder, batches: StepBatches) -> Seq2SeqTrainingArguments:
    settings, carried_out = spec.settings, spec.execution
    training, budget = settings["training"], settings["budget"]
    same = ("learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay")
    return Seq2SeqTrainingArguments(
        **{name: training[name] for name in (*same, "max_grad_norm")},
        output_dir=str(work.path),
        per_device_train_batch_size=1,  # without effect: `batches` decides
        gradient_accumulation_steps=batches.accumulation,
        lr_scheduler_type=training["lr_scheduler"],
        warmup_steps=float(training["warmup_ratio"] or 0),  # below 1 it is a ratio
        num_train_epochs=training["max_epochs"] or 1,  # without effect where max_steps is given
        max_steps=training["max_steps"] or -1,
        logging_steps=carried_out["log_every_steps"],
        logging_nan_inf_filter=False,  # CellTrainer looks
        seed=settings["seed"],
        bf16=budget["precision"] == "bf16",
        fp16=budget["precision"] == "fp16",
        use_cpu=budget["gpus"] == 0,
        dataloader_num_workers=carried_out["dataloader_workers"],
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        eval_strategy="no",  # Schedule decides
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _result(spec: Spec, work: WorkFolder, trainer: CellTrainer) -> Path:
    """Make a folder with all results of the training, under the names of OUTPUTS."""
    assert trainer.ledger.best_step is not None
    folder = work.path / "result.part"
    shutil.rmtree(folder, ignore_errors=True)
    model, history = folder / OUTPUTS["model"], folder / OUTPUTS["history"]
    facts = _facts(spec, work, trainer)  # before the model's adapters are merged
    _write_model(spec, work.best(trainer.ledger.best_step), trainer, model)
    trainer.validator.predictor.tokenizer.save_pretrained(model)
    _write_history(history, trainer.state.log_history)
    files = [*model_files(model), history]
    write_json(folder / OUTPUTS["training"], {"sha256": digests(folder, files), **facts})
    return folder


def _write_model(spec: Spec, best: Path, trainer: CellTrainer, folder: Path) -> None:
    """Write the best weights: a whole model, or adapters beside a word on their base."""
    own = trainer.accelerator.unwrap_model(trainer.model)
    if not adapters.is_adapted(own):
        # Linked, not moved: if this is killed half-way, the work folder is still whole.
        shutil.copytree(best, folder, copy_function=link_or_copy)
        return
    adapters.take_trained(own, best)
    merged = spec.settings["model"]["lora"]["merge"]
    if not trainer.family.trained_whole:  # adapters are all that is trained
        checkpoint = Path(spec.paths["checkpoint"])
        base = adapters.base_facts(read_artefact(checkpoint, shared=True), checkpoint.parent)
        adapters.write_adapters(own, folder / "adapter" if merged else folder, base)
    if merged:
        adapters.merge_adapters(own)
        own.save_pretrained(folder)


def _publish(result: Path, paths: Mapping[str, Any]) -> None:
    """Publish a result under the names that the rule declares, the stamped file last."""
    model = Path(paths["model"])
    shutil.rmtree(model, ignore_errors=True)
    copy = model.with_name(".model.part")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(result / OUTPUTS["model"], copy, copy_function=link_or_copy)
    copy.rename(model)
    with whole_path(Path(paths["history"])) as partial:
        shutil.copyfile(result / OUTPUTS["history"], partial)
    text = (result / OUTPUTS["training"]).read_text(encoding="utf-8")
    write_json(paths["training"], json.loads(text))


def _write_history(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, HISTORY_COLUMNS, restval="NA", extrasaction="ignore")
        writer.writeheader()
        for entry in entries:
            if "eval_score" in entry:
                writer.writerow({**entry, "score": entry["eval_score"]})
            elif "loss" in entry:
                writer.writerow(entry)


def _facts(spec: Spec, work: WorkFolder, trainer: CellTrainer) -> dict[str, Any]:
    ledger, settings, steps = trainer.ledger, spec.settings, trainer.state.global_step
    model = trainer.accelerator.unwrap_model(trainer.model)
    config, inner = model.config.to_dict(), ("pending", "logged")
    kept = {key: value for key, value in asdict(ledger).items() if not key.startswith(inner)}
    ended_by = endings.ended_by(ledger.diverged_step, ledger.stopped_early, settings["training"])
    return {
        **kept,
        "ended_by": ended_by,
        "steps": steps,
        "epochs": trainer.state.epoch,
        "max_steps": trainer.state.max_steps,
        "train_runtime_s": ledger.runtime_s,
        "train_samples_per_second": ledger.samples / ledger.runtime_s,
        "train_steps_samples_per_second": ledger.samples / ledger.train_s,
        **trainer.micro_batches.facts(ledger.samples, steps),
        "padding_share": ledger.padding_share,
        **adapters.parameter_counts(model),
        "adaptation": adapters.adaptation(settings["model"].get("lora")),
        "initialisation": settings["model"]["initialisation"],
        "attention_regime": trainer.family.regime(config, settings["seq_len"]),
        "notes": trainer.family.notes(config, settings["seq_len"]),
        **trainer.family.facts(config),
        **({"encoder": settings["encoder"]} if "encoder" in settings else {}),
        "validation_examples": len(trainer.validator.examples),
        "peak_memory_kind": torch_device.peak_memory_kind(trainer.args.device),
        **environment.noted(work.path, attention=trainer.family.attention),
        "attempts": work.starts(),
        "execution": execution(spec.execution),
        "identity": dict(spec.identity),
        "provenance": spec.provenance,
    }


if __name__ == "__main__":
    run_worker(train)
