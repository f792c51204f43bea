"""One inference point of a cell: predictions, and how fast they came.

Started like training, one process per device. Every batch is kept within a moment of its prediction, so a killed
inference goes on at the first missing one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from longwatt import devices, distributed, environment
from longwatt.batch_progress import Progress
from longwatt.batch_store import BatchStore
from longwatt.decoding import BatchResult, Predictor
from longwatt.energy.log import forget_runs
from longwatt.examples import Examples, batches, classified
from longwatt.models import load_family
from longwatt.models.family import Answer
from longwatt.progress import say
from longwatt.provenance import asked_anew, sha256, whole_file, write_json
from longwatt.references import EACH
from longwatt.tasks import CLASSIFICATION
from longwatt.tokenization import SpecialTokens, load_split, load_tokenizer, repair_tokens
from longwatt.trained_models import ensure_sound
from longwatt.worker import Spec, run


def infer(spec: Spec) -> None:
    """Predict one split with a trained cell.

    Args:
        spec: settings as `longwatt.settings.predict_settings`; paths tokens, tokenized, dataset, tokenizer, model,
            work, predictions, inference; identity, provenance and energy_log.

    Raises:
        longwatt.stopping.Stopped: it was asked to end.
        longwatt.worker.WorkerError: it cannot be done here; says what to change.
    """
    torch.manual_seed(spec.settings["seed"])
    store = BatchStore(Path(spec.paths["work"]), spec.identity, distributed.rank())
    if distributed.rank() == 0:
        repair_tokens(spec.paths)
        ensure_sound(spec.paths)
        if store.begin(asked_anew("predict")) and spec.energy_log:
            forget_runs(Path(spec.energy_log).parent, but=Path(spec.energy_log))
    distributed.gather(None)  # nobody looks before the store is ready
    progress = Progress(spec, store)
    progress.mark("load")
    advice = (
        "lower the inference point's batch_size or regroup_batches, for this model or budget alone by the `inference` "
        "of its entry (what they apply to is predicted anew), or its generation's num_beams (which predicts otherwise)"
    )
    with progress.saved(), devices.memory_named(spec.settings["budget"], advice):
        _predict(spec, progress)


def _predict(spec: Spec, progress: Progress) -> None:
    tokenizer = load_tokenizer(spec.paths["model"])
    examples = _examples(spec, tokenizer)
    groups = batches(examples, taken_together(spec.settings["inference"]))
    kept = progress.store.kept()
    missing = [(number, group) for number, group in enumerate(groups) if number not in kept]
    if distributed.rank() == 0:
        earlier = f", {len(kept)} of them predicted by an earlier attempt" if kept else ""
        say(f"{len(examples)} examples in {len(groups)} batches{earlier}")
    if missing:
        environment.note(spec.paths["work"], spec.settings["budget"], fresh=not kept)
        _generate(_predictor(spec, tokenizer), examples, distributed.share(missing), progress, spec)
    distributed.gather(None)  # what the others predicted is kept too
    if distributed.rank() == 0:
        progress.mark("finish")
        kept = progress.store.kept()
        progress.account(kept)
        _write(spec, kept)


def _generate(
    predictor: Predictor,
    examples: Examples,
    mine: Sequence[tuple[int, list[int]]],
    progress: Progress,
    spec: Spec,
) -> None:
    """Predict this process's share of the missing batches."""
    groups = [group for _, group in mine]
    for _ in predictor.predict(examples, groups[: spec.settings["inference"]["warmup_batches"]]):
        continue  # not counted: first calls allocate and tune
    distributed.gather(None)  # all start the measured window together
    progress.mark("generate")
    for (number, _), result in zip(mine, predictor.predict(examples, groups), strict=True):
        progress.keep(
            number, _stored(result), (result.start_ns, result.end_ns), last=number == mine[-1][0]
        )
    devices.synchronize(predictor.device)


def _stored(result: BatchResult) -> dict[str, Any]:
    """What is kept of a batch beside its time."""
    answers = [asdict(answer) for answer in result.answers]
    return {"ids": result.ids, "answers": answers, "input_tokens": result.input_tokens}


def taken_together(point: Mapping[str, Any]) -> int:
    """Examples that are predicted, timed and kept together: a batch, or several whose unfinished ones are regrouped."""
    size = int(point["batch_size"])
    return size * int(point.get("regroup_batches", 1)) if size > 1 else size


def _examples(spec: Spec, tokenizer: Any) -> Examples:
    settings = spec.settings
    point = settings["inference"]
    if settings.get("task") == CLASSIFICATION:
        return classified(
            spec.paths, tokenizer, point["split"], point["max_examples"], settings["seq_len"]
        )
    rows = load_split(Path(spec.paths["tokens"]), point["split"], point["max_examples"])
    lengths = (settings["seq_len"], settings["max_target_tokens"])
    each = settings["references"] == EACH
    return Examples(
        rows,
        SpecialTokens.of(tokenizer),
        *lengths,
        every_reference=each,
        references=settings["references"],
    )


def _predictor(spec: Spec, tokenizer: Any) -> Predictor:
    settings = spec.settings
    device = devices.prepare(settings["budget"])
    family = load_family(settings["family"])
    padded = settings["padding"] == "max_length"
    model = family.build(
        {}, tokenizer, Path(spec.paths["model"]), settings["seq_len"], _target_tokens(settings)
    )
    return Predictor(
        family,
        model.to(device).eval(),
        tokenizer,
        how=_how(settings),
        precision=settings["budget"]["precision"],
        pad_to=settings["seq_len"] if padded else None,
        target_pad_to=settings.get("max_target_tokens") if padded else None,
    )


def _target_tokens(settings: Mapping[str, Any]) -> int:
    if settings.get("task") == CLASSIFICATION:
        return 1
    return int(max(settings["max_target_tokens"], settings["generation"]["max_new_tokens"]))


def _how(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings.get("task") == CLASSIFICATION:
        return {key: settings["inference"][key] for key in ("exit", "batch_size")}
    return {key: settings[key] for key in ("protocol", "generation")}


def _write(spec: Spec, kept: Mapping[int, Mapping[str, Any]]) -> None:
    with whole_file(Path(spec.paths["predictions"])) as stream:
        for number, batch in kept.items():
            for row in _rows(number, batch):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    facts = {
        **_speed(list(kept.values())),
        **_exits(spec.settings["inference"], list(kept.values())),
    }
    facts |= {**environment.noted(spec.paths["work"]), "identity": dict(spec.identity)}
    written = {"predictions.jsonl": sha256(Path(spec.paths["predictions"]))}
    write_json(spec.paths["inference"], {**facts, "sha256": written, "provenance": spec.provenance})


def _rows(number: int, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for id_, tokens, found in zip(
        batch["ids"], batch["input_tokens"], batch["answers"], strict=True
    ):
        answer = Answer(**found)
        yield {
            "id": id_,
            "prediction": answer.text,
            "input_tokens": tokens,
            "output_tokens": answer.output_tokens,
            **answer.facts,
            "batch": number,
            "batch_seconds": batch["took"].seconds,
        }


def _speed(kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Throughput of the measured windows: the slowest process decides how long it took."""
    samples = sum(len(batch["ids"]) for batch in kept)
    output_tokens = sum(answer["output_tokens"] for batch in kept for answer in batch["answers"])
    by_process: dict[int, float] = {}
    for batch in kept:
        by_process[batch["rank"]] = by_process.get(batch["rank"], 0.0) + batch["took"].seconds
    seconds = max(by_process.values())
    return {
        "samples": samples,
        "batches": len(kept),
        "input_tokens": sum(sum(batch["input_tokens"]) for batch in kept),
        "output_tokens": output_tokens,
        "inference_runtime_s": seconds,
        "inference_samples_per_second": samples / seconds,
        "output_tokens_per_second": output_tokens / seconds,
        "batch_seconds_median": float(
            torch.tensor([batch["took"].seconds for batch in kept]).median()
        ),
    }


def _exits(point: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the examples left a model with exits; nothing for other models."""
    left = [answer["facts"] for batch in kept for answer in batch["answers"]]
    if not all("exit" in facts for facts in left):
        return {}
    return {
        "mean_layers": sum(facts["layers"] for facts in left) / len(left),
        "left_after_layers": {
            str(layers): sum(facts["layers"] == layers for facts in left)
            for layers in sorted({facts["layers"] for facts in left})
        },
        "batch_size": point["batch_size"],
        "regroup_batches": point["regroup_batches"],
    }


if __name__ == "__main__":
    run(infer)
