"""Find the largest batch per device that fits a budget's memory, by training on it.

It runs as `python -m longwatt.training.probe_batch_size SPEC` on one device, whatever the budget's
number of them. Every size is tried in its own process: a failed one leaves caches and gaps behind,
which would make smaller ones fail too. The first try also predicts a validation batch.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerControl,
)

from longwatt.inference.examples import label_names
from longwatt.inference.predictor import Predictor, prediction_options
from longwatt.jobs import environment, torch_device
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.worker import Spec, die_with_parent, run_worker
from longwatt.models import adapters, load_family
from longwatt.models.family import Batch, Example, Family
from longwatt.processes import lift_memory_limit
from longwatt.progress import say
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import GENERATED
from longwatt.tasks import CLASSIFICATION
from longwatt.tokens.prompt_templates import answer_room
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.tokens.tokenize import repair_tokens

MOST = 1024  # examples per device: a sensible bound where memory would allow more
TOKENS_OF_LABEL = 1  # of any label, whatever its name
STEPS = 2  # the first allocates the optimiser's state, the second runs beside it
# Part of the limit that is held back. Later batches come in other orders and shapes and leave gaps
# between them, and on a GPU the allocator does not count the memory that CUDA itself takes.
HELD_BACK = 0.05
# What the process of a try says before its result.
STARTED, VALIDATES = "started", "validates"
BEGUN = {STARTED, VALIDATES}


@dataclass(frozen=True)
class Try:
    """A batch size that was tried."""

    batch_size: int
    fits: bool  # whether all steps succeeded
    peak_gib: float | None  # peak memory of the device in these steps; None where they failed
    seconds: float  # duration of the try, the start of its process included
    limit_gib: float | None  # its limit of memory; None where it died
    said: str | None = None  # reason why it does not fit
    attention: str | None = None  # path in use; None where it does not fit
    # Peak memory of a validation batch, which is tried with the first size; None with the others.
    validation_gib: float | None = None


def largest(attempt: Callable[[int], Try], most: int) -> list[Try]:
    """Try sizes until the largest that fits is known.

    Memory grows linearly with the batch, so two sizes that fit predict the largest. Every second
    try halves the rest (or doubles what fits), so a wrong prediction costs little.

    Args:
        attempt: makes a try; where a size fits, every smaller size must fit too.
        most: the largest size worth a try.

    Returns:
        All tries in their order, at most 4 log2(most) + 4. If 1 does not fit, none does.
    """
    done: list[Try] = []
    low, high = 0, most + 1  # fits; does not, or need not be tried
    while high - low > 1:
        size = _next(done, low, high, most)
        done.append(attempt(size))
        low, high = (size, high) if done[-1].fits else (low, size)
    return done


def _next(done: Sequence[Try], low: int, high: int, most: int) -> int:
    if low == 0:
        return 1
    halving = (low + high) // 2 if high <= most else 2 * low
    predicted = _predicted(done) if len(done) % 2 == 0 else None
    return max(low + 1, min(halving if predicted is None else predicted, high - 1))


def _predicted(done: Sequence[Try]) -> int | None:
    """Predict the largest size from the two largest that fit, if there are two."""
    fitting = sorted((t for t in done if t.fits), key=lambda t: t.batch_size)[-2:]
    if len(fitting) < 2:
        return None
    (x1, y1), (x2, y2) = ((t.batch_size, t.peak_gib or 0.0) for t in fitting)
    slope, limit = (y2 - y1) / (x2 - x1), fitting[1].limit_gib or 0.0
    return None if slope <= 0 else math.floor(x2 + (limit - y2) / slope)


class _Longest(Dataset[Example]):
    """Examples of full length, whose tokens and labels do not matter to memory."""

    def __init__(self, settings: Mapping[str, Any], prompted: bool, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        targets = settings.get("max_target_tokens")
        # An answer stands behind its prompt, and both are within the length.
        room = answer_room(settings) if prompted else 0
        self.count = 0
        self.input_ids = _ids(vocabulary, settings["seq_len"] - room, generator)
        self.labels = [0] if targets is None else _ids(vocabulary, targets, generator)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Example:
        return Example(str(position), self.input_ids, self.labels, references=("",))


def _ids(vocabulary: int, count: int, generator: torch.Generator) -> list[int]:
    ids: list[int] = torch.randint(vocabulary, (count,), generator=generator).tolist()
    return ids


class _ProbeTrainer(Seq2SeqTrainer):  # type: ignore[misc]
    def __init__(self, family: Family, validate: Callable[[], None], **kwargs: Any) -> None:
        self.control: TrainerControl  # the base class is untyped
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.family = family
        self.validate = validate

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.family.loss(model, inputs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.validate()
        self.control.should_evaluate = False  # or the end of the epoch would ask for it again
        return {}


def attempt(spec: Spec, batch_size: int) -> Try:
    """Try a batch size in its own process, and raise a WorkerError unless memory decides."""
    start = time.perf_counter()
    mine, its = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")  # a fork would share CUDA and libraries' threads
    process = context.Process(target=_child, args=(spec, batch_size, its, os.getpid()), daemon=True)
    process.start()
    its.close()
    answers = _answers(mine)
    process.join()
    code = f"(exit code {process.exitcode})"
    if not answers:
        raise WorkerError(f"the process that was to try {batch_size} did not start {code}")
    # If it began and died, it was killed or aborted for want of memory: it reports anything else.
    dead = {"fits": False, "said": f"died {code}"}
    said = next((answer for answer in answers if not answer.keys() & BEGUN), dead)
    if "error" in said:
        raise WorkerError(f"a batch of {batch_size} could not be tried: {said['error']}")
    if not said["fits"] and {VALIDATES: True} in answers:
        raise WorkerError(_validation_words(spec, str(said["said"])))
    found: dict[str, Any] = {"peak_gib": None, "limit_gib": None, **said}
    made = Try(batch_size=batch_size, seconds=time.perf_counter() - start, **found)
    outcome = f"fits, peak {made.peak_gib:.2f} GiB" if made.fits else f"does not fit ({made.said})"
    if made.validation_gib is not None:
        outcome += f"; the largest validation batch too, peak {made.validation_gib:.2f} GiB"
    say(f"batch size {batch_size} {outcome}, {made.seconds:.0f} s")
    return made


def _answers(connection: Connection) -> list[dict[str, Any]]:
    """Collect all answers of a process until it ends."""
    answers = []
    with contextlib.suppress(EOFError):
        while True:
            answers.append(connection.recv())
    return answers


def _child(spec: Spec, batch_size: int, answer: Connection, parent: int) -> None:
    die_with_parent()
    if os.getppid() != parent:  # it died while this process was starting
        return
    answer.send({STARTED: True})
    try:
        limit = limit_gib(spec.settings["budget"]) * (1 - HELD_BACK)
        device = torch_device.prepare({**spec.settings["budget"], "memory_gib_per_gpu": limit})
        try:
            found = _steps(spec, batch_size, device, lambda: answer.send({VALIDATES: True}))
            answer.send({"fits": True, "limit_gib": limit, **found})
        except Exception as error:
            if not torch_device.out_of_memory(error):
                raise
            lift_memory_limit()
            said = (str(error) or type(error).__name__).splitlines()[0]
            answer.send({"fits": False, "said": said, "limit_gib": limit})
    except Exception as error:
        answer.send({"error": f"{type(error).__name__}: {error}"})


def _steps(
    spec: Spec, batch_size: int, device: torch.device, validates: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Train some steps, predict a validation batch after the first size's, and tell of both.

    Args:
        validates: is called before the validation batch.

    Returns:
        A Try's peaks of memory and its path of attention.
    """
    settings = spec.settings
    tokenizer = load_tokenizer(Path(spec.paths["tokenizer"]).parent)
    family = load_family(settings["model"]["family"])
    model = family.place(_model(spec, family, tokenizer), device, settings["budget"]["precision"])
    if settings.get("packing"):
        family.check_packing(model, settings["budget"]["precision"])
    if batch_size == 1:  # the first to be tried; the others have the same path
        environment.say_attention(family)
    # The memory of data-parallel training's buckets, if several devices train together.
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    buckets = torch.zeros(trained if settings["devices"] > 1 else 0, device=device)
    longest = _Longest(settings, family.prompted, len(tokenizer))
    longest.count = batch_size * STEPS * _accumulation(settings)
    peaks: dict[str, float] = {}

    def validate() -> None:
        peaks["peak_gib"] = torch_device.peak_limited_gib(device)
        torch_device.forget_peak(device)
        validates()
        _predict(spec, family, model, tokenizer, longest)
        torch_device.synchronize(device)
        peaks["validation_gib"] = torch_device.peak_limited_gib(device)

    _ProbeTrainer(
        family,
        validate,
        model=model,
        args=_arguments(settings, spec.paths["work"], batch_size),
        train_dataset=longest,
        eval_dataset=longest,  # the library wants one; `validate` has its own batch
        data_collator=lambda chosen: _batch(family, chosen, settings),
    ).train()
    torch_device.synchronize(device)
    del buckets  # held until here
    peak = torch_device.peak_limited_gib(device)
    return {"peak_gib": peak, **peaks, "attention": family.attention}


def _model(spec: Spec, family: Family, tokenizer: Any) -> Any:
    settings, source = spec.settings, spec.paths.get("checkpoint")
    labels = label_names(spec.paths["dataset"]) if settings.get("task") == CLASSIFICATION else ()
    checkpoint = Path(source).parent if source else None
    room = answer_room(settings) if "generation" in settings else TOKENS_OF_LABEL
    model = family.build(
        settings["model"], tokenizer, checkpoint, settings["seq_len"], room, labels
    )
    adapters.check_adapted(model, settings["model"])
    if settings["activation_checkpointing"]:
        model.gradient_checkpointing_enable()  # type: ignore[operator]
    return model


def _batch(family: Family, chosen: Sequence[Example], settings: Mapping[str, Any]) -> Batch:
    if settings.get("packing"):
        return family.pack(_uneven(chosen))
    return family.collate(_uneven(chosen), settings["seq_len"], settings.get("max_target_tokens"))


def _predict(spec: Spec, family: Family, model: Any, tokenizer: Any, examples: _Longest) -> None:
    """Predict the largest validation batch, in which no answer ends early."""
    settings, count = spec.settings, validated_together(spec)
    if generation := settings.get("generation"):
        longest = {**generation, "min_new_tokens": generation["max_new_tokens"]}
        settings = {**settings, "generation": longest}
    how = prediction_options(settings, settings["validation"])
    precision, most = settings["budget"]["precision"], settings.get("max_target_tokens")
    predictor = Predictor(
        family,
        model,
        tokenizer,
        how=how,
        precision=precision,
        pad_to=settings["seq_len"],
        target_pad_to=most,
    )
    model.eval()
    chosen = _uneven([examples[position] for position in range(count)])
    list(predictor.predict(chosen, [range(count)]))


def validated_together(spec: Spec) -> int:
    """Count the examples of the largest validation batch."""
    wanted = spec.settings["validation"]
    rows = load_split(Path(spec.paths["tokens"]), wanted["split"], wanted["max_examples"])
    return min(int(wanted["batch_size"]), sum(rows.sizes("references")))


def _validation_words(spec: Spec, said: str) -> str:
    """Say that a validation batch does not fit, and what to set."""
    settings, limit = spec.settings, limit_gib(spec.settings["budget"])
    written = ""
    if settings.get("protocol") == GENERATED:
        generation = settings["generation"]
        words = f"{generation['num_beams']} beam(s) of {generation['max_new_tokens']} tokens"
        written = f", each answered with {words},"
    return (
        f"one example can be trained on, but a validation batch of {validated_together(spec)} "
        f"examples of {settings['seq_len']} tokens{written} does not fit into {limit:.2g} GiB, of "
        f"which {HELD_BACK:.0%} are held back, beside the weights and the optimiser's state "
        f"({said}); lower training.validation.batch_size in the entry of this cell's model or "
        "budget, or raise memory_gib_per_gpu"
    )


def _uneven(chosen: Sequence[Example]) -> list[Example]:
    """Make one of several examples a token shorter.

    Documents of unequal length need masks and copies that equal ones do without: up to a quarter
    more memory on the fast path of attention.
    """
    *others, last = chosen
    shorter = last if not others else replace(last, input_ids=last.input_ids[:-1])
    return [*others, shorter]


def probe(spec: Spec) -> None:
    """Find the largest batch and write it.

    Args:
        spec: settings as `longwatt.study.settings.probe_settings`; paths tokens, tokenizer,
            checkpoint (or none), work, batch_size, probe; provenance.

    Raises:
        WorkerError: not even one example fits, or something else than memory went wrong.
    """
    repair_tokens(spec.paths)
    bound = _most(spec)
    tries = largest(lambda size: attempt(spec, size), bound)
    fitting = max((t for t in tries if t.fits), key=lambda t: t.batch_size, default=None)
    limit = limit_gib(spec.settings["budget"])
    if fitting is None or fitting.peak_gib is None:
        targets = spec.settings.get("max_target_tokens")
        target = "and its label" if targets is None else f"with {targets} target tokens"
        raise WorkerError(
            f"not one example of {spec.settings['seq_len']} tokens {target} fits into {limit:.2g} "
            f"GiB, of which {HELD_BACK:.0%} are held back ({tries[0].said}); set "
            "training.activation_checkpointing, a lower precision, more memory_gib_per_gpu, or "
            "exclude the cell"
        )
    found = {"per_device_batch_size": fitting.batch_size}
    facts = {
        "limit_gib": limit,
        "held_back_gib": limit * HELD_BACK,
        "peak_memory_gib": fitting.peak_gib,
        "margin_gib": limit - fitting.peak_gib,
        "attention": fitting.attention,
        "validation_batch_size": validated_together(spec),
        "validation_peak_memory_gib": tries[0].validation_gib,
        "bounded_by": _bounded_by(tries, bound, spec.settings["most"]),
        "tries": [vars(t) for t in tries],
        **environment.machine_facts(spec.settings["budget"]),
    }
    write_json(spec.paths["probe"], {**found, **facts, "provenance": spec.provenance})
    write_json(spec.paths["batch_size"], found)


def _bounded_by(tries: Sequence[Try], bound: int, wanted: int | None) -> str:
    """Name the bound that kept the batch from being larger."""
    if not all(t.fits for t in tries):
        return "memory"
    if bound == wanted:
        return "effective batch size"
    return "training examples" if bound < MOST else "the search"


def limit_gib(budget: Mapping[str, Any]) -> float:
    """Return the GiB per device: the budget's, and at most those of the device."""
    there = torch_device.total_memory_gib(budget)
    wanted = budget["memory_gib_per_gpu"]
    return there if wanted is None else min(there, float(wanted))


def _most(spec: Spec) -> int:
    """Return the largest batch that a step can use and that the training split fills."""
    settings = spec.settings
    if settings["most"]:
        return int(settings["most"])
    rows = load_split(Path(spec.paths["tokens"]), "train", None)
    examples = sum(rows.sizes("references"))
    per_step: int = settings["gradient_accumulation_steps"] * settings["devices"]
    return max(1, min(MOST, examples // per_step))


def _accumulation(settings: Mapping[str, Any]) -> int:
    """Return the steps to try: from the second on, gradients lie beside activations."""
    return min(2, int(settings["gradient_accumulation_steps"]))


def _arguments(settings: Mapping[str, Any], work: str, batch_size: int) -> Seq2SeqTrainingArguments:
    """Return the arguments of training that memory depends on."""
    precision = settings["budget"]["precision"]
    return Seq2SeqTrainingArguments(
        output_dir=work,
        per_device_train_batch_size=batch_size,
        max_steps=STEPS,
        gradient_accumulation_steps=_accumulation(settings),
        max_grad_norm=settings["max_grad_norm"],
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=settings["budget"]["gpus"] == 0,
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        eval_strategy="steps" if batch_size == 1 else "no",  # the size that is tried first
        eval_steps=STEPS,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    run_worker(probe)
