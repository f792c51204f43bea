"""One inference point of a cell: predictions, and how fast they came.

Started like training, one process per device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longwatt import devices, distributed
from longwatt.decoding import BatchResult, Predictor
from longwatt.energy.log import forget_others
from longwatt.examples import Examples, batches
from longwatt.models import load_family
from longwatt.progress import say
from longwatt.provenance import whole_file, write_json
from longwatt.tokenization import SpecialTokens, load_split, load_tokenizer
from longwatt.worker import Spec, run

REPORT_EVERY_BATCHES = 10


def infer(spec: Spec) -> None:
    """Predict one split with a trained cell.

    Args:
        spec: settings as `longwatt.settings.predict_settings`; paths tokens, model, predictions, inference;
            provenance and energy_log.
    """
    torch.manual_seed(spec.settings["seed"])
    marker = spec.marker() if distributed.rank() == 0 else None
    attempt = int(Path(spec.energy_log).stem) if spec.energy_log else 1  # a run, a log, an attempt
    if marker:
        if spec.energy_log:
            forget_others(Path(spec.energy_log))
        marker.mark("load", attempt=attempt, step=0)
    predictor, examples = _prepare(spec)
    groups = batches(examples, spec.settings["inference"]["batch_size"])
    if marker:
        say(f"{len(examples)} examples in {len(groups)} batches")
    mine = distributed.share(list(enumerate(groups)))
    _warm_up(predictor, examples, mine, spec.settings["inference"]["warmup_batches"])
    distributed.gather(None)  # all start the measured window together
    if marker:
        marker.mark("generate", attempt=attempt, step=0)
    results = list(_measured(predictor, examples, mine))
    devices.synchronize(predictor.device)
    parts = distributed.gather([(number, asdict(result)) for number, result in results])
    if marker:
        marker.mark("finish", attempt=attempt, step=len(groups))
        _write(spec, sorted(pair for part in parts for pair in part), parts)


def _prepare(spec: Spec) -> tuple[Predictor, Examples]:
    settings = spec.settings
    device = devices.prepare(settings["budget"])
    tokenizer = load_tokenizer(spec.paths["model"])
    family = load_family(settings["family"])
    target_tokens = max(settings["max_target_tokens"], settings["generation"]["max_new_tokens"])
    model = family.build({}, tokenizer, Path(spec.paths["model"]), settings["seq_len"], target_tokens)
    predictor = Predictor(
        family,
        model.to(device).eval(),
        tokenizer,
        protocol=settings["protocol"],
        generation=settings["generation"],
        precision=settings["budget"]["precision"],
        pad_to=settings["seq_len"] if settings["padding"] == "max_length" else None,
    )
    point = settings["inference"]
    rows = load_split(Path(spec.paths["tokens"]), point["split"], point["max_examples"])
    special = SpecialTokens.of(tokenizer)
    examples = Examples(rows, special, settings["seq_len"], settings["max_target_tokens"], False)
    return predictor, examples


def _warm_up(predictor: Predictor, examples: Examples, mine: Sequence[tuple[int, list[int]]], count: int) -> None:
    """Run the first batches once without counting: first calls allocate and tune."""
    for _ in predictor.predict(examples, [group for _, group in mine[:count]]):
        continue


def _measured(
    predictor: Predictor, examples: Examples, mine: Sequence[tuple[int, list[int]]]
) -> Iterator[tuple[int, BatchResult]]:
    groups = [group for _, group in mine]
    numbered = zip(mine, predictor.predict(examples, groups), strict=True)
    for done, ((number, _), result) in enumerate(numbered, 1):
        if distributed.rank() == 0 and (done % REPORT_EVERY_BATCHES == 0 or done == len(mine)):
            say(f"batch {done}/{len(mine)}  seconds {result.seconds:.3g}")
        yield number, result


def _write(spec: Spec, results: list[tuple[int, dict[str, Any]]], parts: Sequence[Any]) -> None:
    with whole_file(Path(spec.paths["predictions"])) as stream:
        for number, batch in results:
            for row in _rows(number, batch):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    write_json(spec.paths["inference"], {**_speed(results, parts), "provenance": spec.provenance})


def _rows(number: int, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    columns = (batch["ids"], batch["texts"], batch["input_tokens"], batch["output_tokens"])
    for id_, text, input_tokens, output_tokens in zip(*columns, strict=True):
        yield {
            "id": id_,
            "prediction": text,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "batch": number,
            "batch_seconds": batch["seconds"],
        }


def _speed(results: list[tuple[int, dict[str, Any]]], parts: Sequence[Any]) -> dict[str, Any]:
    """Throughput of the measured window: the slowest process decides how long it took."""
    samples = sum(len(batch["ids"]) for _, batch in results)
    output_tokens = sum(sum(batch["output_tokens"]) for _, batch in results)
    seconds = max(sum(batch["seconds"] for _, batch in part) for part in parts)
    return {
        "samples": samples,
        "batches": len(results),
        "input_tokens": sum(sum(batch["input_tokens"]) for _, batch in results),
        "output_tokens": output_tokens,
        "inference_runtime_s": seconds,
        "inference_samples_per_second": samples / seconds,
        "output_tokens_per_second": output_tokens / seconds,
        "batch_seconds_median": float(torch.tensor([b["seconds"] for _, b in results]).median()),
    }


if __name__ == "__main__":
    run(infer)
