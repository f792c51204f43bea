"""Write the summary and figures of a study's finished cells, and every cell's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longwatt.answer.page import write_answer
from longwatt.exits.comparison import compare_exits
from longwatt.freshness.outdated import Stamps
from longwatt.progress import say
from longwatt.report.claims_page import write_claims
from longwatt.report.figures import plot_all
from longwatt.report.power_page import write_power
from longwatt.report.tables import write_tables
from longwatt.results.status import STATES, cell_states, up_to_date_rows
from longwatt.results.summary import write_csv, write_summary
from longwatt.study.cells import FINETUNE


def write_partial(
    results: Path, settings: Mapping[str, Any], stamps: Stamps, provenance: Mapping[str, Any]
) -> None:
    """Write results/{study}/partial: status.csv, and all that the finished cells allow.

    These are summary.csv, tables, figures, power curves, comparisons of exits, judged claims and
    the answer.
    Results that other settings or code made do not count (`stamps`: the digests in force, by
    artefact). The terminal shows how many cells are in which state, and names the failed ones.
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
    finished: dict[str, list[str]] = {}
    for known in done:
        finished.setdefault(known["cell"], []).append(known["inference"])
    if "compare_exits" in settings:
        _compare_exits(results, finished, settings["compare_exits"], exits, provenance)
    how = {name: settings[name] for name in ("prices", "scoring", "requests")}
    write_summary(results, done, target=summary, provenance=provenance, exits=exits, **how)
    write_tables(summary, folder / "tables", settings, provenance)
    plot_all(summary, folder / "figures", settings, provenance)
    headings = {cell: heading for cell, heading in settings["headings"].items() if cell in finished}
    parts = {cell: [FINETUNE, *(f"predict/{p}" for p in own)] for cell, own in finished.items()}
    write_power(results, folder / "power", headings, parts, provenance)
    if settings["judge_claims"]["claims"]:
        write_claims(summary, folder / "claims.json", settings["judge_claims"], provenance, results)
    asked = {**settings["answer"], "title": f"{settings['answer']['title']} (finished cells only)"}
    write_answer(results, asked, folder / "answer.json", provenance, summary)
    say(f"summary and figures of {len(done)} rows are in {folder}")


def _compare_exits(
    results: Path,
    finished: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
    exits: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare models with exits to the baselines that are finished, at finished points.

    Args:
        results: results/{study}.
        finished: points by cell.
        settings: as `longwatt.study.stages.Stages.compare_exits`.
        exits: exits.json, the tables of curves and of difficulty beside it.
        provenance: its stamp.
    """
    cells = []
    for cell in settings["cells"]:
        if own := finished.get(cell["cell"]):
            points = {name: point for name, point in cell["points"].items() if name in own}
            cells.append({**cell, "points": points})
    curve, difficulty = exits.with_name("curve.csv"), exits.with_name("difficulty.csv")
    compare_exits(results, cells, settings, exits, curve, difficulty, provenance)
