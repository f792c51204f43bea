"""Export a study's finished results in one format, and say what is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longwatt.exports.boamps import reports
from longwatt.exports.facts import CellFacts, StudyFacts, facts_of_study, study_in_force
from longwatt.exports.known import LeftOut, NothingToExport
from longwatt.exports.model_card import model_card
from longwatt.exports.run_crate import ZIP, write_crate
from longwatt.exports.writing import refuse_crate, said_if_unwritable, write_texts
from longwatt.files import read_object
from longwatt.freshness.in_force import InForce
from longwatt.freshness.outdated import StaleSummary
from longwatt.results.standing import refuse_outdated
from longwatt.results.summary import check_current

BOAMPS, MODEL_CARD, RO_CRATE = "boamps", "model-card", "ro-crate"
EXPORTS_FOLDER = "exports"  # of results/{study}
README = "README.md"


@dataclass(frozen=True)
class Request:
    """Order of an export.

    Attributes:
        form: boamps, model-card or ro-crate.
        results: results/{study}.
        cell: the name of one cell, None for those of `axes`.
        axes: values that cells must have, by axis.
        out: a file or folder, None for results/{study}/exports.
        force: whether to write over what is there.
        changes: of the machine's configuration, as given to Snakemake by `--config`.
    """

    form: str
    results: Path
    cell: str | None = None
    axes: Mapping[str, Any] = field(default_factory=dict)
    out: Path | None = None
    force: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """The files that were written, and sentences on what is left out."""

    paths: list[Path]
    notes: list[str]


def export_study(request: Request, now: datetime | None = None) -> Exported:
    """Write an export.

    Raises:
        NothingToExport: it cannot be written; says why and what to do.
        longwatt.config.errors.StudyError: the study or the configuration is wrong.
        longwatt.provenance.artefacts.Damaged: a result is not what was written.
    """
    current = study_in_force(request.results, request.changes)
    write = {BOAMPS: _boamps, MODEL_CARD: _model_card, RO_CRATE: _ro_crate}[request.form]
    return write(request, current, now or datetime.now(UTC))


def _boamps(request: Request, current: InForce, now: datetime) -> Exported:
    left_out = LeftOut()
    study = _chosen(request, current)
    study.note_unfinished(left_out)
    found = dict(reports(study, now, left_out))
    if not found:
        raise NothingToExport("; ".join(["no report can be written", *left_out.lines()]))
    folder = request.out or request.results / EXPORTS_FOLDER / BOAMPS
    if folder.suffix == ".json":
        if len(found) > 1:
            raise NothingToExport(
                f"{len(found)} reports do not go into the file {folder}; give a folder as --out"
            )
        texts = {folder: _json(next(iter(found.values())))}
    else:
        texts = {folder / name: _json(one) for name, one in found.items()}
    write_texts(texts, request.force)
    return Exported(list(texts), left_out.lines())


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _chosen(request: Request, current: InForce) -> StudyFacts:
    """Collect the facts of the cells that were asked for."""
    one = {} if request.cell is None else {"cell": request.cell}
    return facts_of_study(request.results, current, {**one, **request.axes})


def _model_card(request: Request, current: InForce, now: datetime) -> Exported:
    left_out, said = LeftOut(), []
    if request.cell is None:
        cell, words = _answered(request, current)
        said.append(words)
    else:
        cell = request.cell
    study = _chosen(replace(request, cell=cell), current)
    study.note_unfinished(left_out)
    target = _card_path(request, study.cells[0])
    write_texts({target: model_card(study, study.cells[0], left_out)}, request.force)
    return Exported([target], [*said, *left_out.lines()])


def _card_path(request: Request, cell: CellFacts) -> Path:
    if request.out is None:
        return request.results / EXPORTS_FOLDER / MODEL_CARD / cell.cell / README
    return request.out if request.out.suffix == ".md" else request.out / README


def _answered(request: Request, current: InForce) -> tuple[str, str]:
    """Name the cell that the study's answer chose among those of the wanted axes.

    Returns:
        The cell, and a sentence that says so.

    Raises:
        NothingToExport: there is no answer, or none but several.
    """
    wanted = _matching(request, current)
    if len(wanted) == 1:
        return wanted[0], f"{wanted[0]} is the only cell of that kind"
    path = request.results / "answer.json"
    if not path.is_file():
        raise NothingToExport(
            f"{path} is not there, so no cell is chosen; give --cell, or finish the study: "
            f"longwatt run --study {request.results.name}"
        )
    try:
        refuse_outdated(request.results, request.changes, path, lambda stages: stages.answer())
    except ValueError as error:
        raise NothingToExport(f"{error}; or give --cell") from None
    found = _recommended(read_object(path))
    cells = [(dataset, cell) for dataset, cell in found.items() if cell in wanted]
    if len(cells) != 1:
        known = ", ".join(f"{cell} of {dataset}" for dataset, cell in found.items()) or "none"
        raise NothingToExport(
            f"a card describes one cell, and {path} chose {known}; give --cell or --dataset"
        )
    dataset, cell = cells[0]
    return cell, f"{cell} is the cell that {path} chose for {dataset} (--cell takes another)"


def _matching(request: Request, current: InForce) -> list[str]:
    """Name the cells of the wanted axes, finished or not."""
    rows = current.stages.summarize().settings["rows"]
    kept = [
        row["cell"]
        for row in rows
        if all(str(row[axis]) == str(value) for axis, value in request.axes.items())
    ]
    if not kept:
        facts_of_study(request.results, current, request.axes)  # says which value no cell has
    return list(dict.fromkeys(kept))


def _recommended(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the chosen cell of every dataset: the first seed of the chosen point."""
    points = {point["id"]: point for point in answer.get("points", ())}
    found: dict[str, str] = {}
    for dataset, said in answer.get("recommendations", {}).items():
        cells = points.get(said.get("chosen"), {}).get("cells", ())
        found |= {dataset: cells[0]} if cells else {}
    return found


def _ro_crate(request: Request, current: InForce, now: datetime) -> Exported:
    if request.cell or request.axes:
        raise NothingToExport("a run crate is of a whole study; leave --cell and the axes out")
    try:
        check_current(request.results, current)
    except StaleSummary as error:
        raise NothingToExport(f"a run crate is of a finished study: {error}") from None
    left_out = LeftOut()
    study = facts_of_study(request.results, current)
    target = request.out or request.results / EXPORTS_FOLDER / f"{RO_CRATE}{ZIP}"
    with said_if_unwritable(target):
        place = Path(os.path.realpath(target))  # a link to a folder stays one
        refuse_crate(place, request.force)
        write_crate(study, place, now, left_out)
    return Exported([target], left_out.lines())
