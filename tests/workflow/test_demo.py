"""The embedded study, whole: does the instrument read what it should?"""

import csv
from itertools import pairwise

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def needle(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The rows of the needle task by model, shortest input first."""
    study = (ROOT / "studies/demo.yaml").read_text()
    project = Project.create(tmp_path_factory.mktemp("demo") / "project", study)
    project.run()
    with (project.results / "summary.csv").open() as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: int(row["seq_len"]))
    return {
        model: [r for r in rows if (r["dataset"], r["model"]) == ("needle", model)]
        for model in ("led_tiny", "bigbird_tiny")
    }


@pytest.mark.parametrize("model", ["led_tiny", "bigbird_tiny"])
def test_needle_rises_with_input_length_and_reaches_its_ceiling(needle, model):
    rows = needle[model]
    bounds = [(float(row["score_ci_low"]), float(row["score_ci_high"])) for row in rows]
    assert all(high < low for (_, high), (low, _) in pairwise(bounds)), (
        "each length clearly above the one before"
    )
    assert float(rows[-1]["score"]) >= 0.8 * float(rows[-1]["score_ceiling"])


def test_bigbird_is_two_models(needle):
    regimes = [row["attention_regime"] for row in needle["bigbird_tiny"]]
    assert regimes == ["full attention", "block-sparse attention", "block-sparse attention"]
    assert {row["attention_regime"] for row in needle["led_tiny"]} == {"NA"}
