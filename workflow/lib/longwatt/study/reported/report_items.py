"""A study's figures and tables by name, each with its place in the report.

`longwatt.report.figures` and `longwatt.report.tables` make them. Both load heavy libraries, so
parse time must not import them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from longwatt.config.documents import check_name
from longwatt.config.errors import StudyError
from longwatt.study.cells import AXES, Cell, expand


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


ENERGY_CATEGORY = "Accuracy against energy"
SPEED_CATEGORY = "Accuracy against speed and time"
HARDWARE_CATEGORY = "Accuracy against hardware use"
OF_THE_STUDY = "Figures of the study"
# Cost -> its category and name in the report. Each has a general figure, and can be asked for in a
# study's own figures.
COST_FIGURES = {
    "power_efficiency": (ENERGY_CATEGORY, "power efficiency"),
    "training_energy": (ENERGY_CATEGORY, "training energy"),
    "lifecycle_energy": (ENERGY_CATEGORY, "energy of training and requests"),
    "training_speed": (SPEED_CATEGORY, "training speed"),
    "inference_speed": (SPEED_CATEGORY, "inference speed"),
    "training_time": (SPEED_CATEGORY, "training time"),
    "gpu_utilization": (HARDWARE_CATEGORY, "GPU utilisation"),
    "gpu_memory": (HARDWARE_CATEGORY, "mean GPU memory"),
    "peak_memory": (HARDWARE_CATEGORY, "peak memory"),
}
# A study that extends another has its figures too, but the names of its own grid.
INHERITED_ADVICE = (
    " in the grid. Take cells away by `exclude`, which keeps figures as they are, or leave all "
    "out (`figures:`)"
)
SCALES = ("linear", "log")  # a cost's axis in a study's own figure, as in training_time_log
GENERAL = {
    f"accuracy_vs_{cost}": Shown(*place, f"accuracy_vs_{cost}")
    for cost, place in COST_FIGURES.items()
} | {"energy_by_phase": Shown(ENERGY_CATEGORY, "training energy by phase", "energy_by_phase")}
TABLES = {
    "summary": "all cells",
    "scores": "scores by length",
    "energy": "energy",
    "datasets": "datasets",
    "settings": "settings in force",
    "batch_sizes": "batch sizes",
}
PUBLISHED_ITEM = "published"  # the figure and the table of ours beside theirs
EXITS_TABLE = "exits"  # the table of models with exits
EARLY_EXIT_CATEGORY = "Early exit"
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
# Keys of a model's entry that do not tell its encoder.
NO_ENCODER = ("title", "exits", "training", "generation", "inference")
TABLE_KINDS = ("html", "md", "csv")


def figures(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's own figures, the general ones, and published scores if it has some."""
    own = {
        figure["name"]: Shown(OF_THE_STUDY, figure.get("title", figure["name"]), "study_figure")
        for figure in study.get("figures", ())
    }
    return {**own, **GENERAL, **_published(study, OF_THE_STUDY, "published_figure")}


def tables(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's tables, with that of published scores if it has some."""
    found = {name: Shown("Tables", label, name) for name, label in TABLES.items()}
    if _models_with_exits(study):
        found[EXITS_TABLE] = Shown("Tables", "early exit", "exits_table")
    return {**found, **_published(study, "Tables", "published_table")}


def exit_figures(study: Mapping[str, Any]) -> dict[str, Shown]:
    """Return a study's figures of early exit, for models of two exits or more."""
    models = _models_with_exits(study).values()
    if all(len(entry["exits"]["layers"]) < 2 for entry in models):
        return {}
    encoders = {
        repr(sorted((key, value) for key, value in entry.items() if key not in NO_ENCODER))
        for entry in models
    }
    names = [name for name in EXIT_FIGURES if name != DISTILLED or len(encoders) > 1]
    return {name: Shown(EARLY_EXIT_CATEGORY, EXIT_FIGURES[name], name) for name in names}


def split_cost(name: str) -> tuple[str, str | None]:
    """Split a figure's cost into the cost and its scale, None for automatic."""
    for scale in SCALES:
        if name.endswith(f"_{scale}"):
            return name.removesuffix(f"_{scale}"), scale
    return name, None


def check_items(study: Mapping[str, Any], cells: Iterable[Cell], source: str) -> None:
    """Refuse figures of anything that the study does not have.

    Raises:
        StudyError: names the figure and the cost, dataset, model or budget that is not there, or a
            name taken twice.
    """
    there, taken = list(cells), {*GENERAL, PUBLISHED_ITEM}
    for number, figure in enumerate(study.get("figures", ())):
        where = f"{source}: figures[{number}] ({figure['name']})"
        if figure["name"] in taken:
            raise StudyError(f"{where}: there is a figure of this name already; choose another")
        taken.add(figure["name"])
        for cost in figure["costs"]:
            check_name("cost", split_cost(cost)[0], COST_FIGURES, f"{where}.costs")
        _check_cells(figure, there, where)


def shows(figure: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Check whether a study's own figure shows a point's dataset, model and budget."""
    axes = ("dataset", "model", "budget")
    return all(point[axis] in figure.get(AXES[axis], [point[axis]]) for axis in axes)


def _models_with_exits(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the models with exits in a study's cells."""
    found = {name: entry for name, entry in study.get("models", {}).items() if "exits" in entry}
    used = {cell.model for cell in expand(study).values()} if found else set()
    return {name: entry for name, entry in found.items() if name in used}


def _check_cells(figure: Mapping[str, Any], cells: list[Cell], where: str) -> None:
    for axis in ("dataset", "model", "budget"):
        for name in figure.get(AXES[axis], ()):
            known = {getattr(cell, axis) for cell in cells}
            check_name(axis, name, known, f"{where}.{AXES[axis]}", INHERITED_ADVICE)
    shown = {cell.dataset for cell in cells if shows(figure, vars(cell))}
    for dataset in figure["datasets"]:
        if dataset not in shown:
            chosen = [f"{name}: {figure[name]}" for name in ("models", "budgets") if name in figure]
            raise StudyError(
                f"{where}: no cell of {dataset} has {' and '.join(chosen)}, so its panels would be "
                "empty; take it out of the figure's datasets"
            )


def _published(study: Mapping[str, Any], category: str, caption: str) -> dict[str, Shown]:
    published = study.get("published", {})
    label = f"scores beside {published.get('source')}"
    return {PUBLISHED_ITEM: Shown(category, label, caption)} if published.get("scores") else {}
