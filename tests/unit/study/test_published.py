"""Published values and a study's own figures are of cells that there are."""

import copy

import pytest

from longwatt.config.errors import StudyError
from longwatt.study.checks import checked_stages
from longwatt.study.outputs import kept
from longwatt.study.reported import report_items
from longwatt.study.reported.published import (
    PublishedPlace,
    published_batch_sizes,
    published_tables,
    scores,
)
from tests.published_study import published_study


@pytest.fixture(scope="module")
def paper(root) -> dict:
    return published_study(root)


@pytest.fixture
def study(paper) -> dict:
    return copy.deepcopy(paper)


def test_the_published_values_are_those_of_the_paper(paper):
    found = scores(paper["published"])
    assert len(found) == 24
    assert found[PublishedPlace("qasper", "led_base", "gpu8x4", 4096)] == 36.36
    assert found[PublishedPlace("gov_report", "led_base", "gpu1x4", 2048)] == 51.28
    assert (
        set(published_tables(paper["published"]).values()) == {"Table 2"}
        and len(published_tables(paper["published"])) == 24
    )
    sizes = published_batch_sizes(paper["published"])
    assert len(sizes) == 64, "the batch of every cell is known"
    assert sizes[PublishedPlace("qmsum", "led_large", "gpu1", 3072)] == 3
    assert sizes[PublishedPlace("qasper", "bigbird_large", "gpu8x4", 1024)] == 224
    rows = {name: facts["rows"] for name, facts in paper["published"]["datasets"].items()}
    assert {name: sum(found.values()) for name, found in rows.items()} == {
        "gov_report": 19402,
        "summ_screen_fd": 4348,
        "qmsum": 1810,
        "qasper": 5692,
    }, "the examples that SCROLLS counts"


def test_lengths_are_in_the_order_of_numbers(study):
    study["published"]["scores"] = [
        {
            "dataset": "qasper",
            "model": "led_base",
            "budget": "gpu1",
            "scores": {"1024": 1, "512": 2, "2048": 3},
        }
    ]
    assert [place.seq_len for place in scores(study["published"])] == [512, 1024, 2048]


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        (
            "scores",
            {"dataset": "qaspar"},
            "published.scores[0]: unknown dataset 'qaspar' (did you mean 'qasper'?)",
        ),
        (
            "scores",
            {"model": "led_bse"},
            "published.scores[0]: unknown model 'led_bse' (did you mean 'led_base'?)",
        ),
        ("scores", {"budget": "gpu4"}, "published.scores[0]: unknown budget 'gpu4' (did you mean"),
        (
            "scores",
            {"scores": {"8192": 40.0}},
            "published.scores[0]: the study has no cell qasper/led_base/8192/gpu1 (there it has "
            "the lengths 1024, "
            "2048, 3072, 4096); add it to the grid (datasets, models, budgets, seq_lens), or "
            "remove its "
            "published value",
        ),
        (
            "scores",
            {"model": "led_large"},
            "the study has no cell qasper/led_large/1024/gpu1; add it",
        ),
        (
            "scores",
            {"budget": "gpu1x4"},
            "qasper/led_base/1024/gpu1x4 has a value already, by published.scores[0]",
        ),
        ("batch_sizes", {"datasets": ["qasper"]}, "published.batch_sizes[0]"),
        (
            "batch_sizes",
            {"datasets": ["qmsum"], "budget": "gpu8x4"},
            "no cell qmsum/led_base/1024/gpu8x4",
        ),
    ],
)
def test_a_published_value_of_what_is_not_there_is_refused(study, key, change, said):
    study["published"][key][0] |= change
    with pytest.raises(StudyError) as error:
        checked_stages("paper", study, {})
    assert said in str(error.value) and "studies/paper.yaml: published" in str(error.value)


def test_published_statistics_of_an_unknown_dataset_are_refused(study):
    study["published"]["datasets"]["gov_reports"] = {"words_in": 3}
    with pytest.raises(
        StudyError, match=r"published\.datasets: unknown dataset 'gov_reports' \(did you mean"
    ):
        checked_stages("paper", study, {})


def test_a_value_outside_the_grid_is_refused_but_not_that_of_an_excluded_cell(study):
    study["exclude"] = [
        {"dataset": "qasper", "seq_len": 4096, "budget": "gpu1", "reason": "too slow"}
    ]
    assert len(checked_stages("paper", study, {}).cells) == 63
    del study["exclude"]
    (block,) = (b for b in study["grid"] if b["datasets"] == ["qasper"] and "gpu1" in b["budgets"])
    block["seq_lens"] = [1024, 2048, 3072]
    with pytest.raises(
        StudyError, match=r"no cell qasper/led_base/4096/gpu1 \(there it has .* 2048, 3072\)"
    ):
        checked_stages("paper", study, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"costs": ["training_energi"]},
            "costs: unknown cost 'training_energi' (did you mean 'training_energy'?)",
        ),
        (
            {"costs": ["peak_memory_logg"]},
            "unknown cost 'peak_memory_logg' (did you mean 'peak_memory'?)",
        ),
        ({"datasets": ["qmsun"]}, "datasets: unknown dataset 'qmsun' (did you mean 'qmsum'?)"),
        ({"models": ["led_bas"]}, "models: unknown model 'led_bas' (did you mean 'led_base'?)"),
        ({"budgets": ["gpu2"]}, "budgets: unknown budget 'gpu2'"),
        (
            {"datasets": ["qmsum"], "budgets": ["gpu8x4"]},
            "no cell of qmsum has budgets: ['gpu8x4']",
        ),
        ({"name": "figure_2"}, "figures[1] (figure_2): there is a figure of this name already"),
        ({"name": "energy_by_phase"}, "(energy_by_phase): there is a figure of this name already"),
        ({"name": "published"}, "(published): there is a figure of this name already"),
    ],
)
def test_a_figure_of_what_is_not_there_is_refused(study, change, said):
    study["figures"][0] |= change
    with pytest.raises(StudyError) as error:
        checked_stages("paper", study, {})
    assert said in str(error.value) and "studies/paper.yaml: figures[" in str(error.value)


def test_the_papers_figures_come_first_and_in_its_order(paper):
    names = list(report_items.figures(paper))
    assert names[:6] == [f"figure_{number}" for number in range(1, 7)]
    assert names[6:] == [*report_items.GENERAL, "published"]
    made = checked_stages("paper", paper, {})
    assert {"results/paper/figures/figure_6.png", "results/paper/tables/published.csv"} <= set(
        kept(made)
    )


def test_a_study_without_published_scores_shows_none(paper):
    plain = {
        **paper,
        "published": {"source": "x", "protocol": "generated", "batch_sizes": []},
        "figures": [],
    }
    assert (
        list(report_items.figures(plain))
        == list(report_items.figures({}))
        == list(report_items.GENERAL)
    )
    assert list(report_items.tables(plain)) == list(report_items.TABLES)
