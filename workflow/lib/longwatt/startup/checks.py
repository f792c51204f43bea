"""Refuse a run before any job starts.

The checks look for missing devices, sources, studies, folders and reports.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt import datasets, shipped
from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.datasets.visibility import UnseenReferences, refuse_unseen
from longwatt.files import read_object
from longwatt.freshness.in_force import InForce
from longwatt.hub import checkpoints, client
from longwatt.startup.scored import scorings
from longwatt.study import settings
from longwatt.study.checks import check_cells
from longwatt.study.stages import Stages


def check_budgets(stages: Stages, limit: int) -> None:
    """Refuse cells that want more GPUs than may be used.

    Snakemake itself would silently lower a job's need to the limit, and so change its batch size.

    Raises:
        StudyError: names the cell, its need and the limit.
    """
    name = max(stages.cells, key=stages.gpus)  # what it needs is enough for all
    need = stages.gpus(name)
    if need > limit:
        raise StudyError(
            f"cell {name} needs {need} GPU(s) but the limit is {limit}. The limit is the number of "
            "devices found on this machine unless you give one: "
            f"--resources gpu={need} if they are there, or choose a smaller budget (`gpus: 0` is "
            "the CPU), or a study for this machine"
        )


def check_container(stages: Stages, wanted: bool) -> None:
    """Refuse containers without an image, where Snakemake would run jobs outside and say nothing.

    Args:
        stages: the study's, whose machine may name an image.
        wanted: jobs are to run inside a container.

    Raises:
        StudyError: says which key to set.
    """
    image = stages.machine.get("container")
    if not wanted or (image and ("://" in image or Path(image).exists())):
        return
    wrong = f"there is no {Path(image).absolute()}" if image else "names no image"
    raise StudyError(
        f"config.yaml: container: {wrong}, and --sdm apptainer needs one; build it from "
        "envs/longwatt.def (docs/how-to/environments.md) and write its path there, or leave "
        "--sdm apptainer out"
    )


def check_sources(stages: Stages) -> None:
    """Refuse datasets, checkpoints and tokenizers that are not made yet and cannot be read here.

    Requirements that a message names lie elsewhere in an installed wheel. It is mended here: the
    words of the message stand in modules whose change would have models brought again.

    Raises:
        StudyError: names the entry and what is missing.
    """
    for problem in missing_sources(stages):
        raise StudyError(problem)


def missing_sources(stages: Stages) -> Iterator[str]:
    """Yield a sentence for each source that is missing here."""
    for entry, artefact, problem in _sources(stages):
        if problem and not Path(artefact).exists():
            said = problem.replace(str(checkpoints.PROJECT / "envs"), str(shipped.ROOT / "envs"))
            yield f"{stages.source}: {entry}: {said}{_lost(stages.study, entry)}"


def _lost(study: Mapping[str, Any], entry: str) -> str:
    """Say where an entry's own relative path was looked for, nothing if it is there."""
    part, name = entry.split(".", 1)
    own = study[part][name]
    files = own.get("options", {}).get("files", {})
    named = [own.get("path"), *(files.values() if isinstance(files, Mapping) else ())]
    for path in (Path(one) for one in named if isinstance(one, str)):
        if not path.is_absolute() and not path.exists():
            return f"; relative paths begin in {Path.cwd()}, where there is no {path}"
    return ""


def _sources(stages: Stages) -> Iterator[tuple[str, str, str | None]]:
    """Yield all that comes from outside: its entry, its artefact, and what is missing."""
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        problem = datasets.missing(chosen["source"], chosen["options"])
        yield f"datasets.{name}", stages.download_dataset(key).artefact, problem
    for key, name in stages.models.items():
        entry = stages.study["models"][name]
        if checkpoints.repository_of(entry) is None:
            problem = checkpoints.missing_checkpoint(entry, checkpoints.missing_weights)
            yield f"models.{name}", stages.download_model(key).artefact, problem
    for dataset, tokenizer in stages.pairs():
        name = stages.tokenizers[tokenizer]
        entry = stages.study["tokenizers"][name]
        problem = checkpoints.missing_checkpoint(entry, checkpoints.missing_tokenizer)
        yield f"tokenizers.{name}", stages.make_tokenizer(dataset, tokenizer).artefact, problem


def check_metrics(stages: Stages) -> None:
    """Refuse datasets whose references are invisible to the study's metric.

    Only datasets that exist already are looked at, since they may be another study's.

    Raises:
        StudyError: names the entry, the metric, the first example and the metrics that would do.
    """
    for key, found in scorings(stages).items():
        facts = read_object(Path(stages.download_dataset(key).artefact)).get("visibility", {})
        try:
            refuse_unseen(facts, found)
        except UnseenReferences as error:
            raise StudyError(str(error)) from None


def check_against(stages: Stages, asked: Mapping[str, Any], folders: Sequence[Path]) -> None:
    """Refuse a comparison with no second study or an unknown one, and `against` without one.

    Raises:
        StudyError: names the known study that is most like the given one.
    """
    other, compares = stages.machine.get("against"), "compare" in (asked.get("targets") or ())
    if compares and other is None:
        raise StudyError(
            "compare needs a second study: longwatt compare A B (--config study=A against=B)"
        )
    if other is None:
        return
    if not compares:
        raise StudyError(
            "`against` is for the target compare: longwatt compare A B, which is "
            "snakemake compare --cores 1 --config study=A against=B"
        )
    if other == stages.study_id:
        raise StudyError(f"against: {other} is the study itself; name another one")
    known = {path.name for path in Path("results").glob("*") if path.is_dir()}
    known |= set(shipped.study_names(folders))
    check_name("study", other, known - {stages.study_id}, "against")


def check_hub(stages: Stages, asked: Mapping[str, Any]) -> None:
    """Ask the hub for all that a study still needs, before any download.

    Models' configurations are fetched at once, since lengths are checked against them and run times
    follow from them. A dry run does without an answer, and fetches nothing.

    Raises:
        StudyError: names the entry, the repository and what to do, and what else is out of reach.
    """
    dry = bool(asked.get("dryrun"))
    needed = [found for found in _repositories(stages) if not Path(found[1]).exists()]
    for number, (entry, _, repository, choose) in enumerate(needed):
        try:
            client.check_files(repository, choose)
            if choose is checkpoints.choose_model and not dry:
                client.fetch(repository, checkpoints.choose_config)
        except client.HubUnreachable as error:
            later = {f"{other} ({theirs.name})" for other, _, theirs, _ in needed[number + 1 :]}
            also = f". Not looked for any more: {', '.join(sorted(later))}" if later else ""
            if dry:
                said = f"Not checked, since the hub does not answer: {entry} ({repository.name})"
                print(said + also, file=sys.stderr)
                return
            # A busy hub will have answered by the time that the job runs, which is patient.
            if not error.answered:
                raise StudyError(f"{stages.source}: {entry}: {error}{also}") from None
        except client.HubError as error:
            raise StudyError(f"{stages.source}: {entry}: {error}") from None
    check_cells(stages)


def _repositories(stages: Stages) -> Iterator[tuple[str, str, client.Repository, client.Choose]]:
    """Yield all that comes from the hub.

    Each item has its entry, its artefact, its repository and the function that chooses its files.
    """
    for key, name in stages.datasets.items():
        chosen = settings.dataset_settings(stages.study, name)
        found = datasets.repository(chosen["source"], chosen["options"])
        if found and not datasets.at_hand(chosen["source"], chosen["options"]):
            yield f"datasets.{name}", stages.download_dataset(key).artefact, *found
    for key, name in stages.models.items():
        if repository := checkpoints.repository_of(stages.study["models"][name]):
            artefact = stages.download_model(key).artefact
            yield f"models.{name}", artefact, repository, checkpoints.choose_model
    for dataset, key in stages.pairs():
        name = stages.tokenizers[key]
        if repository := checkpoints.repository_of(stages.study["tokenizers"][name]):
            artefact = stages.make_tokenizer(dataset, key).artefact
            yield f"tokenizers.{name}", artefact, repository, checkpoints.choose_tokenizer


def check_writable(stages: Stages) -> None:
    """Refuse to run where results could not be written.

    Raises:
        StudyError: names the folder.
    """
    for folder in ("resources", "logs", stages.results):
        there = Path(folder)
        while not there.exists():
            there = there.parent
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise StudyError(
                f"{there.resolve()} cannot be written to, but {folder}/ must go there; make it "
                "writable, or name another folder with --directory FOLDER: resources/, results/ "
                "and logs/ are then made there, and relative paths of a study's own data are "
                "looked for there"
            )


def check_report(current: InForce) -> None:
    """Refuse a report if its results are gone, or made by other settings or code.

    Raises:
        longwatt.freshness.outdated.StaleSummary: names the artefacts, and what to do.
    """
    # pandas is needed only here, and not for an ordinary run.
    from longwatt.results.summary import check_current

    check_current(Path(current.stages.results), current)
