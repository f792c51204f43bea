"""Collect what is known of a study's finished cells, from its artefacts and its settings."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from longwatt import datasets
from longwatt.energy.costs import price_figures
from longwatt.exports.known import KnownFacts, LeftOut, NothingToExport, without_unknown
from longwatt.files import read_object
from longwatt.freshness.in_force import InForce, find
from longwatt.hub.checkpoints import repository_of
from longwatt.layout.wording import listed
from longwatt.provenance.artefacts import read_artefact
from longwatt.results.status import up_to_date_rows
from longwatt.results.summary import artefacts, summarize
from longwatt.spelling import nearest
from longwatt.study.cells import classifies
from longwatt.study.model_settings import INITIAL_WEIGHTS
from longwatt.study.reported import report_settings
from longwatt.study.settings import dataset_key, dataset_settings

LOG = "energy.jsonl.gz"
HEADS = 4  # lines of a log among which its first header stands


@dataclass(frozen=True)
class JobFacts:
    """Facts of one training or inference.

    Attributes:
        point: the inference point, None of a training.
        row: a row of the summary, without the columns that are unknown.
        made: training.json or inference.json.
        energy: energy.json.
        began: seconds since 1970 at which the log of its energy begins, None if that is unknown.
    """

    point: str | None
    row: KnownFacts
    made: KnownFacts
    energy: KnownFacts
    began: float | None

    @property
    def part(self) -> str:
        """`train` or `inference`, as columns of the summary begin."""
        return "inference" if self.point else "train"

    @property
    def settings(self) -> KnownFacts:
        """The settings that the job was done with."""
        found: KnownFacts = (self.made.get("provenance") or {}).get("settings") or {}
        return found

    def column(self, name: str) -> Any:
        """Read a column by its name without `train_` or `inference_`, None if unknown."""
        return self.row.get(f"{self.part}_{name}")

    @property
    def before_training(self) -> bool:
        """True of an inference with the weights that training begins with."""
        return self.row.get("weights") == INITIAL_WEIGHTS


@dataclass(frozen=True)
class CellFacts:
    """Facts of one cell with finished points.

    Attributes:
        cell: its name.
        heading: the same in words.
        training: its training, None if only the model before training has been looked at.
        points: its finished inference points.
        dataset: the dataset's entry in the study, with `id`, `key`, `title`, `repository` and
            `classifies`.
        model: the model's entry, with `id` and `title`.
        brought: dataset.json, empty where that is no more.
    """

    cell: str
    heading: str
    training: JobFacts | None
    points: tuple[JobFacts, ...]
    dataset: KnownFacts
    model: KnownFacts
    brought: KnownFacts

    @property
    def jobs(self) -> list[JobFacts]:
        """Its training, if known, and its points."""
        return [*([self.training] if self.training else []), *self.points]


@dataclass(frozen=True)
class StudyFacts:
    """Facts of a study: its settings, its declarations and its finished cells.

    Attributes:
        current: what is in force.
        cells: its cells with finished points, among those that were asked for.
        unfinished: CELL, POINT of the other points that were asked for.
    """

    current: InForce
    cells: tuple[CellFacts, ...]
    unfinished: tuple[str, ...] = ()

    def note_unfinished(self, left_out: LeftOut) -> None:
        """Note which points are not finished, and how they would be."""
        if self.unfinished:
            how = f"not finished by the settings and code in force; {_run(self.name)}"
            left_out.add(listed(self.unfinished), how)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.current.stages.study_id

    @property
    def title(self) -> str:
        """The study's title."""
        return str(self.current.stages.study.get("title", self.name))

    @property
    def declared(self) -> KnownFacts:
        """The declarations of the study about itself (`export`)."""
        found: KnownFacts = without_unknown(self.current.stages.study.get("export") or {})
        return found

    @property
    def place(self) -> KnownFacts:
        """The declarations of config.yaml about this place (`place`)."""
        found: KnownFacts = without_unknown(self.current.stages.machine.get("place") or {})
        return found

    @property
    def carbon(self) -> KnownFacts:
        """The declarations of config.yaml about this place's electricity (`carbon`)."""
        found: KnownFacts = without_unknown(self.current.stages.machine.get("carbon") or {})
        return found


def study_in_force(results: Path, changes: Mapping[str, Any]) -> InForce:
    """Read the study behind a folder of results.

    Args:
        results: results/{study}.
        changes: of the machine's configuration, as given to Snakemake by `--config`.

    Raises:
        NothingToExport: there are no results, or no study file says what they are.
        longwatt.config.errors.StudyError: the study or the configuration is wrong.
    """
    if not results.is_dir():
        known = [path.name for path in results.parent.glob("*/")]
        hint = nearest(results.name, known)
        raise NothingToExport(f"{results} does not exist{hint}; {_run(results.name)}")
    current = find(results, changes)
    if current is None:
        raise NothingToExport(
            f"studies/{results.name}.yaml is not here, and without it nothing says what the "
            f"results in {results} are; put it back"
        )
    return current


def facts_of_study(
    results: Path, current: InForce, axes: Mapping[str, Any] | None = None
) -> StudyFacts:
    """Collect the facts of finished cells.

    Args:
        results: results/{study}.
        current: the study in force. Cells that other settings or code made are not finished.
        axes: the values of axes that cells must have; None for all cells.

    Raises:
        NothingToExport: there is no such finished cell.
    """
    wanted = current.stages.summarize().settings["rows"]
    chosen = _chosen(wanted, axes or {}, current.stages.study_id)
    done = up_to_date_rows(results, chosen, current.stamps())
    if not done:
        raise NothingToExport(
            f"none of {len({row['cell'] for row in chosen})} cells of {current.stages.study_id} is "
            f"finished by the settings and code in force; {_run(current.stages.study_id)}"
        )
    finished = {_point(row) for row in done}
    missing = tuple(name for name in map(_point, chosen) if name not in finished)
    return StudyFacts(current, tuple(_cells(results, current, done)), missing)


def _point(row: Mapping[str, Any]) -> str:
    return f"{row['cell']}, {row['inference']}"


def _run(study: str) -> str:
    return f"run it first: longwatt run --study {study}"


def _chosen(rows: Iterable[KnownFacts], axes: Mapping[str, Any], study: str) -> list[KnownFacts]:
    kept = list(rows)
    for axis, value in axes.items():
        known = sorted({str(row[axis]) for row in kept})
        kept = [row for row in kept if str(row[axis]) == str(value)]
        if not kept:
            raise NothingToExport(
                f"{study} has no cell with {axis} {value}{nearest(str(value), known)}; "
                f"there are {', '.join(known)}"
            )
    return kept


def _cells(results: Path, current: InForce, done: list[Mapping[str, Any]]) -> Iterable[CellFacts]:
    table = summarize(
        results,
        done,
        price_figures(current.stages.machine),
        scoring=current.stages.summarize().settings["scoring"],
    )
    by_cell: dict[str, list[KnownFacts]] = {}
    for row in table.to_dict("records"):
        by_cell.setdefault(row["cell"], []).append(without_unknown(row))
    for name, rows in by_cell.items():
        yield _cell(results, current, name, rows)


def _cell(results: Path, current: InForce, name: str, rows: list[KnownFacts]) -> CellFacts:
    study, cell = current.stages.study, current.stages.cell(name)
    titles = report_settings.titles(study)
    points = tuple(_job(results, row, row["inference"]) for row in rows)
    trained = next((row for row in rows if row.get("weights") != INITIAL_WEIGHTS), None)
    key = dataset_key(study, cell.dataset)
    found = dataset_settings(study, cell.dataset)
    repository = datasets.repository(found["source"], found["options"])
    return CellFacts(
        cell=name,
        heading=report_settings.headings(study, {name: cell})[name],
        training=_job(results, trained, None) if trained else None,
        points=points,
        dataset={
            **study["datasets"][cell.dataset],
            "id": cell.dataset,
            "title": titles[cell.dataset],
            "repository": repository[0].name if repository else None,
            "classifies": classifies(study, cell.dataset),
        },
        model={**study["models"][cell.model], "id": cell.model, "title": titles[cell.model]},
        brought=read_object(Path("resources", "datasets", key, "dataset.json")),
    )


def _job(results: Path, row: KnownFacts, point: str | None) -> JobFacts:
    paths = artefacts(results, row)
    made, energy = ("inference", "inference_energy") if point else ("training", "training_energy")
    return JobFacts(
        point=point,
        row=row,
        made=read_artefact(paths[made]),
        energy=read_artefact(paths[energy]),
        began=_began(paths[energy].with_name(LOG)),
    )


def _began(log: Path) -> float | None:
    """Read when a log of energy begins, None where it is gone or torn."""
    try:
        with gzip.open(log, "rt", encoding="utf-8") as lines:
            heads = (json.loads(line).get("wall_time_s") for line in islice(lines, HEADS))
            return next((float(head) for head in heads if head is not None), None)
    except (OSError, EOFError, ValueError, zlib.error):
        return None


def base_model(model: Mapping[str, Any]) -> KnownFacts:
    """Name the pretrained model that a training begins with, empty where that is random.

    Returns:
        name; repository and revision of the hub, where it comes from there.
    """
    if model["initialisation"] == "random":
        return {}
    if repository := repository_of(model):
        return {
            "name": repository.name,
            "repository": repository.name,
            "revision": repository.revision,
        }
    return {"name": str(model.get("package") or Path(model["path"]).name)}
