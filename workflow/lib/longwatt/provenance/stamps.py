"""Digests of settings, and the stamp that every artefact carries.

Snakemake knows what made a file only through `.snakemake/metadata`. A fresh clone beside old
results has none, so each artefact also says itself which settings and which code made it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import longwatt
from longwatt.files import read_object, sha256, whole_file

CHANGES_NO_RESULT = "It says what made an artefact, beside what the artefact holds."
STALE = ".stale"
CONTENT = "content_sha256"  # of the object that carries the stamp, in its provenance
# Rules whose artefact others use only for the files that it lists.
BRINGING = ("download_dataset", "download_model", "make_tokenizer", "tokenize_dataset")
MADE_FROM = "made_from"  # of a stamp: digests of what the artefact was made from, by path
# Environment, "COMMAND:RULE ...": rules whose earlier work a job must not go on from.
ANEW = "LONGWATT_ANEW"


@dataclass(frozen=True)
class Stage:
    """Describe one job of the workflow: its rule, its artefact and what decides it."""

    rule: str
    artefact: str
    settings: Mapping[str, Any]
    modules: tuple[str, ...] = ()


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value, whatever its keys' order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def stamp(
    rule: str, settings: Mapping[str, Any], code: str, inputs: Iterable[str] | None = None
) -> dict[str, Any]:
    """Make the provenance block of an artefact: its settings, code and inputs, as digests.

    Args:
        rule: that makes the artefact.
        settings: kept in full too.
        code: digest of the code behind the rule.
        inputs: paths of the files that decide what the artefact says; None records none.
    """
    return {
        "rule": rule,
        "longwatt": longwatt.__version__,
        "code_digest": code,
        "settings_digest": digest(settings),
        "settings": settings,
        **({} if inputs is None else {MADE_FROM: origins(inputs)}),
    }


def origins(paths: Iterable[str]) -> dict[str, str]:
    """Digest files by path, without folders, for which the artefact beside speaks."""
    files = (path for path in sorted(set(map(str, paths))) if not Path(path).is_dir())
    return {path: origin(Path(path)) for path in files}


def origin(path: Path) -> str:
    """Digest a file by what others can make of it.

    Data, tokenizers and weights count as the files that their artefact lists by digest. Any other
    artefact counts as all that it says and the settings that it was made with, since times and
    joules are read from it. Code does not count, since other code may make the same. A tokenizer's
    chat template, which lies beside its file, counts with it.
    """
    found = read_object(path) if path.suffix == ".json" else {}
    if not found:
        return sha256(path)
    block = found.pop("provenance", None)
    said = block if isinstance(block, dict) else {}
    if said.get("rule") in BRINGING and isinstance(found.get("sha256"), dict):
        return digest(found["sha256"])
    template = chat_template(path)
    return digest([found, said.get("settings_digest"), *([template] if template else [])])


def chat_template(path: Path) -> Any:
    """Return the chat template of a tokenizer by its tokenizer.json, None where there is none."""
    if path.name != "tokenizer.json":
        return None
    beside = path.with_name("chat_template.jinja")
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    return read_object(path.with_name("tokenizer_config.json")).get("chat_template")


def asked_anew(rule: str) -> str:
    """Name the command that asked for this rule's work anew, or '' if none did.

    The work is then made whatever is there. A job that is tried again under the same command
    (`--retries`) goes on from what it made under it.
    """
    command, _, rules = os.environ.get(ANEW, "").partition(":")
    return command if rule in rules.split() else ""


def read_stamp(artefact: Path) -> dict[str, Any] | None:
    """Read the provenance block of a JSON artefact, or None."""
    block = read_object(artefact).get("provenance")
    return block if isinstance(block, dict) else None


def agrees(artefact: Path, settings: Mapping[str, Any], codes: Collection[str]) -> bool:
    """Check whether an artefact was made with these settings by one of these codes."""
    block = read_stamp(artefact) or {}
    return block.get("settings_digest") == digest(settings) and block.get("code_digest") in codes


def recorded_paths(metadata: Path) -> set[str]:
    """Find the output paths that Snakemake holds metadata for."""
    return set(metadata_files(metadata))


def metadata_files(metadata: Path) -> dict[str, Path]:
    """Find the files of Snakemake's metadata by the output path that each speaks of.

    It names its records by the path in URL-safe base64, split into folders `@...` when long. Were
    that to change, nothing would be recognised here and every artefact would be checked by its own
    stamp.
    """
    found = {}
    for folder, _, names in os.walk(metadata):
        parts = [part.removeprefix("@") for part in Path(folder).relative_to(metadata).parts]
        for name in names:
            try:
                path = base64.urlsafe_b64decode("".join([*parts, name])).decode()
            except ValueError:
                continue
            found[path] = Path(folder, name)
    return found


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON under its final name once it is whole and on disk.

    An object that carries a stamp gets the digest of its content too.
    """
    if isinstance(value, Mapping) and isinstance(value.get("provenance"), Mapping):
        said = content_digest(json.loads(json.dumps(value)))  # as it will be read again
        value = {**value, "provenance": {**value["provenance"], CONTENT: said}}
    with whole_file(Path(path)) as stream:
        json.dump(value, stream, indent=1, allow_nan=False)
        stream.write("\n")


def content_digest(value: Mapping[str, Any]) -> str:
    """Digest a stamped object of JSON's types, but for the digest that it holds."""
    said = {name: item for name, item in value["provenance"].items() if name != CONTENT}
    return digest({**value, "provenance": said})


def set_stale_aside(
    stages: Iterable[Stage], codes: Callable[[Stage], Collection[str]]
) -> list[str]:
    """Rename artefacts that say they were made otherwise, so that Snakemake makes them again.

    Nothing is lost: `x.json` becomes `x.json.stale`, and comes back should settings and code be
    again as they were.

    Args:
        stages: stages that Snakemake holds no record of; it checks the others itself.
        codes: acceptable code digests of a stage.

    Returns:
        The artefacts set aside, now or by an earlier call, and those whose folder cannot be written
        to: a run is refused there, and a look is not.
    """
    aside = []
    for stage in stages:
        if not (os.path.lexists(stage.artefact) or os.path.lexists(stage.artefact + STALE)):
            continue  # most, before a study has run; a `Path` each would take longer than the look
        path, old = Path(stage.artefact), Path(stage.artefact + STALE)
        if path.exists():
            if not agrees(path, stage.settings, codes(stage)):
                aside.append(stage.artefact)
                with suppress(OSError):
                    path.replace(old)
            continue
        if old.exists() and agrees(old, stage.settings, codes(stage)):
            with suppress(OSError):
                old.replace(path)
        elif old.exists():
            aside.append(stage.artefact)
    return aside
