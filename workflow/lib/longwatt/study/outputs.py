"""List the paths that a study makes and keeps, and the inputs of reports."""

from __future__ import annotations

from collections.abc import Iterable

from longwatt.study.claims import scored_rows
from longwatt.study.reported import report_items
from longwatt.study.reported.report_items import TABLE_KINDS
from longwatt.study.stages import Stages

CLAIM_KINDS = ("html", "md", "json")
FIGURE_KINDS = ("svg", "png")
TRAINED = ("model", "history.csv", "energy.jsonl.gz")
PREDICTED = ("predictions.jsonl", "examples.csv", "energy.jsonl.gz")
OF_EXITS = ("exits/logits.jsonl", "exits/energy.jsonl.gz", "calibrate/model")
REPORTED_OF_EXITS = ("exits/logits.jsonl", "exits/exits.json", "calibrate/calibration.json")
COMPARED = ("predictions.jsonl", "inference.json", "energy.json", "scores.json", "examples.csv")


def kept(stages: Stages) -> list[str]:
    """List every artefact that a finished study keeps, as `rule all` asks for.

    A file left by an earlier run would otherwise hide that the stage before it failed.
    """
    results = stages.results
    tables, figures = report_items.tables(stages.study), report_items.figures(stages.study)
    return [
        *kept_of_cells(stages),
        f"{results}/summary.csv",
        f"{results}/summary.json",
        *(f"{results}/tables/{name}.{kind}" for name in tables for kind in TABLE_KINDS),
        *(f"{results}/figures/{name}.{kind}" for name in figures for kind in FIGURE_KINDS),
        power_page(stages),
        *claim_files(stages),
        answer_page(stages),
        stages.answer().artefact,
        *exits_files(stages),
        *(stage.artefact for stage in (stages.tabulate(), stages.plot(), stages.plot_power())),
    ]


def kept_of_cells(stages: Stages) -> list[str]:
    """List every artefact of every cell that a finished study keeps."""
    results, cells = stages.results, stages.cells
    return [
        *(stage.artefact for stage in stages.cell_stages()),
        *(f"{folder}/{file}" for folder in _point_folders(stages, cells) for file in PREDICTED),
        *(f"{results}/{name}/{part}/power.csv" for name in cells for part in stages.parts(name)),
        *(f"{results}/{name}/{file}" for name in stages.with_exits for file in OF_EXITS),
        *(f"{results}/{name}/finetune/{file}" for name in cells for file in TRAINED),
    ]


def _point_folders(stages: Stages, cells: Iterable[str]) -> list[str]:
    found = ((name, point) for name in cells for point in stages.points(name))
    return [f"{stages.results}/{name}/predict/{point}" for name, point in found]


def summary_inputs(stages: Stages) -> list[str]:
    """List what the summary is made from.

    It is every cell's JSON artefacts, every example's scores, and how exits compare.
    """
    compared = [stages.compare_exits().artefact] if stages.with_exits else []
    read = (".json", "/examples.csv")
    return [*(path for path in kept_of_cells(stages) if path.endswith(read)), *compared]


def dataset_fact_files(stages: Stages) -> list[str]:
    """List the files with the statistics of every dataset and tokenizer in use."""
    facts = stages.tabulate().settings["datasets"]
    return sorted({found[kind] for found in facts for kind in ("records", "tokens")})


def energy_files(stages: Stages) -> list[str]:
    """List the energy of every metered part of every cell: its numbers and its curve."""
    parts = ((name, part) for name in stages.cells for part in stages.parts(name))
    folders = (f"{stages.results}/{name}/{part}" for name, part in parts)
    return [f"{folder}/{file}" for folder in folders for file in ("energy.json", "power.csv")]


def power_page(stages: Stages) -> str:
    """Return the page of every cell's power over time.

    It is one output, not one for each cell: Snakemake records all inputs of a job with each of its
    outputs, and thousands of both would take it hours and gigabytes.
    """
    return f"{stages.results}/power/power.html"


def claim_files(stages: Stages) -> list[str]:
    """List the files made from the study's claims, empty if it has none."""
    return [f"{stages.results}/claims.{kind}" for kind in CLAIM_KINDS] if stages.claims else []


def claim_examples(stages: Stages) -> list[str]:
    """List the files with every example's scores that claims are judged by."""
    rows = scored_rows(stages.claims, stages.judge_claims().settings["cells"])
    return [f"{stages.results}/{cell}/predict/{point}/examples.csv" for cell, point in rows]


def answer_page(stages: Stages) -> str:
    """Return the page that says which cell to take."""
    return f"{stages.results}/answer.html"


def answer_inputs(stages: Stages) -> list[str]:
    """List what an answer is made from beside the summary: examples' scores, judged claims."""
    examples = [path for path in kept_of_cells(stages) if path.endswith("/examples.csv")]
    judged = [path for path in claim_files(stages) if path.endswith(".json")]
    return [*examples, *judged]


def exits_files(stages: Stages) -> list[str]:
    """List the files made from a study's models with exits, empty if it has none."""
    if not stages.with_exits:
        return []
    folder, figures = f"{stages.results}/exits", report_items.exit_figures(stages.study)
    tables = ("exits.json", "curve.csv", "difficulty.csv", "exits_figures.json")
    return [
        *(f"{folder}/{name}" for name in tables),
        *(f"{folder}/figures/{name}.{kind}" for name in figures for kind in FIGURE_KINDS),
    ]


def compare_exits_inputs(stages: Stages) -> list[str]:
    """List every artefact that the comparison of models with exits reads."""
    cells = [cell["cell"] for cell in stages.compare_exits().settings["cells"]]
    exits = (f"{stages.results}/{name}" for name in stages.with_exits)
    return [
        *(f"{folder}/{file}" for folder in _point_folders(stages, cells) for file in COMPARED),
        *(stages.finetune(name).artefact for name in cells),
        *(f"{folder}/{file}" for folder in exits for file in REPORTED_OF_EXITS),
    ]


def calibrations(stages: Stages) -> list[str]:
    """List the calibration report of each cell with several exits."""
    return [stages.judge_calibration(name).artefact for name in stages.with_exits]
