"""Work of trainings and predictions, and the seconds it takes by floating-point operations.

Read at parse time: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from longwatt.plan.data_sizes import TOKENS_PER_WORD, Data
from longwatt.plan.model_shapes import AnyShape
from longwatt.study import cells as grid
from longwatt.study import settings

# Operations per second of a device in training, by precision: those of frameworks, not of data
# sheets.
CPU_FLOPS = 5.0e10  # a few cores
GPU_FLOPS = {"fp32": 1.0e13, "tf32": 4.0e13, "bf16": 8.0e13, "fp16": 8.0e13}  # a GPU of 2020
# Seconds of one layer's forward pass whatever the work: small batches and token-by-token
# generation wait for it.
CPU_LAYER_S = 1e-3
GPU_LAYER_S = 1e-3
# Through how many layers' time a training step goes for each layer: a backward pass takes two.
TRAINING_PASSES = 3
RECOMPUTED_PASSES = 4  # activation checkpointing repeats the forward pass
LABEL_TOKENS = 1  # a label instead of a text, which nothing decodes
CHAT_TOKENS = 20  # around a message in a chat template
LARGEST_BATCH = 8  # examples per device where the largest that fits is asked for and unknown yet


@dataclass(frozen=True)
class Speed:
    """Assumed speed of a job's devices.

    Attributes:
        count: devices that share the work.
        flops: operations per second of each.
        layer_s: seconds of a layer's forward pass beside its operations.
    """

    count: int
    flops: float
    layer_s: float

    @classmethod
    def of(cls, budget: Mapping[str, Any]) -> Speed:
        """Assume the speed of a budget's GPUs, or of the processes that share the CPU."""
        if not budget["gpus"]:
            processes = grid.device_count(budget)
            return cls(processes, CPU_FLOPS / processes, CPU_LAYER_S)
        flops = GPU_FLOPS.get(budget["precision"], GPU_FLOPS["fp32"])
        return cls(int(budget["gpus"]), flops, GPU_LAYER_S)

    def seconds(self, work: float, layers: float) -> float:
        """Return the seconds of `work` operations in `layers` layers.

        A GPU that does some of both at once would be faster; that is left out.
        """
        return work / self.flops + layers * self.layer_s


@dataclass(frozen=True)
class Work:
    """Work of a training: its steps and validations, and the seconds of each one."""

    steps: float
    validations: int
    step_s: float
    validation_s: float

    @property
    def seconds(self) -> float:
        """Seconds of all steps and validations."""
        return self.steps * self.step_s + self.validations * self.validation_s

    @property
    def validation_share(self) -> float:
        """Part of the time that validations take, 0 to 1."""
        return self.validations * self.validation_s / self.seconds if self.seconds else 0.0


def median_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the optimiser steps by which half of the trainings have stopped.

    Assumed: between the first possible stop and the last step, each doubling of the steps is as
    likely to see the stop as any other (a log-uniform distribution), so half have stopped at the
    geometric mean.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`.
        data: of its dataset.
    """
    first, last = _stops(chosen, data)
    return math.sqrt(first * last)


def mean_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the mean optimiser steps of trainings that may stop early, for bills.

    It is that of the distribution of `median_steps`, greater than the median. Arguments as there.
    """
    first, last = _stops(chosen, data)
    return (last - first) / math.log(last / first) if first < last else last


def most_steps(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the steps of a training that never stops early. Arguments: see `median_steps`."""
    training, budget = chosen["training"], chosen["budget"]
    effective = grid.step_batch(per_device_batch(chosen, data), budget).effective
    per_epoch = math.ceil(data.rows.get("train", 0) / effective) or 1
    last: float = training["max_steps"] or training["max_epochs"] * per_epoch
    return last


def _stops(chosen: Mapping[str, Any], data: Data) -> tuple[float, float]:
    """Return the first step at which a training can stop, and its last."""
    validation, last = chosen["training"]["validation"], most_steps(chosen, data)
    return min(last, (validation["patience"] + 1) * validation["every_steps"]), last


Steps = Callable[[Mapping[str, Any], Data], float]


def training_work(
    chosen: Mapping[str, Any], shape: AnyShape, data: Data, steps: Steps = median_steps
) -> Work:
    """Foretell the work of a training and the seconds of its parts.

    Args:
        chosen: as `longwatt.study.settings.finetune_settings`.
        shape, data: of its model and dataset.
        steps: how many it makes: the median, the mean or the most.
    """
    validation = chosen["training"]["validation"]
    done = steps(chosen, data)
    references = chosen.get("comparison", settings.COMPARISON_DEFAULTS)["references"]
    examples = data.predictions(validation["split"], validation["max_examples"], references)
    each = _prediction_seconds(chosen, shape, data, examples, validation)
    validations = math.ceil(done / int(validation["every_steps"]))
    return Work(done, validations, _step_seconds(chosen, shape, data), each)


def predict_seconds(
    chosen: Mapping[str, Any], shape: AnyShape, data: Data, depth: float | None = None
) -> float:
    """Foretell the seconds of one inference point.

    Args:
        chosen: as `longwatt.study.settings.predict_settings`.
        shape, data: of its model and dataset.
        depth: share of its layers that a mean example runs; None as `Shape.depth` assumes it.
    """
    point, shape = chosen["inference"], _predicting(chosen, shape)
    references = chosen.get("references", settings.COMPARISON_DEFAULTS["references"])
    examples = data.predictions(point["split"], point["max_examples"], references)
    return _prediction_seconds(chosen, shape, data, examples, point, depth)


def _predicting(chosen: Mapping[str, Any], shape: AnyShape) -> AnyShape:
    """Leave adapters out where they are merged into the weights, or not used at all."""
    return shape if chosen.get("lora") else replace(shape, adapters=None)


def record_seconds(chosen: Mapping[str, Any], shape: AnyShape, data: Data) -> float:
    """Foretell the seconds of recording every exit's logits, for which all layers are run.

    Args:
        chosen: as `longwatt.study.settings.record_settings`.
        shape, data: of its model and dataset.
    """
    how = {"batch_size": chosen["batch_size"]}
    return _prediction_seconds(chosen, shape, data, recorded(chosen, data), how)


def recorded(chosen: Mapping[str, Any], data: Data) -> int:
    """Count the examples whose exits are recorded. Arguments: see `record_seconds`."""
    return sum(data.inputs(split) for split in chosen["splits"])


def per_device_batch(chosen: Mapping[str, Any], data: Data) -> int:
    """Return the examples that a device holds at once, on average.

    Arguments are as in `median_steps`.
    """
    budget = chosen["budget"]
    if most := budget.get("max_tokens_per_batch"):
        return max(1, int(most // row_tokens(chosen, data)))
    batch = budget["per_device_batch_size"]
    return batch if isinstance(batch, int) else LARGEST_BATCH


def _step_seconds(chosen: Mapping[str, Any], shape: AnyShape, data: Data) -> float:
    """Foretell one optimiser step. Devices work at once and messages take no time."""
    training, budget, speed = chosen["training"], chosen["budget"], Speed.of(chosen["budget"])
    recomputed = bool(training["activation_checkpointing"])
    passes = RECOMPUTED_PASSES if recomputed else TRAINING_PASSES
    step = grid.step_batch(per_device_batch(chosen, data), budget)
    examples = step.effective / step.accumulation / speed.count  # of a mean micro-batch
    made = shape.teaching(target_tokens(chosen, data), input_tokens(chosen, data)).times(examples)
    work = made.training(frozen=shape.adapters is not None, recomputed=recomputed)
    return step.accumulation * speed.seconds(work, passes * shape.passed_layers)


def input_tokens(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the tokens of a mean input as a batch holds it, prompt included."""
    padding = chosen.get("padding") or chosen["training"]["padding"]
    packed = "training" in chosen and chosen["training"].get("packing", False)
    padded = padding == "max_length" and not packed
    whole = data.words_in * TOKENS_PER_WORD + _prompt_tokens(chosen)
    return float(min(input_room(chosen), math.inf if padded else whole))


def row_tokens(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the tokens of a mean example as the rows of a batch count them.

    A prompt and its answer share a row; inputs and targets have rows of their own.
    """
    answer = target_tokens(chosen, data) if "prompt" in chosen else 0.0
    return input_tokens(chosen, data) + answer


def target_tokens(chosen: Mapping[str, Any], data: Data) -> float:
    """Return the tokens of a mean target in training."""
    return min(_words(data), float(chosen["training"].get("max_target_tokens", LABEL_TOKENS)))


def input_room(chosen: Mapping[str, Any]) -> float:
    """Return the most tokens of an input. A prompt leaves room for its answer."""
    if "prompt" not in chosen:
        return float(chosen["seq_len"])
    trained = (chosen.get("training") or chosen).get("max_target_tokens", LABEL_TOKENS)
    generated = chosen.get("generation", {}).get("max_new_tokens", 0)
    return float(max(1, chosen["seq_len"] - max(trained, generated)))


def _prompt_tokens(chosen: Mapping[str, Any]) -> float:
    """Return the tokens around a document in its prompt, without those of its query."""
    prompt = chosen.get("prompt")
    if prompt is None:
        return 0.0
    words = prompt["template"].replace("{input}", " ").replace("{query}", " ").split()
    return len(words) * TOKENS_PER_WORD + (CHAT_TOKENS if prompt["chat"] else 0)


def _words(data: Data) -> float:
    """Return the tokens of a mean reference."""
    return max(1.0, data.words_out * TOKENS_PER_WORD)


def _prediction_seconds(
    chosen: Mapping[str, Any],
    shape: AnyShape,
    data: Data,
    examples: int,
    how: Mapping[str, Any],
    depth: float | None = None,
) -> float:
    """Foretell predictions: labels, one pass over gold targets, or token by token.

    Args:
        chosen: of a training or a point: lengths, protocol, generation and budget count.
        shape, data: of the model and dataset.
        examples: how many, shared among the devices.
        how: `batch_size`, and for labels the rule by which examples `exit` and `regroup_batches`.
        depth: as `predict_seconds`.
    """
    speed, length = Speed.of(chosen["budget"]), input_tokens(chosen, data)
    batch = int(how["batch_size"])
    batches = math.ceil(examples / batch / speed.count)
    if not shape.decoder_layers:
        share = shape.depth(how.get("exit")) if depth is None else depth
        # Without regrouping, a batch goes on through its layers until its last example has left.
        gains = batch == 1 or int(how.get("regroup_batches", 1)) > 1
        layers = shape.encoder_layers * (share if gains else 1.0)
        return batches * speed.seconds(batch * share * shape.encode(length), layers)
    if chosen["protocol"] == "teacher_forced":
        targets = min(_words(data), int((chosen.get("training") or chosen)["max_target_tokens"]))
        taught = shape.teaching(targets, length).times(batch).forward
        return batches * speed.seconds(taught, shape.passed_layers)
    encoding = speed.seconds(shape.encoding(length).times(batch).forward, shape.encoder_layers)
    generation = chosen["generation"]
    wanted = min(_words(data), generation["max_new_tokens"])
    tokens: float = max(wanted, generation["min_new_tokens"])
    rows = batch * int(generation["num_beams"])
    work = shape.decoding(tokens, length).times(rows).forward
    # Every token is a pass of its own through all layers of the decoder.
    return batches * (encoding + speed.seconds(work, tokens * shape.decoder_layers))
