"""What every classifier of a trained model says of the examples of some splits, at full depth.

Temperatures are fitted on it, and the accuracy at any threshold, patience or oracle follows from it without running the
model again. Started like inference, one process per device, and like there a killed run goes on at the first missing
batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from longwatt import devices, distributed, environment, stopping
from longwatt.batch_store import BatchStore
from longwatt.decoding import autocast
from longwatt.energy.log import forget_runs
from longwatt.examples import Examples, batches, classified
from longwatt.models import load_family
from longwatt.models.family import Classifier
from longwatt.progress import say
from longwatt.provenance import asked_anew, whole_file, write_json
from longwatt.stopping import Stopped
from longwatt.tokenization import load_tokenizer, repair_tokens
from longwatt.worker import Spec, run

REPORT_EVERY_BATCHES = 10


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
        if store.begin(asked_anew("record_exits")) and spec.energy_log:
            forget_runs(Path(spec.energy_log).parent, but=Path(spec.energy_log))
    distributed.gather(None)  # nobody looks before the store is ready
    with devices.memory_named(spec.settings["budget"], "lower training.validation.batch_size"):
        parts = list(_parts(spec))
        kept = store.kept()
        missing = [(number, part) for number, part in enumerate(parts) if number not in kept]
        if missing:
            environment.note(spec.paths["work"], spec.settings["budget"], fresh=not kept)
            _run_model(spec, distributed.share(missing), store)
    distributed.gather(None)  # what the others recorded is kept too
    if distributed.rank() == 0:
        _write(spec, parts, store.kept())


def _parts(spec: Spec) -> Iterator[Part]:
    """All batches of all splits, in order."""
    settings, tokenizer = spec.settings, load_tokenizer(spec.paths["model"])
    for split in settings["splits"]:
        examples = classified(spec.paths, tokenizer, split, None, settings["seq_len"])
        yield from (Part(split, examples, positions) for positions in batches(examples, settings["batch_size"]))


def _run_model(spec: Spec, mine: Sequence[tuple[int, Part]], store: BatchStore) -> None:
    """Run this process's share of the missing batches.

    Raises:
        longwatt.stopping.Stopped: this process was asked to end.
    """
    settings, tokenizer = spec.settings, load_tokenizer(spec.paths["model"])
    device = devices.prepare(settings["budget"])
    family = cast(Classifier, load_family(settings["family"]))
    model = family.build({}, tokenizer, Path(spec.paths["model"]), settings["seq_len"], 1).to(device).eval()
    pad_to = settings["seq_len"] if settings["padding"] == "max_length" else None
    marker = spec.marker() if distributed.rank() == 0 else None
    if marker:
        marker.mark("generate")
    for done, (number, part) in enumerate(mine, 1):
        chosen = [part.examples[position] for position in part.positions]
        batch = {name: tensor.to(device) for name, tensor in family.collate(chosen, pad_to, None).items()}
        with torch.no_grad(), autocast(device, settings["budget"]["precision"]):
            logits = family.exit_logits(model, batch).float().cpu()  # (exits, batch, classes)
        rows = [
            {
                "id": one.id,
                "label": one.labels[0],
                "input_tokens": len(one.input_ids),
                "logits": logits[:, row].tolist(),
            }
            for row, one in enumerate(chosen)
        ]
        store.add(number, {"rows": rows})
        if stopping.asked():
            raise Stopped(f"stopped by SIGTERM with {done} batches kept; the next run goes on there")
        if marker and (done % REPORT_EVERY_BATCHES == 0 or done == len(mine)):
            say(f"batch {done}/{len(mine)}")
    store.sync()


def _write(spec: Spec, parts: Sequence[Part], kept: Mapping[int, Mapping[str, Any]]) -> None:
    config = json.loads((Path(spec.paths["model"]) / "config.json").read_text(encoding="utf-8"))
    counts = dict.fromkeys(spec.settings["splits"], 0)
    with whole_file(Path(spec.paths["logits"])) as stream:
        for number, part in enumerate(parts):
            for row in kept[number]["rows"]:
                counts[part.split] += 1
                found = {"split": part.split, **row, "label_name": config["labels"][row["label"]]}
                stream.write(json.dumps(found, ensure_ascii=False) + "\n")
    facts = {"labels": config["labels"], "layers": config["layers"], "splits": counts}
    facts |= {**environment.noted(spec.paths["work"]), "identity": dict(spec.identity)}
    write_json(spec.paths["exits"], {**facts, "provenance": spec.provenance})


if __name__ == "__main__":
    run(record)
