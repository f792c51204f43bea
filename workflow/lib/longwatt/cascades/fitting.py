"""Fit the threshold of a cascade that is run for real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwatt.cascades.members import Answered, paired_samples, read_answered
from longwatt.cascades.thresholds import curve_of, fitted_place
from longwatt.metrics.resampling import Resampling
from longwatt.provenance.artefacts import read_artefact
from longwatt.provenance.stamps import write_json
from longwatt.study.cascades import answer_files, first_of


def fit_cascade(
    settings: Mapping[str, Any], paths: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write the threshold of the fewest escalations that surely keep the better cell's score.

    `keep_score` is the share of it that must be kept (`fitted_place`).

    Args:
        settings: as `longwatt.study.cascade_cells.cascade_of`, with the name of the `first` cell
            and the settings of `scoring`.
        paths: of both cells' answers, as `study.cascades.answer_files` names them, the first
            cell's by `longwatt.study.cascades.named_first`; `threshold` is written.
        provenance: its stamp.

    Raises:
        longwatt.cascades.members.CascadeError: no confidence was recorded, or the cells answered
            different examples.
    """
    first, last = _read(first_of(paths)), _read(paths)
    pair, sure = paired_samples(first, last), first.confidence(settings["confidence"])
    curve, how = curve_of(*pair, sure), Resampling.of(settings["scoring"])
    place = fitted_place(curve, pair, sure, settings["keep_score"], how)
    stamped = read_artefact(Path(paths["scores"]))["provenance"]["settings"]
    known = {name: settings[name] for name in ("first", "confidence", "keep_score", "calibrate_on")}
    facts = {
        **known,
        "threshold": float(curve.thresholds[place]),
        "split": stamped["split"],
        "examples": len(first.answers),
        "escalation_rate": float(curve.rates[place]),
        "score_name": first.score_name,
        "score": float(curve.scores[place]),
        "first_score": pair[0].value,
        "last_score": pair[1].value,
    }
    write_json(paths["threshold"], {**facts, "provenance": provenance})


def _read(paths: Mapping[str, Any]) -> Answered:
    return read_answered(**{kind: Path(paths[kind]) for kind in answer_files("")})
