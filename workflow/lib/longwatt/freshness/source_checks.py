"""Find data, weights and tokenizers whose files have changed since they were read.

Snakemake makes again what is older than its files. A file that was replaced by an older one escapes
it, as does one in a mirror, and after a mere touch it would train everything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt import datasets
from longwatt.files import read_object
from longwatt.hub import checkpoints
from longwatt.provenance.source_files import KnownDigests, differences, folder_files
from longwatt.study import settings
from longwatt.study.stages import Stages

KNOWN = Path("resources/sources.json")  # digests of files that were touched and hold what they held
OUTDATED = ".outdated"


@dataclass(frozen=True)
class Source:
    """The files that an artefact is read from.

    Attributes:
        artefact: the last file that its job writes into its folder.
        files: files on this machine, by name.
        all_of_them: a missing file is a difference too, as in a folder whose files nobody names.
    """

    artefact: Path
    files: Mapping[str, Path]
    all_of_them: bool


def sources_of(stages: Stages) -> Iterator[Source]:
    """Yield all artefacts that are read from local files and can be read again.

    An artefact is left out, and so kept as it is, if the study pins it by a digest or a revision,
    or if it lacks a file.
    """
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        source, options = chosen["source"], chosen["options"]
        artefact = Path(stages.download_dataset(key).artefact)
        if not datasets.is_pinned(options) and datasets.missing(source, options) is None:
            yield Source(artefact, datasets.local_files(source, options), all_of_them=False)
    for key, name in stages.models.items():
        artefact = Path(stages.download_model(key).artefact)
        if folder := _folder(stages.study["models"][name], checkpoints.missing_weights):
            files = folder_files(folder, checkpoints.checkpoint_files(folder))
            yield Source(artefact, files, all_of_them=True)
    for dataset, key in stages.pairs():
        entry = stages.study["tokenizers"][stages.tokenizers[key]]
        artefact = Path(stages.make_tokenizer(dataset, key).artefact)
        if folder := _folder(entry, checkpoints.missing_tokenizer):
            yield Source(artefact, checkpoints.tokenizer_sources(folder), all_of_them=True)


def _folder(entry: Mapping[str, Any], lacks: checkpoints.Lacks) -> Path | None:
    """Find a user's folder that a model or tokenizer can be taken from."""
    if "path" not in entry or checkpoints.missing_checkpoint(entry, lacks) is not None:
        return None
    return Path(entry["path"]).expanduser()


def changed(stages: Stages, known: KnownDigests) -> dict[str, list[str]]:
    """List the files that changed, by the artefact made from them, without writing anything."""
    found = {
        str(one.artefact): differences(one.artefact, one.files, known, all_of_them=one.all_of_them)
        for one in sources_of(stages)
        if one.artefact.exists()
    }
    return {artefact: files for artefact, files in found.items() if files}


def set_aside(stages: Stages, known: KnownDigests) -> dict[str, list[str]]:
    """Rename artefacts whose files changed, so that Snakemake makes them again.

    An artefact whose files are again as they were, before anything was made anew, gets its name
    back.

    Returns:
        The files that changed, by artefact.
    """
    for source in sources_of(stages):
        _restore(source, known)
    found = changed(stages, known)
    for artefact in found:
        Path(artefact).replace(artefact + OUTDATED)
    known.save()
    return found


def describe_changes(found: Mapping[str, list[str]]) -> str:
    """Tell which files changed."""
    lines = [f"{artefact}: {', '.join(files)}" for artefact, files in found.items()]
    intro = "Read from files that have changed since, to be made again with all that follows:"
    return "\n  ".join([intro, *lines])


def dataset_files(stages: Stages, key: str) -> list[str]:
    """List the local files that a dataset is read from.

    They are named even if they are gone: Snakemake then keeps what was made from them, while
    another set of inputs would have it made again.
    """
    chosen = stages.download_dataset(key).settings
    return datasets.files(chosen["source"], chosen["options"])


def model_source_files(stages: Stages, key: str) -> list[str]:
    """List the checkpoint files that a model is copied from, or was copied (see `dataset_files`).

    A pinned revision or package never changes, wherever and whenever it was installed.
    """
    entry = stages.study["models"][stages.models[key]]
    if "path" not in entry:
        return []
    folder = Path(entry["path"]).expanduser()
    copied = read_object(Path(stages.download_model(key).artefact)).get("sha256", {})
    there = map(str, checkpoints.checkpoint_files(folder))
    return sorted(there) or sorted(str(folder / name) for name in copied)


def tokenizer_files(stages: Stages, key: str) -> list[str]:
    """List the tokenizer file of a checkpoint in a user's folder, none for other checkpoints."""
    path = stages.study["tokenizers"][stages.tokenizers[key]].get("path")
    return [str(Path(path).expanduser() / checkpoints.TOKENIZER)] if path else []


def _restore(source: Source, known: KnownDigests) -> None:
    old = source.artefact.with_name(source.artefact.name + OUTDATED)
    if source.artefact.exists() or not old.exists():
        return
    made = old.stat().st_mtime_ns
    beside = [path for path in old.parent.iterdir() if path != old and path.is_file()]
    untouched = beside and all(path.stat().st_mtime_ns <= made for path in beside)
    if untouched and not differences(old, source.files, known, all_of_them=source.all_of_them):
        old.replace(source.artefact)
