"""Predict one inference point of a cell and measure the speed.

Like training, it runs one process per device. Every batch is kept within a moment of its
prediction, so a killed inference goes on at the first missing one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from longwatt.files import sha256, whole_file
from longwatt.inference.batch_progress import Progress, begin
from longwatt.inference.cascade import CascadePredictor, cascade_facts
from longwatt.inference.confidence import with_confidence
from longwatt.inference.examples import CellExamples, batches, classified, layout_of, stops_of
from longwatt.inference.predictor import Predictor
from longwatt.inference.trained_models import ensure_base, ensure_checkpoint, ensure_sound
from longwatt.jobs import distributed, environment, torch_device
from longwatt.jobs.worker import Spec, run_worker
from longwatt.models import load_family
from longwatt.models.adapters import check_adapted
from longwatt.progress import say
from longwatt.provenance.artefacts import read_artefact
from longwatt.provenance.stamps import write_json
from longwatt.study.cascades import CASCADE, first_of
from longwatt.study.cells import GENERATED
from longwatt.study.model_settings import INITIAL_WEIGHTS
from longwatt.tasks import CLASSIFICATION
from longwatt.tokens.references import EACH
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.tokens.tokenize import repair_tokens

PREDICT_ADVICE = (
    "lower the inference point's batch_size or regroup_batches, for this model or budget alone by "
    "the `inference` of its entry (what they apply to is predicted anew), or its generation's "
    "num_beams (which predicts otherwise)"
)

Numbered = Sequence[tuple[int, list[int]]]  # batches: positions of their examples


def infer(spec: Spec) -> None:
    """Predict one split with a trained cell, or with its model before training.

    Args:
        spec: settings as `longwatt.study.settings.predict_settings`; paths tokens, tokenized,
            dataset, tokenizer, model (of a trained cell), checkpoint (of adapters' base, or of a
            model before training), work, predictions, inference; identity, provenance and
            energy_log. A cascade has the settings `first`, the same paths of its first cell by
            `longwatt.study.cascades.named_first`, and the path threshold.

    Raises:
        longwatt.jobs.sigterm.Stopped: it was asked to end.
        longwatt.jobs.errors.WorkerError: it cannot be done here; the message says what to change.
    """
    torch.manual_seed(spec.settings["seed"])
    if distributed.rank() == 0:
        _check_base(spec)
        if first := _first(spec):
            repair_tokens(first.paths)
            _check_base(first)
            ensure_sound(first.paths)
    progress = begin(spec, "predict")
    with progress.saved(), torch_device.memory_named(spec.settings["budget"], PREDICT_ADVICE):
        _predict(spec, progress)


def _check_base(spec: Spec) -> None:
    """Refuse a checkpoint that is not the one that a prediction is to rest on."""
    if _initial(spec):
        ensure_checkpoint(spec.paths)
    elif spec.settings.get("lora"):
        ensure_sound(spec.paths)  # adapters that are damaged cannot say what their base is
        ensure_base(spec.paths)


def _initial(spec: Spec) -> bool:
    """Return whether the model before training predicts."""
    return bool(spec.settings["inference"].get("weights") == INITIAL_WEIGHTS)


def _first(spec: Spec) -> Spec | None:
    """Return the specification of a cascade's first cell, None where one cell predicts."""
    if "first" not in spec.settings:
        return None
    return replace(spec, settings=spec.settings["first"], paths=first_of(spec.paths))


def _tokenizer(spec: Spec) -> Any:
    folder = Path(spec.paths["tokenizer"]).parent if _initial(spec) else spec.paths["model"]
    return load_tokenizer(folder)


def _predict(spec: Spec, progress: Progress) -> None:
    tokenizer = _tokenizer(spec)
    examples = _examples(spec, tokenizer)
    together = int(spec.settings["inference"]["batch_size"])
    if together > 1:  # unfinished examples of several batches may be regrouped
        together *= int(spec.settings["inference"].get("regroup_batches", 1))
    groups = batches(examples, together)
    if distributed.rank() == 0:
        count = progress.earlier
        earlier = f", {count} of them predicted by an earlier attempt" if count else ""
        say(f"{len(examples)} examples in {len(groups)} batches{earlier}")
    kept = progress.complete(groups, partial(_generate, spec, progress, tokenizer, examples))
    if kept is not None:
        _write(spec, kept)


def _generate(
    spec: Spec, progress: Progress, tokenizer: Any, examples: CellExamples, mine: Numbered
) -> None:
    """Predict this process's share of the missing batches."""
    device = torch_device.prepare(spec.settings["budget"])
    predictor = _predictor(spec, tokenizer, examples, device)
    predicts = _cascade(spec, predictor).predict if "first" in spec.settings else predictor.predict
    groups = [group for _, group in mine]
    for _ in predicts(examples, groups[: spec.settings["inference"]["warmup_batches"]]):
        continue  # not counted: first calls allocate and tune
    distributed.gather(None)  # all start the measured window together
    progress.mark("generate")
    for (number, _), result in zip(mine, predicts(examples, groups), strict=True):
        answers = [asdict(answer) for answer in result.answers]
        kept = {"ids": result.ids, "answers": answers, "input_tokens": result.input_tokens}
        kept["attention"] = predictor.family.attention
        window = result.start_ns, result.end_ns
        progress.keep(number, kept, window, last=number == mine[-1][0])
    torch_device.synchronize(predictor.device)


def _examples(spec: Spec, tokenizer: Any) -> CellExamples:
    settings, paths = spec.settings, spec.paths
    split, most = settings["inference"]["split"], settings["inference"]["max_examples"]
    if settings.get("task") == CLASSIFICATION:
        return classified(paths, tokenizer, split, most, settings["seq_len"])
    return CellExamples(
        load_split(Path(paths["tokens"]), split, most),
        layout_of(settings, tokenizer),
        every_reference=settings["references"] == EACH,
        references=settings["references"],
    )


def _predictor(
    spec: Spec, tokenizer: Any, examples: CellExamples, device: torch.device
) -> Predictor:
    settings, seq_len = spec.settings, spec.settings["seq_len"]
    family = load_family(settings["family"])
    padded = settings["padding"] == "max_length"
    if settings.get("task") == CLASSIFICATION:
        target_tokens = 1
        how = {key: settings["inference"][key] for key in ("exit", "batch_size")}
    else:
        most = settings["max_target_tokens"]
        target_tokens = int(max(most, settings["generation"]["max_new_tokens"]))
        how = {key: settings[key] for key in ("protocol", "generation")}
    entry, folder = _sources(spec)
    model = family.build(entry, tokenizer, folder, seq_len, target_tokens)
    check_adapted(model, entry)
    precision = settings["budget"]["precision"]
    model = family.place(model, device, precision)
    environment.say_attention(family)
    sure = settings.get("task") != CLASSIFICATION and settings["protocol"] == GENERATED
    return Predictor(
        with_confidence(family) if sure else family,
        model.eval(),
        tokenizer,
        how={**how, **stops_of(examples)},
        precision=precision,
        pad_to=seq_len if padded else None,
        target_pad_to=settings.get("max_target_tokens") if padded else None,
    )


def _cascade(spec: Spec, last: Predictor) -> CascadePredictor:
    """Put a cascade's first cell before its last."""
    first = _first(spec)
    assert first is not None, "only a cascade has two cells"
    tokenizer, point = _tokenizer(first), spec.settings["inference"]
    examples = _examples(first, tokenizer)
    return CascadePredictor(
        _predictor(first, tokenizer, examples, last.device),
        examples,
        last,
        point[CASCADE]["confidence"],
        _threshold(spec),
        int(point["batch_size"]),
    )


def _threshold(spec: Spec) -> float:
    return float(read_artefact(Path(spec.paths["threshold"]))["threshold"])


def _sources(spec: Spec) -> tuple[dict[str, Any], Path]:
    """Return a model's entry and the folder of its weights, for `Family.build`."""
    entry = {"attention": spec.settings["attention"]}
    if _initial(spec):
        beside = {"config": spec.settings["config"]}
    elif spec.settings.get("lora"):
        beside = {"adapters": spec.paths["model"]}
    else:
        return entry, Path(spec.paths["model"])
    return {**entry, **beside}, Path(spec.paths["checkpoint"]).parent


def _write(spec: Spec, kept: Mapping[int, Mapping[str, Any]]) -> None:
    with whole_file(Path(spec.paths["predictions"])) as stream:
        for number, batch in kept.items():
            for row in _rows(number, batch):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    facts = {
        **_speed(list(kept.values())),
        **_exits(spec.settings["inference"], list(kept.values())),
        **_escalated(spec, list(kept.values())),
        "attention": environment.joined(sorted(batch["attention"] for batch in kept.values())),
        **environment.noted(spec.paths["work"]),
        "identity": dict(spec.identity),
    }
    written = {"predictions.jsonl": sha256(Path(spec.paths["predictions"]))}
    write_json(spec.paths["inference"], {**facts, "sha256": written, "provenance": spec.provenance})


def _rows(number: int, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    columns = (batch["ids"], batch["input_tokens"], batch["answers"])
    for id_, tokens, answer in zip(*columns, strict=True):
        yield {
            "id": id_,
            "prediction": answer["text"],
            "input_tokens": tokens,
            "output_tokens": answer["output_tokens"],
            **answer["facts"],
            "batch": number,
            "batch_seconds": batch["took"].seconds,
        }


def _speed(kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute the throughput of the measured windows. The slowest process sets the time."""
    samples = sum(len(batch["ids"]) for batch in kept)
    output_tokens = sum(answer["output_tokens"] for batch in kept for answer in batch["answers"])
    by_process: defaultdict[int, float] = defaultdict(float)
    for batch in kept:
        by_process[batch["rank"]] += batch["took"].seconds
    seconds = max(by_process.values())
    each = torch.tensor([batch["took"].seconds for batch in kept])
    return {
        "samples": samples,
        "batches": len(kept),
        "input_tokens": sum(sum(batch["input_tokens"]) for batch in kept),
        "output_tokens": output_tokens,
        "inference_runtime_s": seconds,
        "inference_samples_per_second": samples / seconds,
        "output_tokens_per_second": output_tokens / seconds,
        "batch_seconds_median": float(each.median()),
    }


def _exits(point: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count where the examples left a model with exits, or nothing for other models."""
    left = [answer["facts"] for batch in kept for answer in batch["answers"]]
    if not all("exit" in facts for facts in left):
        return {}
    layers = Counter(facts["layers"] for facts in left)
    return {
        "mean_layers": sum(facts["layers"] for facts in left) / len(left),
        "left_after_layers": {str(depth): layers[depth] for depth in sorted(layers)},
        "batch_size": point["batch_size"],
        "regroup_batches": point["regroup_batches"],
    }


def _escalated(spec: Spec, kept: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the examples that a cascade's last cell answered, or nothing for one cell."""
    if "first" not in spec.settings:
        return {}
    facts = [answer["facts"] for batch in kept for answer in batch["answers"]]
    return cascade_facts(spec.settings["inference"][CASCADE], _threshold(spec), facts)


if __name__ == "__main__":
    run_worker(infer)
