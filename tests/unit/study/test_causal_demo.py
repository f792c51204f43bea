"""The study of `make causal-demo` is one that can run: its cells, what they share, its claims."""

from collections import Counter

import pytest

from longwatt.config.studies import read_study
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def stages():
    schema = ROOT / "workflow/schemas/study.schema.json"
    study = read_study(ROOT / "studies/causal_demo.yaml", schema)
    return checked_stages("causal_demo", study, {})


def test_adapters_at_three_lengths_and_all_weights_at_the_shortest(stages):
    lengths = {}
    for cell in stages.cells.values():
        lengths.setdefault(cell.model, []).append(cell.seq_len)
    lora, full = sorted(lengths["smol_lora"]), lengths["smol_full"]
    assert len(lora) == 3 and full == lora[:1]


def test_the_models_share_one_download_and_every_lora_cell_is_also_measured_untrained(stages):
    assert len(stages.models) == len(stages.tokenizers) == 1
    points = Counter(
        (stages.cell(name).model, point) for name in stages.cells for point in stages.points(name)
    )
    assert points == {("smol_lora", "greedy"): 3, ("smol_lora", "zero_shot"): 3,
                      ("smol_full", "greedy"): 1}  # fmt: skip


def test_what_is_scored_is_not_what_is_trained_on(stages):
    for name in stages.cells:
        for point in stages.points(name):
            assert stages.predict(name, point).settings["inference"]["split"] == "test"
