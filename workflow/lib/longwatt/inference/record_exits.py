"""Record the logits of a trained model's classifiers for the examples of some splits.

Temperatures are fitted on the logits, and the accuracy at any threshold, patience or oracle follows
from them without running the model again. Like inference, it runs one process per device, and a
killed run goes on at the first missing batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from longwatt.files import sha256, whole_file
from longwatt.inference.batch_progress import Progress, begin
from longwatt.inference.examples import CellExamples, batches, classified
from longwatt.inference.predictor import autocast
from longwatt.jobs import environment, torch_device
from longwatt.jobs.worker import Spec, run_worker
from longwatt.models import load_family
from longwatt.models.family import Classifier, Example
from longwatt.provenance.stamps import write_json
from longwatt.tokens.special_tokens import load_tokenizer

# It does not advise to lower the validations' batch size, its default: trainings depend on that.
RECORD_ADVICE = (
    "lower calibration.batch_size (of the study or of this dataset); only this recording depends "
    "on it"
)


@dataclass(frozen=True)
class RecordedPart:
    """Some examples of a split that are run together."""

    split: str
    examples: CellExamples
    positions: list[int]


def record_exits(spec: Spec) -> None:
    """Write the logits of every classifier for every example.

    Args:
        spec: settings as `longwatt.study.settings.record_settings`; paths tokens, tokenized,
            dataset, tokenizer, model, work, logits, exits; identity, provenance and energy_log.

    Raises:
        longwatt.jobs.sigterm.Stopped: it was asked to end.
        longwatt.jobs.errors.WorkerError: it cannot be done here; the message says what to change.
    """
    progress = begin(spec, "record_exits")
    with progress.saved(), torch_device.memory_named(spec.settings["budget"], RECORD_ADVICE):
        parts = list(_parts(spec))
        kept = progress.complete(parts, partial(_run_model, spec, progress))
        if kept is not None:
            _write(spec, parts, kept)


def _parts(spec: Spec) -> Iterator[RecordedPart]:
    """Yield all batches of all splits, in order."""
    settings, tokenizer = spec.settings, load_tokenizer(spec.paths["model"])
    for split in settings["splits"]:
        examples = classified(spec.paths, tokenizer, split, None, settings["seq_len"])
        for positions in batches(examples, settings["batch_size"]):
            yield RecordedPart(split, examples, positions)


def _run_model(spec: Spec, progress: Progress, mine: Sequence[tuple[int, RecordedPart]]) -> None:
    """Run this process's share of the missing batches."""
    settings, seq_len = spec.settings, spec.settings["seq_len"]
    tokenizer = load_tokenizer(spec.paths["model"])
    device = torch_device.prepare(settings["budget"])
    family = cast(Classifier, load_family(settings["family"]))
    model = family.build({}, tokenizer, Path(spec.paths["model"]), seq_len, 1).to(device).eval()
    pad_to = seq_len if settings["padding"] == "max_length" else None
    progress.mark("generate")
    for number, part in mine:
        chosen = [part.examples[position] for position in part.positions]
        torch_device.synchronize(device)
        start_ns = time.monotonic_ns()
        collated = family.collate(chosen, pad_to, None)
        batch = {name: tensor.to(device) for name, tensor in collated.items()}
        with torch.no_grad(), autocast(device, settings["budget"]["precision"]):
            logits = family.exit_logits(model, batch).float().cpu()  # (exits, batch, classes)
        window = start_ns, time.monotonic_ns()
        progress.keep(number, {"rows": _rows(chosen, logits)}, window, last=number == mine[-1][0])


def _rows(chosen: Sequence[Example], logits: torch.Tensor) -> list[dict[str, Any]]:
    """Return the record of each example of a batch, from logits (exits, batch, classes)."""
    return [
        {
            "id": one.id,
            "label": one.labels[0],
            "input_tokens": len(one.input_ids),
            "logits": logits[:, row].tolist(),
        }
        for row, one in enumerate(chosen)
    ]


def _write(
    spec: Spec, parts: Sequence[RecordedPart], kept: Mapping[int, Mapping[str, Any]]
) -> None:
    config = json.loads((Path(spec.paths["model"]) / "config.json").read_text(encoding="utf-8"))
    counts = dict.fromkeys(spec.settings["splits"], 0)
    with whole_file(Path(spec.paths["logits"])) as stream:
        for number, part in enumerate(parts):
            for row in kept[number]["rows"]:
                counts[part.split] += 1
                found = {"split": part.split, **row, "label_name": config["labels"][row["label"]]}
                stream.write(json.dumps(found, ensure_ascii=False) + "\n")
    facts = {
        "labels": config["labels"],
        "layers": config["layers"],
        "splits": counts,
        "sha256": {"logits.jsonl": sha256(Path(spec.paths["logits"]))},
        **environment.noted(spec.paths["work"]),
        "identity": dict(spec.identity),
    }
    write_json(spec.paths["exits"], {**facts, "provenance": spec.provenance})


if __name__ == "__main__":
    run_worker(record_exits)
