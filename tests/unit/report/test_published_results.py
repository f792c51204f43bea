"""Tables and figures of the whole published grid, from a made-up summary of its 64 cells."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from longwatt.layout.drawing import NO_CELLS
from longwatt.layout.table_files import caption_of, write
from longwatt.report.batch_sizes_table import batch_sizes_table
from longwatt.report.figures import accuracy_against, drawings, named_cost, own_figure
from longwatt.report.published_figure import beside_published_scores
from longwatt.report.published_table import published_scores
from longwatt.report.settings_table import settings_in_force
from longwatt.report.tables import write_tables
from longwatt.study.checks import checked_stages
from longwatt.study.reported.published import PublishedPlace, scores
from longwatt.study.settings_in_force import groups, in_force
from longwatt.study.stages import Stages
from tests.published_study import made_up, published_study
from tests.spacing import single_spaced
from tests.unit.report.test_figures import words

PANELS = {"figure_1": 3, "figure_2": 3, "figure_3": 3, "figure_4": 3, "figure_5": 4, "figure_6": 4}
SIZES = [22, 11, 7, 5]


@pytest.fixture(scope="module")
def stages(root) -> Stages:
    return checked_stages("paper", published_study(root), {})


@pytest.fixture(scope="module")
def summary(stages) -> pd.DataFrame:
    return made_up(stages)


@pytest.fixture(scope="module")
def shown(stages) -> dict:
    """What figures and tables are told."""
    return {**stages.plot().settings, **stages.tabulate().settings}


def flat(table: pd.DataFrame) -> list[dict]:
    names = [" ".join(filter(None, column)) for column in table.columns]
    return table.set_axis(names, axis="columns").to_dict("records")


def at(summary: pd.DataFrame, place: PublishedPlace) -> pd.Series:
    """The row of a place: there is one protocol, seed and inference point."""
    rows = summary[
        [
            PublishedPlace(*r) == place
            for r in summary[list(PublishedPlace._fields)].itertuples(index=False)
        ]
    ]
    assert len(rows) == 1
    return rows.iloc[0]


def test_table_2_has_its_layout_and_every_difference(summary, shown):
    rows = flat(published_scores(summary, shown["published"], shown["titles"]))
    assert [(r["dataset"], r["length (tokens)"]) for r in rows] == [
        (name, str(n)) for name in ("Qasper", "GovReport") for n in (1024, 2048, 3072, 4096)
    ]
    ours = at(summary, PublishedPlace("gov_report", "led_base", "gpu8x4", 3072))
    row = next(r for r in rows if (r["dataset"], r["length (tokens)"]) == ("GovReport", "3072"))
    assert (row["8 GPUs, 4 steps batch"], row["8 GPUs, 4 steps published"]) == ("224", "50.60")
    low, high = ours["score_ci_low"] - 50.6, ours["score_ci_high"] - 50.6
    said = f"{ours['score'] - 50.6:+.2f} ({low:+.2f} to {high:+.2f}), other protocol"
    assert row["8 GPUs, 4 steps difference"] == said
    assert row["8 GPUs, 4 steps in our interval"] == ("yes" if low <= 0 <= high else "no")
    said = caption_of(published_scores(summary, shown["published"], shown["titles"]))
    assert (
        said == "table: Table 2; model: LED-base; protocol: generated (published: teacher_forced)"
    )
    assert not {"table", "model", "protocol", "inference"} & row.keys(), (
        "what is said above needs no column"
    )
    assert {r["1 GPU in our interval"] for r in rows} == {"yes", "no"}, (
        "the made-up scores hold some and miss some"
    )


def test_the_same_protocol_needs_no_word(stages, shown):
    table = published_scores(
        made_up(stages, protocol="teacher_forced"), shown["published"], shown["titles"]
    )
    assert all("protocol" not in text for row in flat(table) for text in row.values())
    assert caption_of(table).endswith("protocol: teacher_forced")


def test_random_weights_are_named_beside_published_scores(stages, shown):
    summary = made_up(stages, initialisation="random")
    said = caption_of(published_scores(summary, shown["published"], shown["titles"]))
    assert "model: LED-base, from random weights;" in said
    assert "LED-base, 1 GPU, from random weights" in words(
        beside_published_scores(summary, shown["published"], shown["titles"])
    )


def test_what_is_not_finished_is_not_known(summary, shown, tmp_path):
    some = summary[summary["dataset"] == "gov_report"]
    rows = flat(published_scores(some, shown["published"], shown["titles"]))
    missing = next(r for r in rows if r["dataset"] == "Qasper")
    names = ("ours", "difference", "in our interval", "batch")
    assert [missing[f"1 GPU {name}"] for name in names] == ["NA", "NA", "NA", "NA (published: 24)"]
    assert missing["metric"] == "NA"
    figure = beside_published_scores(some, shown["published"], shown["titles"])
    said = words(figure).split("\n")
    assert "\n".join(said).count(NO_CELLS) == 1 and "Score" in said and "nan" not in said
    some.to_csv(tmp_path / "summary.csv", index=False, na_rep="NA")
    write_tables(tmp_path / "summary.csv", tmp_path, shown, {})
    assert "| NA (published: 24) | 17.68 | NA | NA | NA |" in single_spaced(
        (tmp_path / "published.md").read_text()
    )


def test_several_seeds_are_one_row_with_their_own_interval(summary, shown):
    seeds = [summary.assign(seed=n, score=summary["score"] + n - 2) for n in (1, 2, 3)]
    row = flat(published_scores(pd.concat(seeds), shown["published"], shown["titles"]))[0]
    mean = at(summary, PublishedPlace("qasper", "led_base", "gpu1", 1024))["score"]
    half = 4.303 / 3**0.5
    assert row["1 GPU ours"] == f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"


def test_table_5_shows_how_a_step_is_made_up(summary, shown):
    rows = flat(batch_sizes_table(summary, shown))
    row = next(r for r in rows if r["model"] == "LED-base" and r["budget"] == "8 GPUs, 4 steps")
    assert row["datasets"] == "Qasper, GovReport"
    for length, size in zip((1024, 2048, 3072, 4096), SIZES, strict=True):
        assert row[f"{length} tokens trained"] == f"{32 * size} = {size} x 4 x 8"
        assert row[f"{length} tokens published"] == str(32 * size)
    assert {r["differs at"] for r in rows} == {"none"}
    one = next(r for r in rows if r["model"] == "LED-large" and r["budget"] == "1 GPU")
    assert one["datasets"] == "GovReport, SummScreenFD, QMSum" and one["3072 tokens trained"] == "3"


def test_batches_that_differ_or_are_not_known_yet_are_seen(summary, shown):
    other = summary.assign(
        effective_batch_size=summary["effective_batch_size"].where(summary["seq_len"] != 2048, 9)
    )
    rows = flat(batch_sizes_table(other[other["dataset"] != "qmsum"], shown))
    assert all(r["differs at"] == "2048" for r in rows if r["2048 tokens trained"] != "NA")
    missing = [r for r in rows if "QMSum" in r["datasets"]]
    assert len(missing) == 3 and all(r["1024 tokens trained"] == "NA" for r in missing)
    assert {r["1024 tokens published"] for r in missing} == {"24", "8", "7"}
    assert {r["differs at"] for r in missing} == {"NA"}


def test_the_product_is_of_what_was_trained_with(summary, shown):
    """A budget may give a step's examples, and the largest batch that fits how it is made."""
    large = summary["budget"] == "gpu8x4"
    for per_device, accumulation, text in (
        (11, 8, "704 = 11 x 8 x 8"),
        (30, 3, "704 < 30 x 3 x 8"),
    ):
        found = {"per_device_batch_size": per_device, "gradient_accumulation_steps": accumulation}
        changed = summary.assign(
            **{name: summary[name].mask(large, value) for name, value in found.items()}
        )
        rows = flat(batch_sizes_table(changed, shown))
        texts = {r["1024 tokens trained"] for r in rows if r["model"] == "LED-base"}
        assert texts == {"24", "96 = 24 x 4 x 1", text}


def test_batches_of_tokens_tell_the_mean_examples_of_a_step(summary, shown):
    one = summary[summary["model"] == "led_base"]
    tokens = {"max_tokens_per_batch": 16384.0, "per_device_batch_size": None}
    sizes = one["effective_batch_size"] + 0.26
    rows = flat(batch_sizes_table(one.assign(**tokens, effective_batch_size=sizes), shown))
    texts = {r["1024 tokens trained"] for r in rows if r["model"] == "LED-base"}
    large = "704.3 (up to 16384 tokens x 4 x 8)"
    assert {"24.3 (up to 16384 tokens)", large} < texts
    assert "1024" in next(r for r in rows if r["1024 tokens trained"] == large)["differs at"]


def test_seeds_with_other_micro_batches_are_told_apart(summary, shown):
    one = summary[summary["model"] == "led_base"]
    other = one.assign(seed=7,
                       per_device_batch_size=one["per_device_batch_size"].mask(
                           one["budget"] == "gpu8x4", 11),
                       gradient_accumulation_steps=8)  # fmt: skip
    rows = flat(batch_sizes_table(pd.concat([one, other]), shown))
    assert "704 = 11 x 8 x 8 / 704 = 22 x 4 x 8" in {r["1024 tokens trained"] for r in rows}


def test_a_stroke_in_a_text_ends_no_column(tmp_path):
    write(tmp_path, "t", pd.DataFrame([{"model": "a|b", "n": "1"}]))
    assert (
        single_spaced((tmp_path / "t.md").read_text()) == "| model | n |\n|:-|-:|\n| a\\|b | 1 |\n"
    )


def test_without_published_batches_there_are_only_ours(summary, shown):
    rows = flat(batch_sizes_table(summary, {**shown, "published": {}}))
    assert all("published" not in name and name != "differs at" for row in rows for name in row)


def groups_of(stages: Stages) -> list[dict]:
    """Groups of cells, as if all had been made with what the study says."""

    def of_cell(name: str) -> dict:
        points = stages.points(name)
        predicted = {point: stages.predict(name, point).settings for point in points}
        scored = {point: stages.score(name, point).settings for point in points}
        return in_force(stages.finetune(name).settings, predicted, scored)

    return groups(stages.cells, of_cell)


def test_table_4_has_a_column_for_each_group_of_cells(stages, shown):
    table = settings_in_force(groups_of(stages), shown["titles"]).set_index("setting")
    assert list(table.columns) == ["GovReport; SummScreenFD; QMSum", "Qasper"]
    assert table.loc["training.validation.every_steps"].tolist() == ["500", "10"]
    assert table.loc["training.learning_rate"].tolist() == ["2e-05", "2e-05"], (
        "what they share is there too"
    )
    assert table.loc["metric"].tolist() == ["rouge", "f1"]
    assert table.loc["budgets"].tolist()[0] == "1 GPU; 1 GPU, 4 steps; 8 GPUs, 4 steps"
    assert table.loc["seeds"].tolist() == ["42", "42"]


def test_settings_that_a_protocol_does_not_use_are_not_in_force(root):
    study = published_study(root)
    study["grid"].append({**study["grid"][1], "protocols": ["teacher_forced"]})
    table = settings_in_force(groups_of(checked_stages("paper", study, {})), {}).set_index(
        "setting"
    )
    forced = table.columns[2]
    assert "teacher_forced" in forced and table.loc["generation.num_beams"].tolist() == [
        "1",
        "1",
        "not used",
    ]
    assert table.loc["training.learning_rate", forced] == "2e-05"


def test_cells_that_only_settings_tell_apart_are_numbered():
    found = [
        {"cells": {axis: ["x"] for axis in AXES}, "settings": {"a": value}} for value in (None, 0.5)
    ]
    table = settings_in_force(found, {})
    assert list(table.columns) == ["setting", "group 1", "group 2"]
    assert table.iloc[-1].tolist() == ["a", "none", "0.5"]


AXES = ("dataset", "model", "seq_len", "budget", "protocol", "seed")


def test_every_table_is_written_whole_in_every_format(summary, shown, tmp_path):
    summary.to_csv(tmp_path / "summary.csv", index=False, na_rep="NA")
    write_tables(tmp_path / "summary.csv", tmp_path / "tables", shown, {})
    text = single_spaced((tmp_path / "tables/published.md").read_text())
    assert "| 8 GPUs, 4 steps: difference |" in text and len(text.splitlines()) == 12
    assert text.startswith("table: Table 2; ")
    again = pd.read_csv(tmp_path / "tables/published.csv", dtype=str)
    assert again["1 GPU: published"].tolist()[:2] == ["17.68", "22.74"]
    page = (tmp_path / "tables/published.html").read_text()
    assert 'colspan="5"' in page and page.count("<tr>") == 10 and "<p>table: Table 2; " in page


@pytest.fixture(scope="module")
def drawn(summary, shown) -> dict:
    """The paper's six figures and the general one of energy, drawn once."""
    names = (*PANELS, "accuracy_vs_training_energy")
    return {name: draw() for name, draw in drawings(summary, shown).items() if name in names}


@pytest.mark.parametrize("name", PANELS)
def test_a_figure_of_the_paper_has_its_panels_and_lines(drawn, name):
    figure = drawn[name]
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert len(axes) == PANELS[name]
    for axis in axes:
        lines = [
            line
            for line in axis.lines
            if line.get_linestyle() == "-" and len(line.get_xdata()) == 4
        ]
        assert len(lines) == 3, "one of four lengths for each model"
        assert axis.get_ylim()[0] > 0, "as close as the scores are"
    legend = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    published = "published, arXiv 2204.07288 (teacher-forced; another protocol than ours)"
    assert legend == ["LED-base", "LED-large", "BigBird-large", published]


def test_the_papers_axes(drawn):
    shown = {
        name: [axis.get_xlabel().replace("\n", " ") for axis in drawn[name].axes] for name in PANELS
    }
    labels = {name: [label.partition(" (")[0] for label in found] for name, found in shown.items()}
    assert labels["figure_1"] == ["Training power efficiency"] * 3
    assert labels["figure_2"] == ["Training energy"] * 3
    assert {axis.get_xlabel() for axis in drawn["figure_2"].axes if axis.get_visible()} == {
        "Training energy (kWh)"
    }
    assert [axis.get_title() for axis in drawn["figure_2"].axes] == [
        "GovReport",
        "SummScreenFD",
        "QMSum",
    ]
    assert labels["figure_4"] == ["Inference speed"] * 3
    assert labels["figure_5"] == [
        "Training power efficiency",
        "Training energy",
        "Training speed, validations included",
        "Inference speed",
    ]
    assert [axis.get_ylabel() for axis in drawn["figure_5"].axes] == ["F1"] * 4
    assert [axis.get_xscale() for axis in drawn["figure_6"].axes[2:]] == ["linear", "log"]
    titles = [drawn[f"figure_{n}"].get_suptitle() for n in range(1, 7)]
    assert [title.partition(".")[0] for title in titles] == [f"Figure {n}" for n in range(1, 7)]
    assert titles[4].endswith("Qasper") and titles[5].endswith("GovReport")


def hollow(axis) -> list[tuple[float, float]]:
    return [
        (x, y)
        for line in axis.lines
        if line.get_markerfacecolor() == "white"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_published_scores_stand_at_the_cells_own_costs(drawn, summary, shown):
    known = {
        p: s
        for p, s in scores(shown["published"]).items()
        if p.dataset == "qasper" and p.budget == "gpu8x4"
    }
    expected = sorted(
        (at(summary, place)["train_energy_kwh"], score) for place, score in known.items()
    )
    assert sorted(hollow(drawn["figure_5"].axes[1])) == expected and len(expected) == 4
    by_dataset = [len(hollow(axis)) for axis in drawn["accuracy_vs_training_energy"].axes]
    assert by_dataset == [12, 0, 0, 12], (
        "in the general figures too: three budgets of GovReport and of Qasper"
    )
    assert hollow(drawn["figure_2"].axes[1]) == [], "none is known of SummScreenFD"


def test_lengths_do_not_lie_on_each_other(drawn):
    for name in PANELS:
        figure = drawn[name]
        figure.canvas.draw()
        for axis in figure.axes:
            boxes = [text.get_window_extent() for text in axis.texts]
            assert len(boxes) == 12
            overlaps = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
            assert overlaps == 0, (name, axis.get_xlabel())


def test_the_published_figure_has_scores_above_differences(summary, shown):
    figure = beside_published_scores(summary, shown["published"], shown["titles"])
    above, below = figure.axes[0], figure.axes[2]
    assert [axis.get_title() for axis in figure.axes[:2]] == ["Qasper", "GovReport"]
    assert len(hollow(above)) == 12 and hollow(below) == []
    place = PublishedPlace("qasper", "led_base", "gpu1", 1024)
    difference = at(summary, place)["score"] - 17.68
    assert below.lines[0].get_ydata()[0] == pytest.approx(difference)
    said = words(figure)
    assert "LED-base, 1 GPU, 4 steps" in said and "Ours less published" in said


def test_a_figure_of_unfinished_cells_says_so(summary, shown):
    some = summary[summary["dataset"] == "qmsum"]
    figure = own_figure(some, shown["figures"][0], shown["titles"], shown["published"])
    assert [NO_CELLS in [t.get_text() for t in axis.texts] for axis in figure.axes] == [
        True,
        True,
        False,
    ]
    assert "published" not in words(figure), "nothing of it is shown"
    none = own_figure(some, shown["figures"][4], shown["titles"], shown["published"])
    assert words(none).count(NO_CELLS) == 4


def test_unknown_energy_leaves_a_figure_of_the_study_empty(stages, shown):
    unknown = made_up(
        stages, train_energy_kwh=None, train_power_efficiency=None, train_energy_source="none"
    )
    figure = own_figure(unknown, shown["figures"][1], shown["titles"], shown["published"])
    assert words(figure).count("Energy was not measured") == 3
    half = own_figure(unknown, shown["figures"][4], shown["titles"], shown["published"])
    assert words(half).count("Energy was not measured") == 2


def test_random_weights_are_named_in_a_figure_of_the_study(stages, shown):
    figure = own_figure(
        made_up(stages, initialisation="random"), shown["figures"][0], shown["titles"], {}
    )
    assert "LED-base, from random weights" in words(figure)


@pytest.mark.parametrize(("name", "scale"), [("training_time", None), ("training_time_log", "log")])
def test_a_cost_may_ask_for_its_scale(summary, name, scale):
    assert named_cost(name).axis == scale and named_cost(name).column == "train_runtime_s"
    figure = accuracy_against(summary[summary["dataset"] == "qmsum"].head(4), named_cost(name), {})
    assert scale is None or figure.axes[0].get_xscale() == scale
    plt.close(figure)


@pytest.fixture(scope="module")
def three_ways(stages) -> pd.DataFrame:
    """Every cell under both protocols, the generated ones at two inference points."""
    other = {"protocol": "teacher_forced"}, {"inference": "beam4"}
    return pd.concat(
        [made_up(stages), *(made_up(stages, seed, **every) for seed, every in enumerate(other, 1))]
    )


def test_ways_of_a_cell_share_its_published_line(three_ways, shown):
    figure = beside_published_scores(three_ways, shown["published"], shown["titles"])
    theirs = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert len(theirs) == 3 and len({line.get_color() for line in theirs}) == 1, (
        "one for each budget, in grey"
    )
    ours = [
        line
        for line in figure.axes[0].lines
        if line.get_linestyle() == "-" and len(line.get_xdata()) == 4
    ]
    assert len(ours) == 9
    assert {line.get_marker() for line in ours} == {line.get_marker() for line in theirs}
    said = words(figure)
    assert "LED-base, 1 GPU, teacher-forced, greedy" in said and "teacher_forced" not in said
    assert "(teacher-forced; another protocol than some of ours)" in said


def test_a_published_score_is_joined_to_the_cells_of_its_own_protocol(three_ways, shown):
    figure = drawings(three_ways, shown)["figure_1"]()
    (joined,) = {len(hollow(axis)) for axis in figure.axes if hollow(axis)}
    assert joined == 4
    figure.canvas.draw()
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.texts]
        assert boxes and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    said = words(figure)
    assert "LED-base, teacher-forced, greedy" in said and "teacher_forced" not in said
