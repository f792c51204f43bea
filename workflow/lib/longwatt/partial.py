"""Write the summary and figures of a study's finished cells, and every cell's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.cells import FINETUNE
from longwatt.claim_pages import write_claims
from longwatt.exit_comparison import compare
from longwatt.figures import plot_all
from longwatt.outdated import Stamps
from longwatt.power_page import write_power
from longwatt.progress import say
from longwatt.status import STATES, cell_states, up_to_date_rows
from longwatt.summary import write_csv, write_summary
from longwatt.tables import write_tables


def write_partial(
    results: Path, settings: Mapping[str, Any], stamps: Stamps, provenance: Mapping[str, Any]
) -> None:
    """Write results/{study}/partial: status.csv, and a summary of finished cells with its displays.

    Figures, tables, power curves, comparisons of exits and judged claims go with the summary.
    Results of other settings or code do not count (`stamps`: the digests in force, by artefact).
    The terminal shows how many cells are in which state, and names the failed ones.

    Results that other settings or code made do not count (`stamps`: the digests in force, by
    artefact). Says on the terminal how many cells are in which state, and names the failed ones.
    """
    folder = results / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    states = cell_states(results, settings["rows"], stamps)
    write_csv(folder / "status.csv", states)
    counts = states["state"].value_counts()
    say(f"{len(states)} cells: " + ", ".join(f"{counts[s]} {s}" for s in STATES if s in counts))
    for row in states[states["state"] == "failed"].itertuples():
        say(f"failed: {row.cell}: {row.message} (see {row.log})")
    done = up_to_date_rows(results, settings["rows"], stamps)
    if not done:
        say("nothing is finished yet, so there is no summary")
        return
    summary, exits = folder / "summary.csv", folder / "exits" / "exits.json"
    finished = _points(done)
    if "compare_exits" in settings:
        _compare_exits(results, finished, settings["compare_exits"], exits, provenance)
    write_summary(results, done, settings["prices"], summary, provenance, exits)
    write_tables(summary, folder / "tables", settings, provenance)
    plot_all(summary, folder / "figures", settings, provenance)
    headings = {cell: heading for cell, heading in settings["headings"].items() if cell in finished}
    parts = {
        cell: [FINETUNE, *(f"predict/{point}" for point in points)]
        for cell, points in finished.items()
    }
    write_power(results, folder / "power", headings, parts, provenance)
    if settings["judge_claims"]["claims"]:
        write_claims(summary, folder / "claims.json", settings["judge_claims"], provenance, results)
    say(f"summary and figures of {len(done)} rows are in {folder}")


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The inference points of every cell that some rows speak of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["cell"], []).append(row["inference"])
    return found


def _compare_exits(
    results: Path,
    finished: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
    exits: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare models with exits to the baselines that are finished.

    Args:
        results: results/{study}.
        finished: points by cell.
        settings: as `longwatt.stages.Stages.compare_exits`.
        exits: exits.json, the tables of curves and of difficulty beside it.
        provenance: its stamp.
    """
    cells = [
        {
            **cell,
            "points": {
                name: point
                for name, point in cell["points"].items()
                if name in finished[cell["cell"]]
            },
        }
        for cell in settings["cells"]
        if cell["cell"] in finished
    ]
    curve, difficulty = exits.with_name("curve.csv"), exits.with_name("difficulty.csv")
    compare(results, cells, settings, exits, curve, difficulty, provenance)
