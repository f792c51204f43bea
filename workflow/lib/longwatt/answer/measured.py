"""Read the points of a study from its summary and every example's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from longwatt.answer.points import AnswerPoint
from longwatt.energy.flags import union
from longwatt.energy.reduction.reduce import ESTIMATE
from longwatt.jobs.endings import diverged
from longwatt.layout.wording import is_known
from longwatt.metrics.resampling import Resampling
from longwatt.metrics.score_intervals import mean_of_scores
from longwatt.results.contenders import StudyPoint, model_of, study_points
from longwatt.results.life_cycle import energy_words, known
from longwatt.results.series import mean_interval, records
from longwatt.results.summary import read_summary


def read_points(
    results: Path, how: Resampling, summary: Path | None = None, seeds: tuple[int, ...] = ()
) -> list[AnswerPoint]:
    """Read every point of a study with a score that no search beat.

    Args:
        results: results/{study}.
        how: to resample examples.
        summary: its table; None for summary.csv in it.
        seeds: only these trainings; all where empty.
    """
    rows = records(read_summary(summary or results / "summary.csv"))
    kept = [row for row in rows if not seeds or row["seed"] in seeds]
    return [_point(point) for point in study_points(kept, results, how)]


def _point(point: StudyPoint) -> AnswerPoint:
    rows = [dict(row) for row in point.rows]
    first, said = rows[0], [energy_words(row) for row in rows]
    sources = {source for source, _ in said}
    low, high = _interval(point, rows)
    return AnswerPoint(
        id=point.name,
        dataset=str(first["dataset"]),
        model=model_of(first),
        seq_len=int(first["seq_len"]),
        budget=str(first["budget"]),
        protocol=str(first["protocol"]),
        inference=str(first["inference"]),
        seeds=tuple(int(row["seed"]) for row in rows),
        cells=tuple(str(row["cell"]) for row in rows),
        score=sum(float(row["score"]) for row in rows) / len(rows),
        low=low,
        high=high,
        score_name=str(first["score_name"]),
        split=point.split,
        parts=point.parts,
        scores=point.scores,
        examples=_whole(first.get("examples")),
        random_weights=any(row.get("initialisation") == "random" for row in rows),
        diverged=any(map(diverged, rows)),
        energy_source=None if None in sources else max(sources, key=lambda one: one == ESTIMATE),
        energy_flags=union(flags for _, flags in said),
        energy_bases=_bases(rows),
        device=_text(first.get("inference_device")) or _text(first.get("device")),
        exit_rule=_text(first.get("exit_rule")),
        lead=known(first, "score_lead") if known(first, "score_lead") is not None
        else _majority(first),
        ceiling=known(first, "score_ceiling"),
    )  # fmt: skip


def _bases(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Name what the estimates of a point's trainings and inferences rest on, once each."""
    columns = ("train_energy_basis", "inference_energy_basis")
    named = (_text(row.get(column)) for row in rows for column in columns)
    return tuple(dict.fromkeys(basis for basis in named if basis))


def _interval(point: StudyPoint, rows: list[dict[str, Any]]) -> tuple[float | None, float | None]:
    if point.scores is not None:
        return mean_of_scores(point.scores).ends
    low, high = mean_interval(pd.DataFrame(rows))
    return (low, high) if is_known(low) and is_known(high) else (None, None)


def _majority(row: dict[str, Any]) -> float | None:
    return known(row, "majority") if row.get("score_name") == "accuracy" else None


def _text(value: Any) -> str | None:
    return str(value) if is_known(value) else None


def _whole(value: Any) -> int | None:
    return int(value) if is_known(value) else None
