"""What every classifier of a trained model says of the examples of some splits, at full depth.

Temperatures are fitted on it, and the accuracy at any threshold, patience or oracle follows from it without running the
model again. Started like inference, one process per device, and like there a killed run goes on at the first missing
batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from longwatt import devices, distributed, environment
from longwatt.batch_progress import Progress
from longwatt.batch_store import BatchStore
from longwatt.decoding import autocast
from longwatt.energy.log import forget_runs
from longwatt.examples import Examples, batches, classified
from longwatt.models import load_family
from longwatt.models.family import Classifier, Example
from longwatt.provenance import asked_anew, sha256, whole_file, write_json
from longwatt.tokenization import load_tokenizer, repair_tokens
from longwatt.trained_models import ensure_sound
from longwatt.worker import Spec, run

# Not the validations' batch size, by which this has its own if it is not given: finished trainings depend on that.
ADVICE = "lower calibration.batch_size (of the study or of this dataset); only this recording depends on it"


@dataclass(frozen=True)
class Part:
    """Some examples of a split that are run together."""

    split: str
    examples: Examples
    positions: list[int]


def record(spec: Spec) -> None:
    """Write the logits of every classifier for every example.

    Args:
        spec: settings as `longwatt.settings.record_settings`; paths tokens, tokenized, dataset, tokenizer, model, work,
            logits, exits; identity, provenance and energy_log.

    Raises:
        longwatt.stopping.Stopped: it was asked to end.
        longwatt.worker.WorkerError: it cannot be done here; says what to change.
    """
    store = BatchStore(Path(spec.paths["work"]), spec.identity, distributed.rank())
    if distributed.rank() == 0:
        repair_tokens(spec.paths)
        ensure_sound(spec.paths)
        if store.begin(asked_anew("record_exits")) and spec.energy_log:
            forget_runs(Path(spec.energy_log).parent, but=Path(spec.energy_log))
    distributed.gather(None)  # nobody looks before the store is ready
    progress = Progress(spec, store)
    progress.mark("load")
    with progress.saved(), devices.memory_named(spec.settings["budget"], ADVICE):
        _record(spec, progress)


def _record(spec: Spec, progress: Progress) -> None:
    parts = list(_parts(spec))
    kept = progress.store.kept()
    missing = [(number, part) for number, part in enumerate(parts) if number not in kept]
    if missing:
        environment.note(spec.paths["work"], spec.settings["budget"], fresh=not kept)
        _run_model(spec, distributed.share(missing), progress)
    distributed.gather(None)  # what the others recorded is kept too
    if distributed.rank() == 0:
        progress.mark("finish")
        kept = progress.store.kept()
        progress.account(kept)
        _write(spec, parts, kept)


def _parts(spec: Spec) -> Iterator[Part]:
    """All batches of all splits, in order."""
    settings, tokenizer = spec.settings, load_tokenizer(spec.paths["model"])
    for split in settings["splits"]:
        examples = classified(spec.paths, tokenizer, split, None, settings["seq_len"])
        yield from (
            Part(split, examples, positions)
            for positions in batches(examples, settings["batch_size"])
        )


def _run_model(spec: Spec, mine: Sequence[tuple[int, Part]], progress: Progress) -> None:
    """Run this process's share of the missing batches.

    Raises:
        longwatt.stopping.Stopped: this process was asked to end.
    """
    settings, tokenizer = spec.settings, load_tokenizer(spec.paths["model"])
    device = devices.prepare(settings["budget"])
    family = cast(Classifier, load_family(settings["family"]))
    model = (
        family.build({}, tokenizer, Path(spec.paths["model"]), settings["seq_len"], 1)
        .to(device)
        .eval()
    )
    pad_to = settings["seq_len"] if settings["padding"] == "max_length" else None
    progress.mark("generate")
    for number, part in mine:
        chosen = [part.examples[position] for position in part.positions]
        devices.synchronize(device)
        start_ns = time.monotonic_ns()
        batch = {
            name: tensor.to(device) for name, tensor in family.collate(chosen, pad_to, None).items()
        }
        with torch.no_grad(), autocast(device, settings["budget"]["precision"]):
            logits = family.exit_logits(model, batch).float().cpu()  # (exits, batch, classes)
        window = start_ns, time.monotonic_ns()
        progress.keep(number, {"rows": _rows(chosen, logits)}, window, last=number == mine[-1][0])


def _rows(chosen: Sequence[Example], logits: torch.Tensor) -> list[dict[str, Any]]:
    """What is kept of each example of a batch: logits are (exits, batch, classes)."""
    return [
        {
            "id": one.id,
            "label": one.labels[0],
            "input_tokens": len(one.input_ids),
            "logits": logits[:, row].tolist(),
        }
        for row, one in enumerate(chosen)
    ]


def _write(spec: Spec, parts: Sequence[Part], kept: Mapping[int, Mapping[str, Any]]) -> None:
    config = json.loads((Path(spec.paths["model"]) / "config.json").read_text(encoding="utf-8"))
    counts = dict.fromkeys(spec.settings["splits"], 0)
    with whole_file(Path(spec.paths["logits"])) as stream:
        for number, part in enumerate(parts):
            for row in kept[number]["rows"]:
                counts[part.split] += 1
                found = {"split": part.split, **row, "label_name": config["labels"][row["label"]]}
                stream.write(json.dumps(found, ensure_ascii=False) + "\n")
    written = {"logits.jsonl": sha256(Path(spec.paths["logits"]))}
    facts = {
        "labels": config["labels"],
        "layers": config["layers"],
        "splits": counts,
        "sha256": written,
    }
    facts |= {**environment.noted(spec.paths["work"]), "identity": dict(spec.identity)}
    write_json(spec.paths["exits"], {**facts, "provenance": spec.provenance})


if __name__ == "__main__":
    run(record)
