"""Forecast the peak memory of trainings, part by part, and compare it with measured peaks.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from longwatt.disk_space import GIB
from longwatt.models.family import EAGER, FAST, STOCK
from longwatt.plan import work
from longwatt.plan.causal_shapes import CausalShape
from longwatt.plan.data_sizes import Data
from longwatt.plan.model_shapes import AnyShape
from longwatt.plan.runtimes import UNKNOWN, RuntimeModel
from longwatt.study.cells import FINETUNE, step_batch

FLOAT32 = 4  # bytes; weights, gradients and moments have it in every precision
HALF_PRECISION = ("bf16", "fp16")  # precisions in which autocast computes with 2 bytes a number
OPTIMISER_MOMENTS = 2  # of the optimiser, for each trained parameter
LOSS_CHUNK = 16 * 2**20  # bytes of logits that a chunked loss holds at once, see attention.loss
HEAD_WIDTH = 64  # of a head of encoder-decoders and encoders, whose shapes do not say it
# Peak resident memory of a Python process after importing torch 2.13 (CPU), transformers (with its
# LED, Llama and Trainer), peft and datasets, by getrusage. A GPU's peak is of tensors alone.
LIBRARIES_GIB = 0.42


@dataclass(frozen=True)
class MemoryParts:
    """Forecast peak memory of one device of a training, in GiB, by what takes it.

    Attributes:
        weights: of the model, and their half-precision copies under autocast.
        gradients: of the trained parameters.
        optimiser: moments of the trained parameters.
        activations: kept for the backward pass.
        logits: of the loss, and their gradients.
        libraries: of the process; 0 on a GPU.
    """

    weights: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    libraries: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return float(sum(getattr(self, part.name) for part in fields(self)))


@dataclass(frozen=True)
class MemoryMiss:
    """Errors of forecast peaks of measured cells, as factors of at least 1."""

    cells: int
    median: float
    worst: float
    worst_cell: str


def training_memory(
    chosen: Mapping[str, Any], shape: AnyShape, data: Data, counts: tuple[int, int], path: str
) -> MemoryParts:
    """Forecast the peak memory of one device, of a mean batch.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`.
        shape, data: of its model and dataset.
        counts: parameters of the model, and those that training changes.
        path: of attention.
    """
    whole, trained = counts
    half, budget = chosen["budget"]["precision"] in HALF_PRECISION, chosen["budget"]
    rows = step_batch(work.per_device_batch(chosen, data), budget).per_device
    number = FLOAT32 // 2 if half else FLOAT32
    recomputed = bool(chosen["training"]["activation_checkpointing"])
    each = _kept_numbers(chosen, shape, data, path, recomputed)
    return MemoryParts(
        weights=whole * (FLOAT32 + (number if half else 0)) / GIB,
        gradients=trained * FLOAT32 / GIB,
        optimiser=OPTIMISER_MOMENTS * trained * FLOAT32 / GIB,
        activations=rows * each * number / GIB,
        logits=_logit_bytes(shape, rows * work.target_tokens(chosen, data), path) / GIB,
        libraries=0.0 if budget["gpus"] else LIBRARIES_GIB,
    )


def _kept_numbers(
    chosen: Mapping[str, Any], shape: AnyShape, data: Data, path: str, recomputed: bool
) -> float:
    """Count the numbers that all layers keep of one example for the backward pass."""
    inputs, total = work.input_tokens(chosen, data), 0.0
    largest = 0.0
    for layers, tokens, layer in _stacks(shape, inputs, work.target_tokens(chosen, data), path):
        total += layers * tokens * (shape.d_model if recomputed else layer)
        largest = max(largest, tokens * layer if layers else 0.0)
    return total + (largest if recomputed else 0.0)


def _stacks(
    shape: AnyShape, inputs: float, targets: float, path: str
) -> list[tuple[int, float, float]]:
    """List layers, tokens, and numbers kept per token and layer, of every stack."""
    dense, width = path in (EAGER, STOCK), shape.d_model
    if isinstance(shape, CausalShape):
        whole = inputs + targets
        scores = 2 * shape.heads * whole if dense else 0.0
        # Inputs of attention, its mixing, both norms and the block, and all its products.
        block = (4 if shape.gated else 2) * shape.ffn
        own = 4 * width + 2 * shape.query_width + 2 * shape.kv_width + block + scores
        return [(shape.layers, whole, own)]
    heads = width // HEAD_WIDTH or 1
    seen = min(inputs, float(shape.window or inputs))
    encoder = 8 * width + 2 * shape.encoder_ffn + (2 * heads * seen if dense else 0.0)
    crossed = 2 * heads * (targets + inputs) if dense else 0.0
    decoder = 13 * width + 2 * shape.decoder_ffn + crossed
    # Keys and values of the input are kept in every layer of the decoder.
    memory = (shape.decoder_layers, inputs, 2.0 * width)
    return [
        (shape.encoder_layers, inputs, encoder),
        (shape.decoder_layers, targets, decoder),
        memory,
    ]


def _logit_bytes(shape: AnyShape, positions: float, path: str) -> float:
    """Return the bytes of the logits that are held at once."""
    if not shape.decoder_layers:
        return 0.0
    every = 2 * positions * shape.vocabulary * FLOAT32
    chunked = isinstance(shape, CausalShape) or path == FAST
    return min(every, float(LOSS_CHUNK)) if chunked else every


def cell_memory(
    runtimes: RuntimeModel, name: str, whole: Mapping[str, int], trained: Mapping[str, int]
) -> MemoryParts | None:
    """Forecast the memory of a cell, None where its model's parameters are not known.

    Args:
        runtimes: of the study, with its shapes and data.
        name: the cell.
        whole, trained: parameters of each model, and those that training changes.
    """
    cell = runtimes.cells[name]
    if cell.model not in whole or cell.model not in trained:
        return None
    shape, data = runtimes.shapes[cell.model], runtimes.data[cell.dataset]
    counts, path = (whole[cell.model], trained[cell.model]), runtimes.attention(cell)
    return training_memory(runtimes.training_settings(name), shape, data, counts, path)


def memory_miss(
    rows: Collection[Mapping[str, str]],
    forecasts: Mapping[str, MemoryParts | None],
    of: Collection[tuple[str, str]] | None = None,
) -> MemoryMiss | None:
    """Compare forecasts with the measured peaks of trainings, None without any.

    Args:
        rows: of the study's summary.
        forecasts: by cell.
        of: (cell, part) of the measurements that count; None for all.
    """
    factors = {}
    for row in rows:
        name, peak = row.get("cell", ""), row.get("peak_memory_gib", "")
        forecast = forecasts.get(name)
        counts = of is None or (name, FINETUNE) in of
        if forecast is not None and counts and peak not in UNKNOWN and float(peak) > 0:
            ratio = forecast.total / float(peak)
            factors[name] = max(ratio, 1 / ratio)
    if not factors:
        return None
    worst = max(factors, key=lambda name: factors[name])
    return MemoryMiss(len(factors), statistics.median(factors.values()), factors[worst], worst)
