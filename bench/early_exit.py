"""Time encoders with early exits beside the standard model, in paired rounds.

    python -m bench.early_exit [--checkpoint FOLDER] [--shape minilm|bert_base|bert_large|tiny]
                               [--length 128] [--device cpu|cuda] [--threads 2] [--seconds 60]
                               [--batches 8] [--out FILE.json]

Every round times all arms one after the other, and what is printed are medians of the ratios within
rounds, with a 95 % interval of the median: what else the machine does meanwhile hits all arms
alike. The standard model is the library's own sequence classifier. Weights are random unless a
checkpoint is given: no accuracy is claimed, and speed does not depend on them. Exits are forced
through the real rule by temperatures that make the wanted classifiers sure.

Targets: leaving at the last of four exits takes at most 5 % more than the standard model; leaving
at any runs at least 0.8 x (standard layers / layers run) as fast; in batches of 32, regrouped, at
least 70 % of the ideal saving remains (ideal: time in proportion to the mean number of layers); and
every prediction is that of batch 1.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from bench import command_line
from longwatt.jobs.torch_device import synchronize
from longwatt.models.exits.answers import Left
from longwatt.models.exits.inference import Leaver
from longwatt.models.exits.model import EarlyExitConfig, EarlyExitModel, new_model
from longwatt.models.exits.rules import LAST, THRESHOLD, ExitRule

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
SHAPES: Mapping[str, Mapping[str, int]] = {
    "tiny": dict(zip(SIZES, (32, 4, 2, 64), strict=True)),
    "minilm": dict(zip(SIZES, (384, 6, 12, 1536), strict=True)),
    "bert_base": dict(zip(SIZES, (768, 12, 12, 3072), strict=True)),
    "bert_large": dict(zip(SIZES, (1024, 24, 16, 4096), strict=True)),
}
BATCH = 32
LABELS = ("a", "b")
SHARES = (0.4, 0.25, 0.2, 0.15)  # of all rows that leave at each exit: most are easy
OVERHEAD, SPEED, SAVING = 1.05, 0.8, 0.7  # the targets
SURE, UNSURE, THRESHOLD_AT = 1e-6, 1e6, 0.9
THRESHOLDS = (0.55, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
Arm = Callable[[], Any]
Rows = Mapping[str, Tensor]
Times = Mapping[str, Sequence[float]]


def exit_layers(depth: int) -> list[int]:
    """Spread four layers as the paper spreads them over 24: 0, 4, 12, 23."""
    return sorted({0, depth // 6, depth // 2, depth - 1} | ({1} if depth // 6 == 0 else set()))


def encoder_config(shape: str, checkpoint: Path | None) -> dict[str, Any]:
    """Return the configuration of a checkpoint's encoder, or that of a shape."""
    if checkpoint:
        return dict(AutoConfig.from_pretrained(str(checkpoint), local_files_only=True).to_dict())
    return dict(AutoConfig.for_model("bert", **SHAPES[shape]).to_dict())


def with_exits(
    encoder: Mapping[str, Any], layers: Sequence[int], checkpoint: Path | None
) -> EarlyExitModel:
    """Build a model with classifiers after these layers, in evaluation mode."""
    config = EarlyExitConfig(
        encoder=encoder, layers=layers, labels=LABELS, temperatures=[1.0] * len(layers)
    )
    return new_model(config, checkpoint).eval()


def rows_of(encoder: Mapping[str, Any], lengths: Sequence[int], device: str) -> dict[str, Tensor]:
    """Draw random texts of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(0)
    shape, words = (len(lengths), max(lengths)), encoder["vocab_size"]
    ids = torch.randint(words // 2, words, shape, generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    rows = {"input_ids": ids * mask, "attention_mask": mask}
    rows["token_type_ids"] = torch.zeros_like(ids)
    return {key: value.to(device) for key, value in rows.items()}


def timed(arms: Mapping[str, Arm], seconds: float, device: str) -> dict[str, list[float]]:
    """Return every arm's seconds in every round, after two rounds that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    warm, until, order = 2, math.inf, random.Random(0)
    while warm > 0 or time.perf_counter() < until or len(next(iter(taken.values()))) < 5:
        # In random order: no arm always follows the same neighbour.
        for name, arm in order.sample(list(arms.items()), len(arms)):
            synchronize(torch.device(device))
            start = time.perf_counter()
            arm()
            synchronize(torch.device(device))
            if warm <= 0:
                taken[name].append(time.perf_counter() - start)
        warm -= 1
        until = time.perf_counter() + seconds if warm == 0 else until
    return taken


def median_ratio(taken: Times, arm: str, over: str) -> dict[str, float]:
    """Return the median ratio of two arms' times, with its 95 % interval.

    `undisturbed` is the ratio of their first deciles: what others do on the machine only ever adds
    time.
    """
    ratios = sorted(a / b for a, b in zip(taken[arm], taken[over], strict=True))
    half = 0.98 * math.sqrt(len(ratios))
    low = max(0, math.floor(len(ratios) / 2 - half))
    high = min(len(ratios) - 1, math.ceil(len(ratios) / 2 + half))
    first, second = (sorted(taken[name])[len(ratios) // 10] for name in (arm, over))
    found = {"ratio": statistics.median(ratios), "ci_low": ratios[low], "ci_high": ratios[high]}
    return {**found, "undisturbed": first / second, "rounds": len(ratios)}


def leave(
    model: EarlyExitModel, rule: ExitRule, rows: Rows, size: int, together: int
) -> list[Left]:
    """Predict rows in batches of `size`, `together` of which are regrouped."""
    leaver = Leaver(model, rule, size)
    return [left for part in _split(rows, size * together) for left in leaver.leave(part)]


@torch.no_grad()
def standard_answers(model: Any, rows: Rows, size: int) -> list[Any]:
    """Return probabilities and answers of the library's classifier, on the host as ours are."""
    answers = []
    for part in _split(rows, size):
        answers += torch.stack(list(model(**part).logits.softmax(-1).max(-1)), 1).tolist()
    return answers


def leaving_at(model: EarlyExitModel, exit_: int) -> list[float]:
    """Return the temperatures that make every row leave at one exit."""
    return [SURE if number == exit_ else UNSURE for number in range(len(model.config.layers))]


def leaving_by_shares(model: EarlyExitModel, rows: Rows, shares: Sequence[float]) -> list[float]:
    """Return the temperatures that make these shares of all rows leave, the surest first."""
    with torch.no_grad():
        logits = torch.cat([model.exit_logits(part) for part in _split(rows, BATCH)], 1).double()
    margins = (logits[:, :, 0] - logits[:, :, 1]).abs()
    here = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    temperatures = []
    for number, share in enumerate(shares[:-1]):
        wanted = round(share * len(here))
        ranked = margins[number][here].sort(descending=True).values
        between = float(ranked[wanted - 1] + ranked[wanted]) / 2
        here &= margins[number] < between
        temperatures.append(between / math.log(THRESHOLD_AT / (1 - THRESHOLD_AT)))
    return [*temperatures, 1.0]


def _split(rows: Rows, size: int) -> list[dict[str, Tensor]]:
    count = len(rows["input_ids"])
    return [
        {key: value[first : first + size] for key, value in rows.items()}
        for first in range(0, count, size)
    ]


def one_at_a_time(
    given: argparse.Namespace, encoder: Mapping[str, Any], standard: Any
) -> list[dict[str, Any]]:
    """Time batches of 1: the standard model, one exit, and each of four exits."""
    depth, layers = encoder["num_hidden_layers"], exit_layers(encoder["num_hidden_layers"])
    single = with_exits(encoder, [depth - 1], given.checkpoint).to(given.device)
    many = with_exits(encoder, layers, given.checkpoint).to(given.device)
    row = rows_of(encoder, [given.length], given.device)
    rule = ExitRule(THRESHOLD, THRESHOLD_AT)

    def at(exit_: int) -> Arm:
        temperatures = leaving_at(many, exit_)

        def arm() -> list[Left]:
            many.config.temperatures = temperatures
            return leave(many, rule, row, 1, 1)

        assert {left.exit for left in arm()} == {exit_}, "the bench forces the exit it times"
        return arm

    arms: dict[str, Arm] = {
        "standard": lambda: standard_answers(standard, row, 1),
        "one exit on the last layer": lambda: leave(single, ExitRule(LAST), row, 1, 1),
    }
    for number, layer in enumerate(layers):
        arms[f"four exits, leaving after layer {layer}"] = at(number)
    taken = timed(arms, given.seconds, given.device)
    run = dict(zip(arms, [depth, depth, *(layer + 1 for layer in layers)], strict=True))
    return [_judged_alone(name, taken, run[name], depth) for name in arms if name != "standard"]


def _judged_alone(name: str, taken: Times, layers: int, depth: int) -> dict[str, Any]:
    measured = median_ratio(taken, name, "standard")
    if layers == depth:
        value, target, passed = measured["ratio"], OVERHEAD, measured["ratio"] <= OVERHEAD
        what = "time over the standard model's, at most"
    else:
        value, target = 1 / measured["ratio"] / (depth / layers), SPEED
        what, passed = "speed-up over (standard layers / layers run), at least", value >= SPEED
    judged = {"what": what, "value": value, "target": target, "passed": passed}
    return {"arm": name, "layers": layers, **_seconds(name, taken), **measured, **judged}


def _seconds(name: str, taken: Times) -> dict[str, float]:
    standard, seconds = (statistics.median(taken[arm]) for arm in ("standard", name))
    return {"standard_s": standard, "seconds": seconds}


def many_at_a_time(
    given: argparse.Namespace, encoder: Mapping[str, Any], standard: Any
) -> list[dict[str, Any]]:
    """Time batches of 32 with mixed exits, regrouped over several batches and within each."""
    depth, layers = encoder["num_hidden_layers"], exit_layers(encoder["num_hidden_layers"])
    many = with_exits(encoder, layers, given.checkpoint).to(given.device)
    rows = rows_of(encoder, [given.length] * BATCH * given.batches, given.device)
    many.config.temperatures = leaving_by_shares(many, rows, SHARES)
    rule = ExitRule(THRESHOLD, THRESHOLD_AT)
    over = f"regrouped over {given.batches} batches"
    within = "regrouped within a batch"  # to compare with, so it has no target
    arms: dict[str, Arm] = {
        "standard": lambda: standard_answers(standard, rows, BATCH),
        over: lambda: leave(many, rule, rows, BATCH, given.batches),
        within: lambda: leave(many, rule, rows, BATCH, 1),
    }
    mean = statistics.mean(layers[left.exit] + 1 for left in arms[over]())
    taken = timed(arms, given.seconds, given.device)
    return [_judged_together(name, taken, mean, depth, name == over) for name in (over, within)]


def _judged_together(
    name: str, taken: Times, mean: float, depth: int, judged: bool
) -> dict[str, Any]:
    measured = median_ratio(taken, name, "standard")
    value = (1 - measured["ratio"]) / (1 - mean / depth)
    measured |= {"mean_layers": mean, "ideal_ratio": mean / depth, **_seconds(name, taken)}
    target: Mapping[str, Any] = {"target": "no target", "passed": None}
    if judged:
        target = {"target": SAVING, "passed": value >= SAVING}
    what = "part of the ideal saving, " + ("at least" if judged else "to compare with,")
    return {"arm": name, **measured, "what": what, "value": value, **target}


def equal_predictions(given: argparse.Namespace, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Count the predictions that batches of 1 and 32 share, at many lengths and thresholds."""
    layers, source = exit_layers(encoder["num_hidden_layers"]), torch.Generator().manual_seed(1)
    many = with_exits(encoder, layers, given.checkpoint).to(given.device)
    shortest, texts = min(4, given.length), (BATCH * 2,)
    lengths = torch.randint(shortest, given.length + 1, texts, generator=source)
    rows = rows_of(encoder, lengths.tolist(), given.device)
    many.config.temperatures = leaving_by_shares(many, rows, SHARES)
    pairs = []
    for threshold in THRESHOLDS:
        rule = ExitRule(THRESHOLD, threshold)
        together = leave(many, rule, rows, BATCH, given.batches)
        pairs += zip(leave(many, rule, rows, 1, 1), together, strict=True)
    equal = sum((one.answer, one.exit) == (other.answer, other.exit) for one, other in pairs)
    apart = max(abs(one.confidence - other.confidence) for one, other in pairs)
    found = {"equal": equal, "of": len(pairs), "largest_difference_of_confidence": apart}
    return {**found, "passed": equal == len(pairs)}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, and add the device and the versions."""
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    encoder = encoder_config(given.shape, given.checkpoint)
    plain = {key: value for key, value in encoder.items() if key != "model_type"}
    config = AutoConfig.for_model(encoder["model_type"], **{**plain, "num_labels": len(LABELS)})
    standard = AutoModelForSequenceClassification.from_config(config).eval().to(given.device)
    is_gpu = given.device == "cuda"
    processor = platform.processor() or platform.machine()
    return {
        "shape": str(given.checkpoint or given.shape),
        "length": given.length,
        "device": torch.cuda.get_device_name() if is_gpu else processor,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "batch_1": one_at_a_time(given, encoder, standard),
        "batch_32": many_at_a_time(given, encoder, standard),
        "equal_predictions": equal_predictions(given, encoder),
    }


def describe(result: Mapping[str, Any]) -> str:
    """Return lines for a reader."""
    where = f"{result['device']}, {result['threads']} threads"
    lines = [f"{result['shape']}, {result['length']} tokens, {where}"]
    for part in ("batch_1", "batch_32"):
        lines.append(part.replace("_", " "))
        for row in result[part]:
            ideal = f", ideal {row['ideal_ratio']:.3f}" if "ideal_ratio" in row else ""
            times = f"{1000 * row['seconds']:.1f} ms beside {1000 * row['standard_s']:.1f}"
            interval = f"{row['ci_low']:.3f} to {row['ci_high']:.3f}, {row['rounds']} rounds{ideal}"
            lines.append(
                f"  {_verdict(row)}  {row['arm']}: {times}, ratio {row['ratio']:.3f} "
                f"({interval}; undisturbed {row['undisturbed']:.3f}); "
                f"{row['what']} {row['target']}: {row['value']:.3f}"
            )
    equal = result["equal_predictions"]
    lines.append(
        f"  {_verdict(equal)}  equal predictions, batch 1 and {BATCH}: {equal['equal']} of "
        f"{equal['of']}; confidences differ by at most "
        f"{equal['largest_difference_of_confidence']:.1e}"
    )
    return "\n".join(lines)


def _verdict(row: Mapping[str, Any]) -> str:
    return {True: "PASS", False: "FAIL", None: "    "}[row["passed"]]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    holds = "a folder with an encoder's config.json and safetensors"
    parser.add_argument("--checkpoint", type=Path, help=holds)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="minilm")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of the CPU; as torch chooses if not given")
    parser.add_argument("--seconds", type=float, default=60, help="of each of the two timed parts")
    parser.add_argument("--batches", type=int, default=8, help="batches of 32 to regroup together")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    given = arguments(words)
    result = measure(given)
    print(describe(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
