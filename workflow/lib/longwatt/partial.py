"""What a study has so far: a summary and figures of the finished cells, and every cell's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.claim_pages import write_claims
from longwatt.energy_figures import plot_power
from longwatt.figures import plot_all
from longwatt.progress import say
from longwatt.status import STATES, Stamps, cell_states, up_to_date
from longwatt.summary import summarize, write_csv
from longwatt.tables import write_tables


def write_partial(results: Path, settings: Mapping[str, Any], stamps: Stamps, provenance: Mapping[str, Any]) -> None:
    """Write results/{study}/partial: status.csv, and if anything is finished summary.csv and figures.

    Results that other settings or code made do not count (`stamps`: the digests in force, by artefact).
    Says on the terminal how many cells are in which state, and names the failed ones.
    """
    folder = results / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    states = cell_states(results, settings["rows"], stamps)
    write_csv(folder / "status.csv", states)
    counts = states["state"].value_counts()
    say(f"{len(states)} cells: " + ", ".join(f"{counts[s]} {s}" for s in STATES if s in counts))
    for row in states[states["state"] == "failed"].itertuples():
        say(f"failed: {row.cell}: {row.message} (see {row.log})")
    done = [row for row in settings["rows"] if up_to_date(results, row, stamps)]
    if not done:
        say("nothing is finished yet, so there is no summary")
        return
    summary = folder / "summary.csv"
    write_csv(summary, summarize(results, done, settings["prices"]))
    write_tables(summary, folder / "tables", settings, provenance)
    plot_all(summary, folder / "figures", settings, provenance)
    cells = {row["cell"] for row in done}
    headings = {cell: heading for cell, heading in settings["headings"].items() if cell in cells}
    plot_power(results, folder / "power", headings, settings["parts"], provenance)
    if settings["judge_claims"]["claims"]:
        write_claims(summary, folder / "claims.json", settings["judge_claims"], provenance)
    say(f"summary and figures of {len(done)} rows are in {folder}")
