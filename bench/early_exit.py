"""What leaving early takes and saves: encoders with exits beside the standard model, in paired timings.

    python -m bench.early_exit [--checkpoint FOLDER] [--shape minilm|bert_base|bert_large|tiny] [--length 128]
                               [--device cpu|cuda] [--threads 2] [--seconds 60] [--batches 8] [--out FILE.json]

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

from longwatt.devices import synchronize
from longwatt.exit_rules import LAST, THRESHOLD, ExitRule
from longwatt.models.exit_inference import Leaver, Left
from longwatt.models.exit_model import EarlyExitConfig, EarlyExitModel, new_model

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bert_base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "bert_large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
BATCH = 32
LABELS = ("a", "b")
SHARES = (0.4, 0.25, 0.2, 0.15)  # of all rows that leave at each exit: most are easy
OVERHEAD, SPEED, SAVING = 1.05, 0.8, 0.7  # the targets
SURE, UNSURE, THRESHOLD_AT = 1e-6, 1e6, 0.9
THRESHOLDS = (0.55, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
Arm = Callable[[], Any]


def exit_layers(depth: int) -> list[int]:
    """Four layers spread as the paper spreads them over 24: 0, 4, 12, 23."""
    return sorted({0, depth // 6, depth // 2, depth - 1} | ({1} if depth // 6 == 0 else set()))


def encoder_config(shape: str, checkpoint: Path | None) -> dict[str, Any]:
    """The encoder's configuration, of a checkpoint or of a shape."""
    if checkpoint:
        return dict(AutoConfig.from_pretrained(str(checkpoint), local_files_only=True).to_dict())
    return dict(AutoConfig.for_model("bert", **SHAPES[shape]).to_dict())


def with_exits(
    encoder: Mapping[str, Any], layers: Sequence[int], checkpoint: Path | None
) -> EarlyExitModel:
    """A model with classifiers there, in evaluation mode."""
    config = EarlyExitConfig(
        encoder=encoder, layers=layers, labels=LABELS, temperatures=[1.0] * len(layers)
    )
    return new_model(config, checkpoint).eval()


def rows_of(encoder: Mapping[str, Any], lengths: Sequence[int], device: str) -> dict[str, Tensor]:
    """Random texts of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        encoder["vocab_size"] // 2,
        encoder["vocab_size"],
        (len(lengths), max(lengths)),
        generator=generator,
    )
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    rows = {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
    }
    return {key: value.to(device) for key, value in rows.items()}


def timed(arms: Mapping[str, Arm], seconds: float, device: str) -> dict[str, list[float]]:
    """Seconds of every arm in every round; two rounds before are not counted."""
    taken: dict[str, list[float]] = {name: [] for name in arms}
    warm, until, order = 2, math.inf, random.Random(0)
    while warm > 0 or time.perf_counter() < until or len(next(iter(taken.values()))) < 5:
        for name, arm in order.sample(
            list(arms.items()), len(arms)
        ):  # nobody always follows the same neighbour
            synchronize(torch.device(device))
            start = time.perf_counter()
            arm()
            synchronize(torch.device(device))
            if warm <= 0:
                taken[name].append(time.perf_counter() - start)
        warm -= 1
        until = time.perf_counter() + seconds if warm == 0 else until
    return taken


def median_ratio(taken: Mapping[str, Sequence[float]], arm: str, over: str) -> dict[str, float]:
    """The median over rounds of one arm's time over another's, with its 95 % interval by ranks.

    `undisturbed` is the ratio of their first deciles: what others do on the machine only ever adds
    time.
    """
    ratios = sorted(a / b for a, b in zip(taken[arm], taken[over], strict=True))
    half = 0.98 * math.sqrt(len(ratios))
    low, high = (
        max(0, math.floor(len(ratios) / 2 - half)),
        min(len(ratios) - 1, math.ceil(len(ratios) / 2 + half)),
    )
    first, second = (sorted(taken[name])[len(ratios) // 10] for name in (arm, over))
    interval = {"ci_low": ratios[low], "ci_high": ratios[high]}
    return {
        "ratio": statistics.median(ratios),
        **interval,
        "undisturbed": first / second,
        "rounds": len(ratios),
    }


def leave(
    model: EarlyExitModel, rule: ExitRule, rows: Mapping[str, Tensor], size: int, together: int
) -> list[Left]:
    """Predict rows in batches of `size`, `together` of which are regrouped."""
    leaver, step, count = Leaver(model, rule, size), size * together, len(rows["input_ids"])
    parts = [
        {key: value[first : first + step] for key, value in rows.items()}
        for first in range(0, count, step)
    ]
    return [left for part in parts for left in leaver.leave(part)]


@torch.no_grad()
def standard_answers(model: Any, rows: Mapping[str, Tensor], size: int) -> list[Any]:
    """The library's classifier: probabilities and answers, brought to the host as ours are."""
    answers = []
    for first in range(0, len(rows["input_ids"]), size):
        part = {key: value[first : first + size] for key, value in rows.items()}
        answers += torch.stack(list(model(**part).logits.softmax(-1).max(-1)), 1).tolist()
    return answers


def leaving_at(model: EarlyExitModel, exit_: int) -> list[float]:
    """Temperatures by which every row leaves there."""
    return [SURE if number == exit_ else UNSURE for number in range(len(model.config.layers))]


def leaving_by_shares(
    model: EarlyExitModel, rows: Mapping[str, Tensor], shares: Sequence[float]
) -> list[float]:
    """Temperatures by which these shares of all rows leave at each exit, those first that are surest there."""
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


def _split(rows: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    count = len(rows["input_ids"])
    return [
        {key: value[first : first + size] for key, value in rows.items()}
        for first in range(0, count, size)
    ]


def one_at_a_time(
    given: argparse.Namespace, encoder: Mapping[str, Any], standard: Any
) -> list[dict[str, Any]]:
    """Batch 1: the standard model, one exit on the last layer, and leaving at each of four exits."""
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
        **{
            f"four exits, leaving after layer {layer}": at(number)
            for number, layer in enumerate(layers)
        },
    }
    taken = timed(arms, given.seconds, given.device)
    run = dict(zip(arms, [depth, depth, *(layer + 1 for layer in layers)], strict=True))
    return [_judged_alone(name, taken, run[name], depth) for name in arms if name != "standard"]


def _judged_alone(
    name: str, taken: Mapping[str, Sequence[float]], layers: int, depth: int
) -> dict[str, Any]:
    measured = median_ratio(taken, name, "standard")
    if layers == depth:
        value, target, passed = measured["ratio"], OVERHEAD, measured["ratio"] <= OVERHEAD
        what = "time over the standard model's, at most"
    else:
        value, target = 1 / measured["ratio"] / (depth / layers), SPEED
        what, passed = "speed-up over (standard layers / layers run), at least", value >= SPEED
    seconds = {
        "standard_s": statistics.median(taken["standard"]),
        "seconds": statistics.median(taken[name]),
    }
    return {"arm": name, "layers": layers, **seconds, **measured, "what": what, "value": value, "target": target,
            "passed": passed}  # fmt: skip


def many_at_a_time(
    given: argparse.Namespace, encoder: Mapping[str, Any], standard: Any
) -> list[dict[str, Any]]:
    """Batches of 32 that leave at a mix of exits: regrouped over several batches, and within each alone."""
    depth, layers = encoder["num_hidden_layers"], exit_layers(encoder["num_hidden_layers"])
    many = with_exits(encoder, layers, given.checkpoint).to(given.device)
    rows = rows_of(encoder, [given.length] * BATCH * given.batches, given.device)
    many.config.temperatures = leaving_by_shares(many, rows, SHARES)
    rule = ExitRule(THRESHOLD, THRESHOLD_AT)
    arms: dict[str, Arm] = {
        "standard": lambda: standard_answers(standard, rows, BATCH),
        f"regrouped over {given.batches} batches": lambda: leave(
            many, rule, rows, BATCH, given.batches
        ),
        "regrouped within a batch": lambda: leave(many, rule, rows, BATCH, 1),
    }
    mean = statistics.mean(
        layers[left.exit] + 1 for left in arms[f"regrouped over {given.batches} batches"]()
    )
    taken = timed(arms, given.seconds, given.device)
    beside = (
        "standard",
        "regrouped within a batch",
    )  # the second is there to compare with, and has no target
    return [
        _judged_together(name, taken, mean, depth, name not in beside)
        for name in arms
        if name != "standard"
    ]


def _judged_together(
    name: str, taken: Mapping[str, Sequence[float]], mean: float, depth: int, judged: bool
) -> dict[str, Any]:
    measured = median_ratio(taken, name, "standard")
    value = (1 - measured["ratio"]) / (1 - mean / depth)
    seconds = {
        "standard_s": statistics.median(taken["standard"]),
        "seconds": statistics.median(taken[name]),
    }
    target = (
        {"target": SAVING, "passed": value >= SAVING}
        if judged
        else {"target": "no target", "passed": None}
    )
    what = (
        "part of the ideal saving, at least"
        if judged
        else "part of the ideal saving, to compare with,"
    )
    measured |= {"mean_layers": mean, "ideal_ratio": mean / depth, **seconds}
    return {"arm": name, **measured, "what": what, "value": value, **target}


def equal_predictions(given: argparse.Namespace, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Texts of many lengths at many thresholds: how many leave alike, with one answer, in batch 1 and in batch 32."""
    many = with_exits(encoder, exit_layers(encoder["num_hidden_layers"]), given.checkpoint).to(
        given.device
    )
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(
        min(4, given.length), given.length + 1, (BATCH * 2,), generator=generator
    ).tolist()
    rows = rows_of(encoder, lengths, given.device)
    many.config.temperatures = leaving_by_shares(many, rows, SHARES)
    pairs = []
    for threshold in THRESHOLDS:
        rule = ExitRule(THRESHOLD, threshold)
        pairs += zip(
            leave(many, rule, rows, 1, 1),
            leave(many, rule, rows, BATCH, given.batches),
            strict=True,
        )
    equal = sum((one.answer, one.exit) == (other.answer, other.exit) for one, other in pairs)
    apart = max(abs(one.confidence - other.confidence) for one, other in pairs)
    return {
        "equal": equal,
        "of": len(pairs),
        "largest_difference_of_confidence": apart,
        "passed": equal == len(pairs),
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All of it, with what it was measured on."""
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    encoder = encoder_config(given.shape, given.checkpoint)
    plain = {key: value for key, value in encoder.items() if key != "model_type"}
    config = AutoConfig.for_model(encoder["model_type"], **{**plain, "num_labels": len(LABELS)})
    standard = AutoModelForSequenceClassification.from_config(config).eval().to(given.device)
    return {
        "shape": str(given.checkpoint or given.shape),
        "length": given.length,
        "device": torch.cuda.get_device_name()
        if given.device == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "batch_1": one_at_a_time(given, encoder, standard),
        "batch_32": many_at_a_time(given, encoder, standard),
        "equal_predictions": equal_predictions(given, encoder),
    }


def describe(result: Mapping[str, Any]) -> str:
    """Lines for a reader."""
    lines = [
        f"{result['shape']}, {result['length']} tokens, {result['device']}, {result['threads']} threads"
    ]
    for part in ("batch_1", "batch_32"):
        lines.append(part.replace("_", " "))
        for row in result[part]:
            ideal = f", ideal {row['ideal_ratio']:.3f}" if "ideal_ratio" in row else ""
            times = f"{1000 * row['seconds']:.1f} ms beside {1000 * row['standard_s']:.1f}"
            lines.append(
                f"  {_verdict(row)}  {row['arm']}: {times}, ratio {row['ratio']:.3f} "
                f"({row['ci_low']:.3f} to {row['ci_high']:.3f}, {row['rounds']} rounds{ideal}; undisturbed "
                f"{row['undisturbed']:.3f}); "
                f"{row['what']} {row['target']}: {row['value']:.3f}"
            )
    equal = result["equal_predictions"]
    lines.append(
        f"  {_verdict(equal)}  equal predictions, batch 1 and {BATCH}: {equal['equal']} of {equal['of']}; confidences "
        f"differ by at most {equal['largest_difference_of_confidence']:.1e}"
    )
    return "\n".join(lines)


def _verdict(row: Mapping[str, Any]) -> str:
    return {True: "PASS", False: "FAIL", None: "    "}[row["passed"]]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="a folder with an encoder's config.json and safetensors"
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="minilm")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of the CPU; as torch chooses if not given")
    parser.add_argument(
        "--seconds", type=float, default=60, help="of each of the two parts that are timed"
    )
    parser.add_argument(
        "--batches", type=int, default=8, help="batches of 32 that are regrouped together"
    )
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
