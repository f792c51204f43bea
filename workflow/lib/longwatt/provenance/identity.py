"""Identify the work that a killed job may go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.files import sha256
from longwatt.provenance.artefacts import damaged, read_artefact
from longwatt.provenance.stamps import chat_template, digest

CHANGES_NO_RESULT = "It says what made an artefact, beside what the artefact holds."


def deciding_inputs(inputs: Mapping[str, str]) -> list[str]:
    """List the inputs that decide the origin of a job's work, as `work_identity` does."""
    given = {**inputs}
    return [given[name] for name, _ in _DECIDING.values() if name in given]


def work_identity(
    made_by: Mapping[str, Any], inputs: Mapping[str, str], but: Sequence[str] = ()
) -> dict[str, str]:
    """Identify a killed job's work, which goes on only where all is equal.

    Args:
        made_by: the job's stamp.
        inputs: the job's inputs by name; those that decide what it does are digested.
        but: settings that may change half-way, named as `training.validation.batch_size`.
    """
    settings = digest(without(made_by["settings"], but)) if but else made_by["settings_digest"]
    given = {**inputs}  # Snakemake's own kind of mapping says whether it holds a value, not a name
    digests = {what: read(given[name]) for what, (name, read) in _DECIDING.items() if name in given}
    return {"settings": settings, "code": made_by["code_digest"], **digests}


def _file_digest(path: str) -> str:
    """Digest a file that a job is given.

    Raises:
        longwatt.provenance.artefacts.Damaged: it is missing, or no file.
    """
    try:
        return sha256(Path(path))
    except OSError as error:
        raise damaged(Path(path), f"it cannot be read: {error.strerror}", shared=True) from None


def _contents(report: str) -> str:
    return digest(read_artefact(Path(report), shared=True)["sha256"])


def _tokenizer(path: str) -> str:
    """Digest a tokenizer's file, with its chat template if it has one."""
    found, template = _file_digest(path), chat_template(Path(path))
    return digest([found, template]) if template else found


# What work is made from -> the input that says it, and how it is digested.
_DECIDING: dict[str, tuple[str, Callable[[str], str]]] = {
    "data": ("tokenized", _contents),
    "tokenizer": ("tokenizer", _tokenizer),
    "weights": ("checkpoint", _contents),
    "batch size": ("batch_size", _file_digest),
    "training": ("training", _file_digest),
    "temperatures": ("temperatures", _file_digest),
    # Of a cascade, which two cells answer.
    "threshold": ("threshold", _file_digest),
    "first data": ("first_tokenized", _contents),
    "first tokenizer": ("first_tokenizer", _tokenizer),
    "first weights": ("first_checkpoint", _contents),
    "first training": ("first_training", _file_digest),
    "first temperatures": ("first_temperatures", _file_digest),
}


def without(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Leave out some settings, named as `training.validation.batch_size`.

    Blocks stay.
    """
    kept = dict(settings)
    for name in names:
        block, _, rest = name.partition(".")
        if not rest:
            kept.pop(block, None)
        elif isinstance(kept.get(block), Mapping):
            kept[block] = without(kept[block], [rest])
    return kept
