"""Forecast the memory that a training and its predictions take on each device.

Nothing here is a measurement. It adds up all that lies there at once: the process itself on a CPU,
weights, the optimiser's moments, gradients, what the backward pass needs of the forward pass,
logits, and the keys and values that generation keeps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longwatt.disk_space import GIB
from longwatt.freshness.summary_file import positive
from longwatt.models.family import FAST
from longwatt.plan import work
from longwatt.plan.causal_shapes import CausalShape
from longwatt.plan.data_sizes import TOKENS_PER_WORD, Data
from longwatt.plan.disk import Parameters
from longwatt.plan.kept import HALVED, kept_of_causal, kept_of_decoder, kept_of_encoder
from longwatt.plan.model_shapes import AnyShape
from longwatt.plan.runtimes import RuntimeModel
from longwatt.study import cells as grid
from longwatt.study.cells import FINETUNE, PREDICT

FLOAT, HALF_FLOAT = 4, 2  # bytes
MOMENTS_OF_ADAM = 2
PUBLISHED_FAMILIES = ("led", "bigbird_pegasus")  # their stock path is transformers' own
CHUNK_BYTES = 1 << 24  # logits that the chunked loss holds at once
COPIES = 3  # of logits: themselves, their gradient, and what turns one into the other
# Times a layer's activations that its backward pass takes under activation checkpointing: they are
# made again, and beside them lie their gradients and short-lived tensors.
RECOMPUTED = 3
# A process on a CPU that has loaded torch and transformers and has read its data, as measured.
PROCESS_GIB = 0.42
# On a CPU the C library's allocator leaves gaps between what is kept: so many times the activations
# the process grew in trainings of all weights, and of adapters, whose short-lived tensors are many.
GAPS, GAPS_OF_ADAPTERS = 1.3, 1.7
LONGEST = 3  # times as long as the mean is the longest input, where all are not as long


@dataclass(frozen=True)
class Memory:
    """Add up the memory of one device at its peak, in GiB.

    Attributes:
        process: Python and its libraries, on a CPU, whose peak is that of the process.
        weights: in fp32, and their copies in half precision.
        gradients: and with several devices the buckets in which these are exchanged.
        moments: of the optimiser.
        activations: that the backward pass needs, or of a layer that predicts.
        logits: with the gradient of the output layer.
        cache: keys and values in generation.
    """

    process: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0
    moments: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(asdict(self).values()))

    @property
    def limited(self) -> float:
        """The part that counts towards a budget's limit: all but the process itself."""
        return self.total - self.process


@dataclass(frozen=True)
class Subject:
    """Hold what a forecast needs to know of a cell beside its settings.

    Attributes:
        shape: of the model.
        config: of the model, as far as it is known.
        data: of its dataset.
        parameters: of the model.
        trainable: of these, those that training changes.
    """

    shape: AnyShape
    config: Mapping[str, Any]
    data: Data
    parameters: int
    trainable: int


def training_memory(chosen: Mapping[str, Any], of: Subject) -> Memory:
    """Forecast the peak of a training on each device, its validations included.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`.
        of: the cell's model and data.
    """
    step = _step(chosen, of)
    validation = chosen["training"]["validation"]
    checked = _predicting(chosen, of, int(validation["batch_size"]), _moments(of))
    return max(step, checked, key=lambda found: found.total)


def predicting_memory(chosen: Mapping[str, Any], of: Subject) -> Memory:
    """Forecast the peak of an inference point on each device.

    Args:
        chosen: as `longwatt.study.settings.predict_settings`.
        of: the cell's model and data.
    """
    return _predicting(chosen, of, int(chosen["inference"]["batch_size"]), 0.0)


def _moments(of: Subject) -> float:
    return FLOAT * MOMENTS_OF_ADAM * of.trainable / GIB


def _step(chosen: Mapping[str, Any], of: Subject) -> Memory:
    """Forecast the peak of an optimiser step.

    Gradients grow while activations go. Both are whole at once where a second micro-batch adds to
    the gradients of a first.
    """
    budget = chosen["budget"]
    gradients, shared = FLOAT * of.trainable / GIB, grid.device_count(budget) > 1
    activations, logits = _activations(chosen, of) / GIB, _loss_logits(chosen, of) / GIB
    if not budget["gpus"]:
        activations *= GAPS_OF_ADAPTERS if of.shape.adapters else GAPS
    size = work.per_device_batch(chosen, of.data)
    adds = grid.step_batch(size, budget).accumulation > 1
    grown = gradients if adds else max(0.0, gradients - activations)
    return Memory(
        process=_process(budget),
        weights=_weights(budget, of),
        gradients=grown + (gradients if shared else 0.0),
        moments=_moments(of),
        activations=activations,
        logits=logits,
    )


def _process(budget: Mapping[str, Any]) -> float:
    return 0.0 if budget["gpus"] else PROCESS_GIB


def _weights(budget: Mapping[str, Any], of: Subject) -> float:
    """Return GiB of weights, with the copies that mixed precision computes with."""
    return of.parameters * (FLOAT + (HALF_FLOAT if _is_half(budget) else 0)) / GIB


def _is_half(budget: Mapping[str, Any]) -> bool:
    return budget["precision"] in HALVED


def longest_row(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the tokens of the longest input, a prompt's text included."""
    mean = work.input_tokens(chosen, data)
    spread = LONGEST * data.words_in * TOKENS_PER_WORD
    room = work.input_room(chosen)
    return mean if mean >= room else min(room, max(mean, spread))


def longest_target(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the tokens of the longest target."""
    most = float(chosen["training"].get("max_target_tokens", work.LABEL_TOKENS))
    return min(most, LONGEST * work.target_tokens(chosen, data))


def _batch(chosen: Mapping[str, Any], of: Subject) -> tuple[float, float, float]:
    """Return the largest batch: rows, and tokens of each one's input and target."""
    length, targets = longest_row(chosen, of.data), longest_target(chosen, of.data)
    if most := chosen["budget"].get("max_tokens_per_batch"):
        row = length + (targets if isinstance(of.shape, CausalShape) else 0.0)
        return max(1, int(most) // math.ceil(row)), length, targets
    return work.per_device_batch(chosen, of.data), length, targets


def _activations(chosen: Mapping[str, Any], of: Subject) -> float:
    """Return the bytes that the backward pass needs of the largest batch."""
    rows, length, targets = _batch(chosen, of)
    shape, width = of.shape, of.shape.d_model
    tokens = length + targets  # of a row, or of an input and a target
    all_layers = rows * _kept(chosen, of, length, targets)
    outside = rows * tokens * width * 3 * FLOAT  # embeddings and the last norm
    if not chosen["training"]["activation_checkpointing"]:
        return all_layers + outside
    layers = shape.passed_layers
    return RECOMPUTED * all_layers / layers + rows * tokens * width * FLOAT * layers + outside


def _kept(chosen: Mapping[str, Any], of: Subject, length: float, targets: float) -> float:
    """Return the bytes that all layers keep of one example."""
    shape, half = of.shape, _is_half(chosen["budget"])
    path, on_cpu = chosen["model"]["attention"], not chosen["budget"]["gpus"]
    if isinstance(shape, CausalShape):
        whole = length + targets
        return whole * kept_of_causal(shape, of.config, whole, half, on_cpu)
    encoder = kept_of_encoder(shape, of.config, length, half, path, on_cpu)
    return length * encoder + kept_of_decoder(shape, of.config, length, targets, half, path)


def _loss_logits(chosen: Mapping[str, Any], of: Subject) -> float:
    """Return the bytes of logits in a step, and of the output layer's own gradient.

    The chunked loss holds few logits at once, but the gradient twice until it is added. The stock
    path of LED and BigBird holds all logits.
    """
    if not of.shape.decoder_layers:
        return 0.0
    rows, _, targets = _batch(chosen, of)
    logits = COPIES * FLOAT * rows * targets * of.shape.vocabulary
    chunked = chosen["model"]["family"] not in PUBLISHED_FAMILIES
    if not (chunked or chosen["model"]["attention"] == FAST):
        return logits
    head = 2 * FLOAT * of.shape.vocabulary * of.shape.d_model
    return min(logits, COPIES * CHUNK_BYTES) + (0.0 if of.shape.adapters else head)


def _predicting(chosen: Mapping[str, Any], of: Subject, rows: int, moments: float) -> Memory:
    """Forecast predictions of batches of so many rows, beside the moments of a training."""
    budget, length = chosen["budget"], longest_row(chosen, of.data)
    cache, logits, tokens = 0.0, 0.0, length
    if of.shape.decoder_layers:
        answer = _answer_tokens(chosen)
        beams = _beams(chosen)
        logits = COPIES * FLOAT * rows * of.shape.vocabulary * (beams or answer)
        cache = _cached(of, rows, length, answer, beams) if beams else 0.0
        tokens = length + (answer if isinstance(of.shape, CausalShape) and not beams else 0.0)
    size = HALF_FLOAT / FLOAT if _is_half(budget) else 1.0
    return Memory(
        process=_process(budget),
        weights=_weights(budget, of),
        moments=moments,
        activations=rows * tokens * _passing(of.shape) / GIB,
        logits=logits / GIB,
        cache=size * cache / GIB,
    )


def _passing(shape: AnyShape) -> float:
    """Return the bytes of a token inside one layer, as a prediction holds them."""
    return FLOAT * (8 * shape.d_model + 2 * shape.encoder_ffn)


def _answer_tokens(chosen: Mapping[str, Any]) -> int:
    """Return the most tokens of an answer."""
    if chosen["protocol"] == grid.GENERATED:
        return int(chosen["generation"]["max_new_tokens"])
    return int((chosen.get("training") or chosen)["max_target_tokens"])


def _beams(chosen: Mapping[str, Any]) -> int:
    """Return the beams of generation, 0 where nothing is generated."""
    return int(chosen["generation"]["num_beams"]) if chosen["protocol"] == grid.GENERATED else 0


def _cached(of: Subject, rows: int, length: float, answer: int, beams: int) -> float:
    """Return the bytes of keys and values in generation.

    A decoder-only model keeps those of prompt and answer for each beam, and as a cache grows by
    copies, those of a layer twice. An encoder-decoder keeps those of the input, and of the answer
    for each beam.
    """
    shape = of.shape
    if isinstance(shape, CausalShape):
        each = 2 * FLOAT * shape.kv_width * (length + answer)
        return rows * beams * each * (shape.layers + 1)
    each = 2 * FLOAT * shape.d_model * shape.decoder_layers
    return rows * each * (length + beams * answer)


@dataclass(frozen=True)
class CellMemory:
    """Hold the memory of a cell at the peak of a device.

    Attributes:
        training: of its training, validations included.
        predicting: of its inference points, by their names.
        limit_gib: what its budget allows a device, None for all there is.
        on_cpu: whether the peak is that of a process rather than that of a GPU.
    """

    training: Memory
    predicting: Mapping[str, Memory]
    limit_gib: float | None
    on_cpu: bool

    @property
    def most(self) -> Memory:
        """The part that takes most."""
        return max((self.training, *self.predicting.values()), key=lambda found: found.total)

    @property
    def exceeds(self) -> bool:
        """Check whether the forecast is above what the budget allows."""
        return self.limit_gib is not None and self.most.limited > self.limit_gib


def memories(model: RuntimeModel, parameters: Parameters) -> dict[str, CellMemory]:
    """Forecast the memory of all cells whose parameters are known.

    Args:
        model: of the study's settings and shapes.
        parameters: of its models.
    """
    known = parameters.trained.keys() & parameters.trainable.keys()
    return {
        name: _memory_of(model, parameters, name)
        for name, cell in model.cells.items()
        if cell.model in known
    }


def _memory_of(model: RuntimeModel, parameters: Parameters, name: str) -> CellMemory:
    cell, chosen = model.cells[name], model.chosen(name, FINETUNE)
    trainable = parameters.trainable[cell.model]
    subject = Subject(
        shape=model.shapes[cell.model],
        config=model.known_configs[cell.model],
        data=model.data[cell.dataset],
        parameters=parameters.trained[cell.model] + (trainable if "lora" in chosen["model"] else 0),
        trainable=trainable,
    )
    points = {point: model.chosen(name, PREDICT + point) for point in model.points_of(name)}
    return CellMemory(
        training=training_memory(chosen, subject),
        predicting={point: predicting_memory(one, subject) for point, one in points.items()},
        limit_gib=chosen["budget"]["memory_gib_per_gpu"],
        on_cpu=not chosen["budget"]["gpus"],
    )


@dataclass(frozen=True)
class MemoryMiss:
    """Sum up the errors of forecast peaks of trainings, as factors of at least 1.

    Attributes:
        cells: how many were measured.
        median, worst: of their errors.
        worst_cell: cell of the worst.
        over: how many of the forecasts are above what was measured.
    """

    cells: int
    median: float
    worst: float
    worst_cell: str
    over: int


def memory_miss(
    model: RuntimeModel,
    forecast: Mapping[str, CellMemory],
    of: Collection[tuple[str, str]] | None = None,
) -> MemoryMiss | None:
    """Compare the forecast peaks of trainings with those that were measured.

    Args:
        model: with the rows of the study's summary.
        forecast: by cell.
        of: (cell, part) of the measurements that count; None for all.

    Returns:
        None where nothing was measured.
    """
    # A cell has a row per inference point; those of an untrained model have no peak.
    peaks = ((row["cell"], positive(row.get("peak_memory_gib"))) for row in model.rows)
    measured = {name: peak for name, peak in peaks if peak and name in forecast}
    ratios = {
        name: forecast[name].training.total / peak
        for name, peak in measured.items()
        if of is None or (name, FINETUNE) in of
    }
    if not ratios:
        return None
    factors = {name: max(ratio, 1 / ratio) for name, ratio in ratios.items()}
    worst = max(factors, key=lambda name: factors[name])
    over = sum(ratio > 1 for ratio in ratios.values())
    return MemoryMiss(
        len(factors), statistics.median(factors.values()), factors[worst], worst, over
    )
