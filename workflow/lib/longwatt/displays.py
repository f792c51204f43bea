"""A study's figures and tables by name, each with its place in the report.

`longwatt.figures` and `longwatt.tables` make them. Both load heavy libraries, so parse time must
not import them.

They are drawn and written by `longwatt.figures` and `longwatt.tables`, which load libraries and
must not be imported at parse time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from longwatt.cells import AXES, Cell, expand
from longwatt.study import StudyError, check_name


class Shown(NamedTuple):
    """A figure's or a table's place in the report.

    Attributes:
        category: of the report.
        label: its name there.
        caption: the file in workflow/report that explains it, without its suffix.
    """

    category: str
    label: str
    caption: str


ENERGY, SPEED, HARDWARE = (
    "Accuracy against energy",
    "Accuracy against speed and time",
    "Accuracy against hardware use",
)
OF_THE_STUDY = "Figures of the study"
# Cost -> its category and name in the report. Each has a general figure, and can be asked for in a
# study's own figures.
COSTS = {
    "power_efficiency": (ENERGY, "power efficiency"),
    "training_energy": (ENERGY, "training energy"),
    "training_speed": (SPEED, "training speed"),
    "inference_speed": (SPEED, "inference speed"),
    "training_time": (SPEED, "training time"),
    "gpu_utilization": (HARDWARE, "GPU utilisation"),
    "gpu_memory": (HARDWARE, "mean GPU memory"),
    "peak_memory": (HARDWARE, "peak memory"),
}
# Known are the names of the grid; a study that extends another has its figures too.
INHERITED = " in the grid. Take cells away by `exclude`, which keeps figures as they are, or leave all out (`figures:`)"
SCALES = (
    "linear",
    "log",
)  # a cost's scale where a study's own figure asks for one, as in training_time_log
GENERAL = {
    f"accuracy_vs_{cost}": Shown(*place, f"accuracy_vs_{cost}") for cost, place in COSTS.items()
} | {"energy_by_phase": Shown(ENERGY, "training energy by phase", "energy_by_phase")}
TABLES = {
    "summary": "all cells",
    "scores": "scores by length",
    "energy": "energy",
    "datasets": "datasets",
    "settings": "settings in force",
    "batch_sizes": "batch sizes",
}
PUBLISHED = "published"  # the figure and the table of ours beside theirs
EXITS = "exits"  # the table of models with exits
EARLY_EXIT = "Early exit"
DISTILLED = "exits_distilled"
# Figures of models with exits; that of several encoders only where a study has them.
EXIT_FIGURES = {
    "exits_accuracy_vs_time": "accuracy against time",
    "exits_accuracy_vs_energy": "accuracy against energy",
    DISTILLED: "encoders of several sizes",
    "exits_curve": "accuracy and layers by threshold",
    "exits_reliability": "reliability of the confidences",
    "exits_confidence_by_label": "confidence by label",
    "exits_by_difficulty": "exit layer by difficulty",
}
# What of a model's entry does not say which encoder it has.
NO_ENCODER = ("title", "exits", "training", "generation", "inference")
TABLE_KINDS = ("html", "md", "csv")


def figures(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's figures: its own, the general ones, and published scores.

    Its own stand first, in their order; the figure of published scores is there only where the
    study has some.
    """
    own = {
        f["name"]: Shown(OF_THE_STUDY, f.get("title", f["name"]), "study_figure")
        for f in study.get("figures", ())
    }
    return {**own, **GENERAL, **_published(study, OF_THE_STUDY, "published_figure")}


def tables(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's tables.

    The table of published scores is there only where the study has some.
    """
    general = {name: Shown("Tables", label, name) for name, label in TABLES.items()}
    exits = (
        {EXITS: Shown("Tables", "early exit", "exits_table")} if _models_with_exits(study) else {}
    )
    return {**general, **exits, **_published(study, "Tables", "published_table")}


def exit_figures(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's figures of early exit.

    There are none unless the model of some cell has two exits or more.
    """
    models = _models_with_exits(study)
    if all(len(entry["exits"]["layers"]) < 2 for entry in models.values()):
        return {}
    encoders = {repr(sorted(_encoder(entry).items())) for entry in models.values()}
    names = [name for name in EXIT_FIGURES if name != DISTILLED or len(encoders) > 1]
    return {name: Shown(EARLY_EXIT, EXIT_FIGURES[name], name) for name in names}


def split_cost(name: str) -> tuple[str, str | None]:
    """Split a cost as a study's own figure names it into the cost and a scale.

    The scale is None where the range of the values is to choose it.
    """
    for scale in SCALES:
        if name.endswith(f"_{scale}"):
            return name.removesuffix(f"_{scale}"), scale
    return name, None


def check(study: Mapping[str, Any], cells: Iterable[Cell], source: str) -> None:
    """Refuse figures of anything that the study does not have.

    Raises:
        StudyError: names the figure and the cost, dataset, model or budget that is not there, or a
            name taken twice.
    """
    there, taken = list(cells), {*GENERAL, PUBLISHED}
    for number, figure in enumerate(study.get("figures", ())):
        where = f"{source}: figures[{number}] ({figure['name']})"
        if figure["name"] in taken:
            raise StudyError(f"{where}: there is a figure of this name already; choose another")
        taken.add(figure["name"])
        for cost in figure["costs"]:
            check_name("cost", split_cost(cost)[0], COSTS, f"{where}.costs")
        _check_cells(figure, there, where)


def shows(figure: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Check whether a study's own figure shows a point's dataset, model and budget."""
    return all(
        point[axis] in figure.get(AXES[axis], [point[axis]])
        for axis in ("dataset", "model", "budget")
    )


def _models_with_exits(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the models with exits in a study's cells."""
    found = {name: entry for name, entry in study.get("models", {}).items() if "exits" in entry}
    used = {cell.model for cell in expand(study).values()} if found else set()
    return {name: entry for name, entry in found.items() if name in used}


def _encoder(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in NO_ENCODER}


def _check_cells(figure: Mapping[str, Any], cells: list[Cell], where: str) -> None:
    for axis in ("dataset", "model", "budget"):
        for name in figure.get(AXES[axis], ()):
            known = {getattr(cell, axis) for cell in cells}
            check_name(axis, name, known, f"{where}.{AXES[axis]}", INHERITED)
    shown = {cell.dataset for cell in cells if shows(figure, vars(cell))}
    for dataset in figure["datasets"]:
        if dataset not in shown:
            chosen = [f"{name}: {figure[name]}" for name in ("models", "budgets") if name in figure]
            raise StudyError(
                f"{where}: no cell of {dataset} has {' and '.join(chosen)}, so its panels would be empty; take it "
                "out of the figure's datasets"
            )


def _published(study: Mapping[str, Any], category: str, caption: str) -> dict[str, Shown]:
    published = study.get("published", {})
    label = f"scores beside {published.get('source')}"
    return {PUBLISHED: Shown(category, label, caption)} if published.get("scores") else {}
