"""The embedded study, whole: does the instrument read what it should?"""

import csv

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow


def test_needle_rises_with_input_length_and_reaches_its_ceiling(tmp_path):
    study = (ROOT / "studies/demo.yaml").read_text()
    project = Project.create(tmp_path / "project", study)
    project.run()
    with (project.results / "summary.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["dataset"] == "needle"]
    rows.sort(key=lambda row: int(row["seq_len"]))
    highs, lows = ([float(row[f"score_ci_{end}"]) for row in rows] for end in ("high", "low"))
    assert all(high < low for high, low in zip(highs, lows[1:], strict=False)), (
        "each length clearly above the one before"
    )
    assert float(rows[-1]["score"]) >= 0.8 * float(rows[-1]["score_ceiling"])
