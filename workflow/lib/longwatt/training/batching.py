"""Put a cell's training examples into batches, and refuse too few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.inference.examples import CellExamples
from longwatt.jobs import distributed
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.worker import Spec
from longwatt.provenance.artefacts import read_artefact
from longwatt.study.cells import LARGEST, MOST_TOKENS, StepBatch, step_batch
from longwatt.training.sampling import LengthGroupedSampler, ShardedBatches
from longwatt.training.token_batches import TokenBatches

StepBatches = ShardedBatches | TokenBatches


def batch_of(spec: Spec) -> StepBatch:
    """Return a cell's optimiser step, with the budget's or the largest batch size."""
    budget = spec.settings["budget"]
    most = budget["per_device_batch_size"]
    if most == LARGEST:
        most = read_artefact(Path(spec.paths["batch_size"]), shared=True)["per_device_batch_size"]
    return step_batch(int(most), budget)


def batch_words(spec: Spec) -> str:
    """Say how much of a cell's training a device computes at once."""
    if (tokens := spec.settings["budget"].get(MOST_TOKENS)) is not None:
        return f"at most {tokens} tokens per device"
    return f"{batch_of(spec).per_device} examples per device"


def lower_words(budget: Mapping[str, Any]) -> str:
    """Name what to lower in a budget, so that a device computes less at once."""
    more = "(and raise its gradient_accumulation_steps)"
    if MOST_TOKENS in budget:
        return f"the budget's {MOST_TOKENS} {more}"
    return f"the budget's per_device_batch_size {more}, or set it to largest"


def step_batches(spec: Spec, examples: CellExamples) -> StepBatches:
    """Return this process's micro-batches of a cell's training.

    Raises:
        WorkerError: the examples fill no step, which would train with another batch size.
    """
    if MOST_TOKENS in spec.settings["budget"]:
        return _of_tokens(spec, examples)
    return _of_examples(spec, examples)


def _of_examples(spec: Spec, examples: CellExamples) -> ShardedBatches:
    settings, step = spec.settings, batch_of(spec)
    _check_size(examples, step)
    # If the step is given, its order and its loss must not depend on how much of it fits a device.
    given, grouped = settings["budget"]["effective_batch_size"], settings["training"]
    rank, processes = distributed.rank(), distributed.world_size()
    together = step.effective // processes if given else step.per_device
    order = LengthGroupedSampler(
        examples.lengths, together, settings["seed"], grouped["group_by_length"]
    )
    return ShardedBatches(order, step, rank, processes, examples.target_tokens if given else None)


def _of_tokens(spec: Spec, examples: CellExamples) -> TokenBatches:
    settings, budget, training = spec.settings, spec.settings["budget"], spec.settings["training"]
    found = TokenBatches(
        row_lengths(spec, examples),
        examples.target_tokens,
        budget[MOST_TOKENS],
        budget["gradient_accumulation_steps"],
        settings["seed"],
        distributed.rank(),
        distributed.world_size(),
        group=training["group_by_length"],
        packed=training.get("packing", False),
    )
    _check_tokens(found, len(examples))
    return found


def row_lengths(spec: Spec, examples: CellExamples) -> Sequence[int]:
    """Return the tokens of every example in a batch, which a budget of tokens counts.

    They are those of its input, and of its target too where both share a row.
    """
    if spec.settings["training"]["padding"] == "max_length":
        return [spec.settings["seq_len"]] * len(examples)
    return examples.lengths


def _check_size(examples: CellExamples, step: StepBatch) -> None:
    """Refuse a training split smaller than one batch: it would train with another batch size."""
    if len(examples) < step.effective:
        raise WorkerError(
            f"the training split has {len(examples)} examples, fewer than one effective batch of "
            f"{step.effective} ({step.per_device} per device x {step.accumulation} accumulation "
            f"steps x {distributed.world_size()} devices); lower per_device_batch_size, "
            "gradient_accumulation_steps or effective_batch_size in the cell's budget, or give the "
            "dataset more training rows"
        )


def _check_tokens(found: TokenBatches, examples: int) -> None:
    """Refuse a training split whose examples fill no step of micro-batches."""
    if len(found.cut) < found.accumulation * found.world_size:
        raise WorkerError(
            f"the {examples} examples of the training split make {len(found.cut)} batches of at "
            f"most {found.most} tokens, fewer than one step has ({found.accumulation} accumulation "
            f"steps x {found.world_size} devices); lower {MOST_TOKENS} or "
            "gradient_accumulation_steps in the cell's budget, or give the dataset more training "
            "rows"
        )
