"""Choose lengths, batches and training of a first study from data, model and machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from longwatt.first_study.machine_seen import Machine
from longwatt.first_study.model_sources import TINY, Model
from longwatt.first_study.texts_seen import COMMON_SHARE, Seen, at_share
from longwatt.models.exits.encoder_config import depth

SHORTEST_INPUT = 32  # tokens; below it hardly a sentence is left
TINY_MOST, CPU_MOST, GPU_MOST = 1024, 512, 16384  # longest inputs that a first study tries
ROOM_FOR_ANSWERS = 1.25  # of the longest reference, whose tokens were estimated or sampled
MOST_TARGET = 1024
PROMPT_TOKENS = 32  # of a prompt's own words and special tokens, estimated
STEPS_OF_TINY, CHECKS_OF_TINY = 200, 8
FEW_STEPS, MOST_PASSES = 60, 20  # few rows need more passes to come to as many steps
PASSES, PASSES_ON_CPU = 10, 3
EFFECTIVE = 16  # examples of a step that fine-tuning often takes
CPU_BATCH, CPU_BATCH_OF_TINY = 4, 8
TINY_LAYERS = 4
RATES = {"tiny": 2e-3, "adapters": 2e-4, "causal": 2e-5, "early_exit": 5e-5, "others": 5e-5}
CHECKED_EXAMPLES = 200  # most examples of a validation


@dataclass(frozen=True)
class Chosen:
    """Settings of a first study, each with what it rests on.

    Attributes:
        seq_lens: lengths of the grid, the longest last.
        length_reason: a sentence on them.
        target_tokens: most tokens of an answer.
        batch: examples that a device computes at once, or `largest`.
        effective: examples of a step.
        learning_rate: peak.
        steps: of a training at most, None where passes are counted.
        passes: over the data at most, None where steps are.
        every_steps: from one validation to the next.
        exits: layers of an encoder with classifiers; none of other models.
        depth: of an encoder.
    """

    seq_lens: tuple[int, ...]
    length_reason: str
    target_tokens: int
    batch: int | str
    effective: int
    learning_rate: float
    steps: int | None
    passes: int | None
    every_steps: int
    exits: tuple[int, ...] = ()
    depth: int = 0


def choose_settings(seen: Seen, model: Model, machine: Machine, train_rows: int) -> Chosen:
    """Choose what a first study needs.

    Args:
        seen: the data.
        model: to be trained.
        machine: to train on.
        train_rows: of the training split.
    """
    target = _target_tokens(seen, _limits(model, machine))
    lengths, reason = _lengths(seen, model, machine, target)
    on_gpu = bool(machine.gpus)
    effective = min(EFFECTIVE, 2 ** int(math.log2(max(1, train_rows))))
    if model.name == TINY and not on_gpu:
        effective = min(effective, CPU_BATCH_OF_TINY)
    most = CPU_BATCH_OF_TINY if model.name == TINY else CPU_BATCH
    per_pass = math.ceil(train_rows / effective)
    tiny = model.random
    usual = PASSES if on_gpu else PASSES_ON_CPU
    passes = None if tiny else min(MOST_PASSES, max(usual, math.ceil(FEW_STEPS / per_pass)))
    layers = depth(model.config) or (TINY_LAYERS if tiny else 12)
    encodes = model.family == "early_exit"
    return Chosen(
        seq_lens=lengths,
        length_reason=reason,
        target_tokens=target,
        batch="largest" if on_gpu else min(most, effective),
        effective=effective,
        learning_rate=_rate(model),
        steps=STEPS_OF_TINY if tiny else None,
        passes=passes,
        every_steps=STEPS_OF_TINY // CHECKS_OF_TINY if tiny else _between(per_pass, passes or 1),
        exits=_exit_layers(layers) if encodes else (),
        depth=layers if encodes else 0,
    )


def _between(per_pass: int, passes: int) -> int:
    """Return the steps between two validations: half a pass, and ten validations at most."""
    return max(1, min(500, max(per_pass // 2, per_pass * passes // 10)))


def _target_tokens(seen: Seen, limits: dict[str, int]) -> int:
    wanted = math.ceil(seen.longest_output * ROOM_FOR_ANSWERS) + 2  # with a beginning and an end
    half = min(limits.values()) // 2  # a decoder-only model has its answer in the same row
    return min(MOST_TARGET, half, max(8, 8 * math.ceil(wanted / 8)))


def _rate(model: Model) -> float:
    if model.random:
        return RATES["tiny"]
    return RATES["adapters"] if model.adapters else RATES.get(model.family, RATES["others"])


def _lengths(
    seen: Seen, model: Model, machine: Machine, target: int
) -> tuple[tuple[int, ...], str]:
    """Choose two or three lengths: one that holds nearly all inputs, and shorter ones."""
    prompted = model.family == "causal"
    beside = target + PROMPT_TOKENS if prompted else 2
    wanted = _power(seen.longest + beside)
    stated = _limits(model, machine)
    longest = min([wanted, *stated.values()])
    least = SHORTEST_INPUT + (beside if prompted else 0)
    lengths = [one for one in (longest // 4, longest // 2, longest) if one >= least]
    lengths = lengths or [min([max(longest, _power(least)), *stated.values()])]
    middle = at_share(seen.input_tokens, COMMON_SHARE)
    said = (
        f"inputs have {middle} tokens in the middle and {seen.longest} or fewer in 95 of 100 "
        f"({seen.counted_by})"
    )
    if longest < wanted:
        why = min(stated, key=lambda one: stated[one])
        said += f"; {wanted} would hold them, {longest} is {why}"
    return tuple(lengths), said


def _limits(model: Model, machine: Machine) -> dict[str, int]:
    """Return the longest inputs by what limits them."""
    positions = {"the most that the model has positions for": model.positions}
    if model.name == TINY:
        here = {"as long as this tiny model should try": TINY_MOST}
    elif machine.gpus:
        here = {"as long as a first study should try": GPU_MOST}
    else:
        here = {"as long as a CPU trains in minutes": CPU_MOST}
    return {why: most for why, most in {**positions, **here}.items() if most}


def _power(least: float) -> int:
    """Return the least power of two that is no smaller."""
    return int(2 ** math.ceil(math.log2(max(2, least))))


def _exit_layers(layers: int) -> tuple[int, ...]:
    """Spread four classifiers over an encoder's layers, the last included."""
    every = {max(0, round(layers * share) - 1) for share in (0.25, 0.5, 0.75, 1)}
    return tuple(sorted(every))
