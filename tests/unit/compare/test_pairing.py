"""Two studies side by side: who corresponds to whom, what changes, and how sure that is."""

import json
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from longwatt.compare.beside import sections
from longwatt.compare.figures import QUANTITIES, panels_against
from longwatt.compare.pairing import (
    LOG_SEEDS,
    ONE_RUN,
    SEEDS,
    TWO_INTERVALS,
    CompareError,
    compare_cells,
    differences_within,
    match,
    read_results,
)
from longwatt.compare.ranking import ALL_CELLS, kendall_tau, rankings
from longwatt.compare.report import (
    comparison_page,
    headlines,
    ranking_table,
    swap_table,
    write_comparison,
)
from longwatt.compare.settings import Differing, read_rulers
from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.layout.pages import Section, Table, as_html, markdown
from longwatt.metrics import bootstrap_interval
from longwatt.metrics.classification import labels_sample
from longwatt.metrics.resampling import (
    FEW_DIFFER,
    PAIRED,
    Resampling,
    Sample,
    Scores,
    difference_of,
    wilson,
)
from longwatt.metrics.score_intervals import paired_difference
from longwatt.results.example_scores import REFERENCE_NUMBER
from longwatt.startup.checks import check_against
from longwatt.study.checks import checked_stages
from longwatt.study.summary_columns import COLUMNS
from longwatt.tokens import references
from longwatt.tokens.references import EACH
from tests.spacing import single_spaced

SCORING = {"bootstrap_resamples": 200, "confidence": 0.95, "seed": 0}
STUDIES = ("a", "b")


def row(**changes) -> dict:
    """One row of a summary."""
    known = {
        "dataset": "qasper", "model": "led", "seq_len": 1024, "budget": "gpu1",
        "protocol": "generated", "seed": 42,
        "inference": "greedy", "initialisation": "checkpoint", "score": 30.0, "score_name": "f1",
        "train_samples_per_second": 10.0, "inference_samples_per_second": 4.0,
        "train_energy_kwh": 2.0, "train_energy_source": "nvml_counter",
        "train_mean_power_w": 250.0, "peak_memory_gib": 20.0,
    } | changes  # fmt: skip
    known.setdefault("score_ci_low", known["score"] - 1)
    known.setdefault("score_ci_high", known["score"] + 1)
    known["cell"] = "{dataset}/{model}/{seq_len}/{budget}/{protocol}/seed{seed}".format(**known)
    return known


def summary(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def side_by_side(
    first: pd.DataFrame, second: pd.DataFrame, results: Path = Path("none")
) -> pd.DataFrame:
    return compare_cells(results, STUDIES, match(first, second), SCORING)


def write(results: Path, study: str, *rows: dict) -> None:
    folder = results / study
    folder.mkdir(parents=True, exist_ok=True)
    summary(*rows).to_csv(folder / "summary.csv", index=False, na_rep="NA")


def write_examples(results: Path, study: str, known: dict, scores: dict[str, list[float]]) -> None:
    folder = results / study / known["cell"] / "predict" / known["inference"]
    folder.mkdir(parents=True)
    pd.DataFrame(scores).to_csv(folder / "examples.csv", index=False)


def test_equal_cells_are_pairs_and_the_rest_is_named():
    first = summary(row(), row(seq_len=2048), row(model="bigbird"))
    second = summary(row(), row(seq_len=2048), row(seq_len=4096))
    found = match(first, second)
    assert [pair.first["cell"].item() for pair in found.pairs] == [
        pair.second["cell"].item() for pair in found.pairs
    ]
    assert len(found.pairs) == 2 and not found.differing and not found.ambiguous
    assert found.alone == (
        ["qasper/bigbird/1024/gpu1/generated/seed42 (greedy)"],
        ["qasper/led/4096/gpu1/generated/seed42 (greedy)"],
    )


def test_an_axis_with_no_value_in_common_is_left_out():
    first = summary(row(), row(seq_len=2048))
    second = summary(
        *(row(seq_len=n, protocol="teacher_forced", budget="h100") for n in (1024, 2048))
    )
    found = match(first, second)
    assert len(found.pairs) == 2
    assert found.differing == {
        "budget": (["gpu1"], ["h100"]),
        "protocol": (["generated"], ["teacher_forced"]),
    }
    said = headlines(STUDIES, found, compare_cells(Path("none"), STUDIES, found, SCORING), [])
    assert "They differ in protocol: generated (a) against teacher_forced (b)." in said


def test_a_row_with_several_possible_partners_has_none():
    first = summary(row(), row(seq_len=2048))
    second = summary(row(budget="x"), row(budget="y"), row(budget="x", seq_len=2048))
    found = match(first, second)
    assert [pair.first["seq_len"].item() for pair in found.pairs] == [2048]
    assert set(found.ambiguous) == {
        "qasper/led/1024/gpu1/generated/seed42 (greedy)",
        "qasper/led/1024/x/generated/seed42 (greedy)",
        "qasper/led/1024/y/generated/seed42 (greedy)",
    }
    assert found.alone == ([], [])
    with pytest.raises(CompareError, match=r"no cell has a single partner.*budget"):
        match(summary(row()), summary(row(budget="x"), row(budget="y")))


def test_studies_of_other_datasets_cannot_be_compared():
    with pytest.raises(CompareError, match=r"no cell in common.*qasper; and qmsum"):
        match(summary(row()), summary(row(dataset="qmsum")))


def test_a_study_without_results_is_named_with_what_to_run(tmp_path):
    with pytest.raises(
        CompareError, match=r"run the study b first .longwatt run --study b.*partial"
    ):
        read_results(tmp_path, "b")
    write(tmp_path, "b/partial", row())
    assert len(read_results(tmp_path, "b")) == 1  # its finished cells are enough


def test_differences_and_ratios_are_the_second_study_s_over_the_first_s():
    second = row(
        score=33.0,
        inference_samples_per_second=12.0,
        train_energy_kwh=1.0,
        train_samples_per_second=5.0,
    )
    (found,) = side_by_side(summary(row()), summary(second)).to_dict("records")
    assert found["score_difference"] == 3
    assert (
        found["inference_speed_ratio"],
        found["train_speed_ratio"],
        found["train_energy_ratio"],
    ) == (3, 0.5, 0.5)
    assert found["difference_interval"] == TWO_INTERVALS
    assert found["difference_ci_low"] == pytest.approx(3 - math.sqrt(2))
    assert not found["train_energy_estimated"]


def test_what_is_unknown_stays_unknown_and_an_estimate_says_so():
    unknown = row(train_energy_kwh=None, train_energy_source="none", train_mean_power_w=None)
    (found,) = side_by_side(summary(row()), summary(unknown)).to_dict("records")
    assert math.isnan(found["train_energy_ratio"]) and math.isnan(found["train_power_ratio"])
    estimated = side_by_side(summary(row()), summary(row(train_energy_source="estimate")))
    assert estimated["train_energy_estimated"].all()
    found = match(summary(row()), summary(row(train_energy_source="estimate")))
    assert any(
        line.startswith("Training energy (partly estimated): median ratio 1")
        for line in headlines(STUDIES, found, estimated, [])
    )


def test_other_metrics_are_not_subtracted():
    comparison = side_by_side(
        summary(row(), row(seq_len=2048)),
        summary(row(score_name="rouge_geometric_mean"), row(seq_len=2048, score=31)),
    )
    assert list(comparison["score_difference"].isna()) == [True, False]
    assert comparison["difference_interval"].iloc[0] == "none: other metrics"
    found = match(summary(row()), summary(row()))
    assert any(
        "1 pairs have other metrics" in line for line in headlines(STUDIES, found, comparison, [])
    )
    assert rankings(comparison) == []


def test_seeds_are_paired_where_both_studies_have_them():
    first = summary(*(row(seed=n, score=s) for n, s in ((1, 30), (2, 34), (3, 38))))
    second = summary(*(row(seed=n, score=s) for n, s in ((1, 31), (2, 35.2), (4, 99))))
    found = match(first, second)
    assert found.alone[0] == ["qasper/led/1024/gpu1/generated/seed3 (greedy)"]
    (got,) = compare_cells(Path("none"), STUDIES, found, SCORING).to_dict("records")
    assert got["score_difference"] == pytest.approx(1.1) and got["difference_interval"] == SEEDS
    half = 12.706 * np.std([1, 1.2], ddof=1) / math.sqrt(2)
    assert got["difference_ci_high"] == pytest.approx(1.1 + half)
    assert (got["seeds_a"], got["seeds_b"]) == (2, 2)


def test_other_seeds_are_compared_as_means():
    second = summary(row(seed=7, score=32), row(seed=8, score=34))
    (got,) = side_by_side(summary(row()), second).to_dict("records")
    assert got["score_difference"] == 3 and got["difference_interval"] == TWO_INTERVALS


def test_equal_examples_are_resampled_together(tmp_path):
    a, b = row(), row(score=31)
    hard = list(np.linspace(0, 60, 40))
    ids = [f"{n}" for n in range(40)]
    write_examples(tmp_path, "a", a, {"id": ids, "f1": hard})
    write_examples(tmp_path, "b", b, {"id": ids[::-1], "f1": [value + 1 for value in hard[::-1]]})
    (got,) = side_by_side(summary(a), summary(b), tmp_path).to_dict("records")
    assert got["difference_interval"] == f"{PAIRED}, {FEW_DIFFER}"
    unseen = wilson(0, 40, 0.95)[1]  # every example of 40 gains 1, but others may not
    ends = 1 - 101 * unseen, 1 + 99 * unseen
    assert (got["difference_ci_low"], got["difference_ci_high"]) == pytest.approx(ends)


def test_a_side_that_scored_a_part_is_compared_on_that_part(tmp_path):
    source = np.random.default_rng(4)
    hard, ids = source.uniform(10, 60, 60), [f"{n:02}" for n in range(60)]
    better = hard[:40] + 2 + source.normal(0, 1, 40)
    a, b = row(score=hard.mean()), row(score=better.mean())
    write_examples(tmp_path, "a", a, {"id": ids, "f1": hard})
    write_examples(tmp_path, "b", b, {"id": ids[:40], "f1": better})
    (got,) = side_by_side(summary(a), summary(b), tmp_path).to_dict("records")
    assert got["score_difference"] == pytest.approx((better - hard[:40]).mean())
    assert got["difference_interval"] == f"{PAIRED}, on the 40 examples that both answered"
    assert 1 < got["difference_ci_low"] < got["difference_ci_high"] < 3


def test_questions_on_one_document_are_resampled_together(tmp_path):
    a, b = row(), row(score=31)
    hard, ids = np.linspace(0, 60, 40), [f"{n}" for n in range(40)]
    gains = np.repeat(np.random.default_rng(5).normal(1, 2, 10), 4)
    documents = [f"d{n // 4}" for n in range(40)]
    write_examples(tmp_path, "a", a, {"id": ids, "document": documents, "f1": hard})
    write_examples(tmp_path, "b", b, {"id": ids, "document": documents, "f1": hard + gains})
    (got,) = side_by_side(summary(a), summary(b), tmp_path).to_dict("records")
    assert got["difference_interval"] == "paired bootstrap over 10 documents"


def test_a_swap_within_overlapping_intervals_is_clear_where_pairs_are(tmp_path):
    """Each score may be 9 more or less, but the same examples are hard for both cells."""
    source = np.random.default_rng(6)
    hard, ids = source.uniform(0, 60, 60), [f"{n:02}" for n in range(60)]
    tables = []
    for study, gain in (("a", 1.0), ("b", -1.0)):
        rows = []
        for model, more in (("led", 0.0), ("big", gain)):
            values = hard + more + source.normal(0, 1, 60)
            score = float(values.mean())
            ends = {"score_ci_low": score - 9, "score_ci_high": score + 9}
            rows.append(row(model=model, score=score, **ends))
            write_examples(tmp_path, study, rows[-1], {"id": ids, "f1": values})
        tables.append(summary(*rows))
    found = match(*tables)
    comparison = compare_cells(tmp_path, STUDIES, found, SCORING)
    clear = [swap.clear for one in rankings(comparison) for swap in one.swaps]
    within = differences_within(tmp_path, STUDIES, found.pairs, SCORING)
    assert clear == [False]
    assert [swap.clear for one in rankings(comparison, within) for swap in one.swaps] == [True]


def test_other_examples_are_not_paired(tmp_path):
    a, b = row(), row(score=31)
    write_examples(tmp_path, "a", a, {"id": ["1", "2"], "f1": [1, 2]})
    write_examples(tmp_path, "b", b, {"id": ["1", "3"], "f1": [1, 2]})
    assert (
        side_by_side(summary(a), summary(b), tmp_path)["difference_interval"].item()
        == TWO_INTERVALS
    )


def test_examples_of_another_metric_than_the_summarys_are_not_paired(tmp_path):
    a, b = row(), row(score=31)
    write_examples(tmp_path, "a", a, {"id": ["1", "2"], "f1": [1, 2]})
    write_examples(tmp_path, "b", b, {"id": ["1", "2"], "exact_match": [1, 2]})
    found = side_by_side(summary(a), summary(b), tmp_path)
    assert found["difference_interval"].item() == TWO_INTERVALS


def test_seeds_with_the_same_examples_have_an_interval_over_both(tmp_path):
    hard, source = np.linspace(5, 60, 40), np.random.default_rng(1)
    rows = {
        study: [row(seed=n, score=32.5 + gain + n + gain * n / 100) for n in (1, 2)]
        for study, gain in (("a", 0), ("b", 2))
    }
    for study, known in rows.items():
        for n, one in enumerate(known, start=1):
            values = hard + n + (2 if study == "b" else 0) + source.normal(0, 1, 40)
            write_examples(tmp_path, study, one, {"id": [str(k) for k in range(40)], "f1": values})
    (got,) = side_by_side(summary(*rows["a"]), summary(*rows["b"]), tmp_path).to_dict("records")
    assert got["difference_interval"] == f"{SEEDS} and {PAIRED}, added as squares"
    (apart,) = side_by_side(summary(*rows["a"]), summary(*rows["b"])).to_dict("records")
    assert (
        apart["difference_interval"] == SEEDS
        and apart["difference_ci_low"] > got["difference_ci_low"]
    )


def test_another_split_s_examples_of_the_same_names_are_not_paired(tmp_path):
    a, b = row(), row(score=31)
    for study, known, split in (("a", a, "validation"), ("b", b, "test")):
        write_examples(tmp_path, study, known, {"id": ["1", "2"], "f1": [1, 2]})
        path = tmp_path / study / known["cell"] / "predict" / known["inference"] / "scores.json"
        path.write_text(json.dumps({"provenance": {"settings": {"split": split}}}))
    assert (
        side_by_side(summary(a), summary(b), tmp_path)["difference_interval"].item()
        == TWO_INTERVALS
    )


def stamp_scores(results: Path, study: str, known: dict, references: str) -> None:
    path = results / study / known["cell"] / "predict" / known["inference"] / "scores.json"
    path.write_text(json.dumps({"provenance": {"settings": {"references": references}}}))


def test_references_that_count_alone_are_paired_by_their_example(tmp_path):
    """Score each example's best reference, and in the other study each of two.

    The first 20 examples have two references.
    """
    a, b = row(), row(score=31)
    values = np.linspace(0, 60, 40)
    each = {
        f"{n}#{k}": values[n] + shift
        for n in range(40)
        for k, shift in enumerate((-5, 5) if n < 20 else (0,))
    }
    write_examples(tmp_path, "a", a, {"id": [str(n) for n in range(40)], "f1": list(values)})
    write_examples(tmp_path, "b", b, {"id": list(each)[::-1], "f1": list(each.values())[::-1]})
    stamp_scores(tmp_path, "a", a, "best")
    stamp_scores(tmp_path, "b", b, "each")
    (got,) = side_by_side(summary(a), summary(b), tmp_path).to_dict("records")
    assert got["difference_interval"] == PAIRED
    real = np.mean(list(each.values())) - values.mean()  # easier examples have more references
    assert got["difference_ci_low"] < real < got["difference_ci_high"] < 0
    stamp_scores(tmp_path, "b", b, "best")  # then "#" belongs to the ids
    assert (
        side_by_side(summary(a), summary(b), tmp_path)["difference_interval"].item()
        == TWO_INTERVALS
    )


def test_references_of_an_example_are_resampled_together():
    """Weigh low scores more: the first of three sorts of examples have two references."""
    values = np.tile([0.0, 10.0, 20.0], 5)[:, None]
    ids = [str(n) for n in range(15)]
    twice = [id_ for n, id_ in enumerate(ids) for _ in range(2 if n % 3 == 0 else 1)]
    each = Sample.of(twice, np.array([[10.0 * (int(id_) % 3)] for id_ in twice]))
    best = Sample.of(ids, values)
    assert (each.value, best.value) == (7.5, 10) and each.ids == best.ids
    low, high = difference_of(*(Scores([one], Resampling(2000)) for one in (best, each))).ends
    assert low < 2.5 < high and low >= -1e-9


def test_the_number_of_a_reference_comes_off_its_id():
    assert EACH == references.EACH
    assert re.sub(REFERENCE_NUMBER, "", references.compared_id("a#1", 12, EACH)) == "a#1"


def stamped(results: Path, study: str, known: dict, training: dict, scoring: dict) -> None:
    """Artefacts of a cell that say their settings."""
    cell = results / study / known["cell"]
    point = cell / "predict" / known["inference"]
    made = {
        cell / "finetune" / "training.json": {
            "tokens": f"{known['dataset']}-1/t-1", "seq_len": known["seq_len"],
            "protocol": known["protocol"], "seed": known["seed"], "training": training,
            "budget": {"precision": "fp32"}, "generation": {"num_beams": 4},
        },
        point / "inference.json": {
            "inference": {"split": "validation", "batch_size": 16}, "generation": {},
        },
        point / "scores.json": {"split": "validation", "metric": "f1", **scoring},
    }  # fmt: skip
    for path, settings in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"provenance": {"settings": settings}}))


def test_a_comparison_names_settings_that_differ_beside_the_axes(tmp_path):
    ours = [row(), row(seq_len=2048), row(seq_len=4096)]
    theirs = [row(seq_len=n, protocol="teacher_forced") for n in (1024, 2048, 4096)]
    for known in ours[:2]:
        training = {"max_target_tokens": 1024, "learning_rate": 2e-5}
        stamped(tmp_path, "a", known, training, {"text": "raw", "max_reference_tokens": None})
    for known, batch in zip(theirs[:2], (1, 2), strict=True):
        training = {"max_target_tokens": 128, "learning_rate": 2e-5, "batch": batch}
        stamped(tmp_path, "b", known, training, {"text": "normalized", "max_reference_tokens": 128})
    write(tmp_path, "a", *ours)
    write(tmp_path, "b", *theirs)
    found = match(summary(*ours), summary(*theirs))
    rulers = read_rulers(tmp_path, STUDIES, [(pair.first, pair.second) for pair in found.pairs])
    assert [str(each) for each in rulers.differing] == [
        "scoring.text (raw / normalized)",
        "scoring.max_reference_tokens (none / 128)",
        "training.max_target_tokens (1024 / 128)",
        "training.batch (not recorded / 1, not recorded / 2)",
    ]
    assert rulers.unknown == 1 and rulers.differing[0].pairs == 2  # nothing is there of 4096 tokens
    settings = {"study": "a", "against": "b", "titles": {}, "scoring": SCORING}
    write_comparison(tmp_path, settings, {})
    text = single_spaced((tmp_path / "a/compare/b/comparison.md").read_text())
    named = "scoring.text (raw / normalized), scoring.max_reference_tokens (none / 128)"
    assert f"They also differ in: {named}" in text
    assert "Of 1 pairs the results do not say" in text and "num_beams" not in text
    assert "| training.max_target_tokens | 1024 | 128 | 2 |" in text


def test_a_difference_of_attention_is_a_difference_of_settings(tmp_path):
    lengths = (1024, 2048, 4096)
    ours = [row(seq_len=n, attention="stock") for n in lengths]
    used = ("fast", "stock", "fast")
    theirs = [row(seq_len=n, attention=path) for n, path in zip(lengths, used, strict=True)]
    for study, rows, path in (("a", ours, "stock"), ("b", theirs, "fast")):
        for known in rows:
            stamped(tmp_path, study, known, {}, {})
            training = tmp_path / study / known["cell"] / "finetune" / "training.json"
            made = json.loads(training.read_text())
            made["provenance"]["settings"]["model"] = {"attention": path}
            training.write_text(json.dumps(made))
    found = match(summary(*ours), summary(*theirs))
    rulers = read_rulers(tmp_path, STUDIES, [(pair.first, pair.second) for pair in found.pairs])
    assert [str(each) for each in rulers.differing] == [
        "model.attention (stock / fast, stock / fast, stock in use)"
    ]
    assert rulers.differing[0].values == [("stock", "fast"), ("stock", "fast, stock in use")]
    assert rulers.differing[0].pairs == 3


def test_no_line_of_a_figure_joins_two_paths_of_attention():
    lengths = (1024, 2048, 3072, 4096)
    ours = summary(*(row(seq_len=n, score=20.0 + n, attention="stock") for n in lengths))
    used = dict(zip(lengths, ("fast", "fast", "stock", "stock"), strict=True))
    theirs = summary(*(row(seq_len=n, score=30.0 + n, attention=used[n]) for n in lengths))
    comparison = side_by_side(ours, theirs)
    assert comparison["attention_b"].tolist() == [f"{used[n]} attention" for n in lengths]
    figure = panels_against(comparison, STUDIES, QUANTITIES["scores"], {})
    joined = [tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_alpha() == 0.4]
    assert joined == [(1044, 2068), (3092, 4116)]
    plt.close(figure)


def test_ratios_have_intervals_over_common_seeds_alone():
    speeds = (2.0, 8.0)
    first = summary(*(row(seed=n) for n in (1, 2)))
    second = summary(
        *(row(seed=n, train_samples_per_second=10 * s) for n, s in zip((1, 2), speeds, strict=True))
    )
    (got,) = side_by_side(first, second).to_dict("records")
    half = 12.706 * np.std(np.log(speeds), ddof=1) / math.sqrt(2)
    assert got["train_speed_ratio"] == pytest.approx(4) and got["ratio_interval"] == LOG_SEEDS
    assert got["train_speed_ratio_ci_high"] == pytest.approx(4 * math.exp(half))
    assert got["inference_speed_ratio_ci_low"] == got["inference_speed_ratio_ci_high"] == 1
    found = match(summary(row()), summary(row()))
    single = compare_cells(Path("none"), STUDIES, found, SCORING)
    assert single["ratio_interval"].item() == ONE_RUN and math.isnan(
        single["train_speed_ratio_ci_low"].item()
    )
    text = markdown("t", comparison_page(STUDIES, found, single, rankings(single)))
    assert ONE_RUN in text and "One run each in 1 pairs" in text


def test_a_pair_without_a_score_is_named_and_not_ranked():
    first, second = ranked_studies()
    second.loc[0, ["score", "score_ci_low", "score_ci_high"]] = np.nan
    found = match(first, second)
    comparison = compare_cells(Path("none"), STUDIES, found, SCORING)
    ranked = rankings(comparison)
    (whole,) = (each for each in ranked if each.scope == ALL_CELLS)
    assert len(whole.cells) == 3 and first["cell"][0] not in set(whole.cells["cell_a"])
    text = markdown("t", comparison_page(STUDIES, found, comparison, ranked))
    assert f"Without a score in both, and so not ranked (1): {first['cell'][0]}." in text
    assert (
        "1 pairs lack a score" in text and "other metrics" not in text and "NA (no score)" in text
    )
    assert "it has no interval here" in text


def test_the_paired_bootstrap_of_rouge_is_of_geometric_means():
    source = np.random.default_rng(3)
    first = source.uniform(5, 50, (60, 3))
    ids, how = [str(n) for n in range(60)], Resampling(400, 0.9, 5)
    sides = (Scores([Sample.of(ids, values)], how) for values in (first, np.zeros((60, 3))))
    examples = {
        str(n): dict(zip(("rouge1", "rouge2", "rougeL"), values, strict=True))
        for n, values in enumerate(first)
    }
    wanted = bootstrap_interval(examples, "rouge", resamples=400, confidence=0.9, seed=5)
    assert difference_of(*sides).ends == pytest.approx(wanted.ends)


def test_kendall_tau():
    assert kendall_tau([1, 2, 3], [4, 5, 6]) == 1 and kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(
        2 / math.sqrt(6)
    )  # tau-b, as scipy has it
    assert math.isnan(kendall_tau([1, 1], [1, 2]))


def ranked_studies() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two studies of two models at two lengths.

    From the first study to the second `led 1024` (30 to 45) goes past `big 1024` (40 to 35), beyond
    the intervals. It also goes past `big 2048` (30.5 to 36), which was hardly better in the first
    study. `big 2048` goes past `big 1024` as well.
    """
    first = summary(
        row(score=30),
        row(model="big", score=40),
        row(seq_len=2048, score=50),
        row(model="big", seq_len=2048, score=30.5),
    )
    second = summary(
        row(score=45),
        row(model="big", score=35),
        row(seq_len=2048, score=60),
        row(model="big", seq_len=2048, score=36),
    )
    return first, second


def _short(cell: str) -> str:
    return " ".join(cell.split("/")[1:3])


def test_rankings_name_the_pairs_that_swap_and_whether_chance_may_have_done_it():
    found = rankings(side_by_side(*ranked_studies()))
    by_scope = {ranking.scope: ranking for ranking in found}
    assert set(by_scope) == {ALL_CELLS, "models at 1024 tokens", "models at 2048 tokens"}
    assert (
        by_scope["models at 1024 tokens"].tau == -1 and by_scope["models at 2048 tokens"].tau == 1
    )
    swaps = swap_table(found)
    found_swaps = {
        (_short(r.better_in_a), _short(r.better_in_b)): r.beyond_intervals
        for r in swaps.itertuples()
    }
    assert found_swaps == {
        ("big 1024", "led 1024"): True,
        (
            "big 1024",
            "big 2048",
        ): False,  # 40 to 35 and 30.5 to 36: in the second study within the intervals
        ("big 2048", "led 1024"): False,
    }
    table = ranking_table(found)
    assert list(table[table["scope"] == ALL_CELLS]["rank_a"]) == [1, 2, 3, 4]


def test_a_table_of_what_differs_says_how_many_rows_it_leaves_out():
    values = [(f"x{n}", f"y{n}") for n in range(102)]
    beside = [*Differing.gather({"threads": values}), *Differing.gather({"device": values[:1] * 3})]
    (section,) = sections(STUDIES, beside, {})
    text = markdown("t", [section])
    assert "x99" in text and "x100" not in text and "3 more rows are left out." in text
    assert [(each.name, len(each.values), each.pairs) for each in beside] == [
        ("threads", 102, 102),
        ("device", 1, 3),
    ]
    assert sections(STUDIES, [], {}) == []


def test_pages_and_figures_show_both_studies(tmp_path):
    first, second = ranked_studies()
    write(tmp_path, "a", *first.to_dict("records"))
    write(tmp_path, "b", *second.assign(initialisation="random").to_dict("records"))
    settings = {"study": "a", "against": "b", "titles": {"led": "LED"}, "scoring": SCORING}
    write_comparison(tmp_path, settings, {"rule": "compare"})
    folder = tmp_path / "a" / "compare" / "b"
    names = {
        "comparison.csv",
        "comparison.md",
        "comparison.html",
        "comparison.json",
        "ranking.csv",
        "swaps.csv",
    }
    names |= {f"{name}.{kind}" for name in QUANTITIES for kind in ("svg", "png")}
    assert {path.name for path in folder.iterdir()} == names
    for kind in ("md", "html"):
        text = (folder / f"comparison.{kind}").read_text()
        assert (
            "4 pairs" in text
            and "random weights" in text
            and "scores.svg" in text
            and "Kendall" in text
        )
    assert len(pd.read_csv(folder / "comparison.csv")) == 4


def test_a_figure_has_a_panel_per_dataset_and_says_why_one_is_empty():
    first = summary(row(), row(dataset="qmsum", score_name="rouge_geometric_mean"))
    second = summary(row(score=35), row(dataset="qmsum"))
    figure = panels_against(
        side_by_side(first, second), STUDIES, QUANTITIES["scores"], {"qasper": "Qasper"}
    )
    drawn, empty = figure.axes
    assert drawn.get_title() == "Qasper" and drawn.get_xlim() == drawn.get_ylim()
    assert drawn.get_xlabel() == "F1, a" and drawn.get_ylabel() == "F1, b"
    assert "not the same metric" in empty.texts[0].get_text()


def test_pages_escape_what_they_quote():
    sections = [Section("x", ["a < b", Table([{"c|d": "e|f", "<g>": "1"}])])]
    assert "a &lt; b" in as_html("t", sections) and "&lt;g&gt;" in as_html("t", sections)
    assert "e\\|f" in markdown("t", sections)


def test_the_page_names_what_has_no_partner():
    found = match(summary(row(), row(seq_len=2048)), summary(row()))
    comparison = compare_cells(Path("none"), STUDIES, found, SCORING)
    text = markdown("t", comparison_page(STUDIES, found, comparison, rankings(comparison)))
    assert "Only in a (1): qasper/led/2048/gpu1/generated/seed42 (greedy)." in text
    assert "nothing can be ranked" in text


@pytest.mark.parametrize(
    ("machine", "targets", "said"),
    [
        ({}, ["compare"], "compare needs a second study"),
        ({"against": "other"}, ["all"], "`against` is for the target compare"),
        ({"against": "tiny"}, ["compare"], "is the study itself"),
        ({"against": "othr"}, ["compare"], "did you mean 'other'"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(
    machine, targets, said, tmp_path, monkeypatch, study_schema, tiny_study_text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "other").mkdir(parents=True)  # its study file is gone
    (tmp_path / "tiny.yaml").write_text(tiny_study_text)
    stages = checked_stages("tiny", read_study(tmp_path / "tiny.yaml", study_schema), machine)
    with pytest.raises(StudyError, match=said):
        check_against(stages, {"targets": targets}, [tmp_path])


def test_a_study_with_results_alone_can_be_compared(
    tmp_path, monkeypatch, study_schema, tiny_study_text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "other").mkdir(parents=True)
    (tmp_path / "tiny.yaml").write_text(tiny_study_text)
    study = read_study(tmp_path / "tiny.yaml", study_schema)
    stages = checked_stages("tiny", study, {"against": "other"})
    check_against(stages, {"targets": ["compare"]}, [tmp_path])
    check_against(checked_stages("tiny", study, {}), {"targets": ["all"]}, [tmp_path])


def labelled_row(**changes) -> dict:
    """One row of a classifier's summary."""
    rule = {
        "exit_rule": "threshold",
        "exit_value": 0.9,
        "inference_batch_size": 1,
        "inference": "leave-t0.9-b1",
    }
    known = {
        "protocol": "classified",
        "score_name": "macro_f1",
        "accuracy": 90.0,
        "macro_f1": 30.0,
        "mean_layers": 3.5,
    }
    return row(**{**rule, **known, **changes})


def test_points_of_classifiers_correspond_by_their_rule_where_no_name_is_shared():
    first = summary(
        labelled_row(),
        labelled_row(inference="leave-p2-b1", exit_rule="patience", exit_value=2),
        labelled_row(inference="last-b1", exit_rule="last", exit_value=None),
    )
    second = summary(
        labelled_row(inference="early-p2-b1", exit_rule="patience", exit_value=2),
        labelled_row(inference="early-p3-b1", exit_rule="patience", exit_value=3),
    ).astype({"exit_value": int})  # without a gap it is read as whole numbers
    found = match(first, second)
    assert [(p.first["inference"].item(), p.second["inference"].item()) for p in found.pairs] == [
        ("leave-p2-b1", "early-p2-b1")
    ]
    assert len(found.alone[0]) == 2 and len(found.alone[1]) == 1 and not found.ambiguous
    named = match(
        first, summary(labelled_row(exit_value=0.8))
    )  # a name in common counts more than the rule
    assert [p.first["inference"].item() for p in named.pairs] == ["leave-t0.9-b1"]


def test_labels_are_compared_by_both_metrics_from_the_same_resampled_examples(tmp_path):
    gold, first = ["a", "a", "b", "c"] * 30, ["a", "b", "b", "c"] * 30
    better = [
        right if n % 3 else said for n, (right, said) in enumerate(zip(gold, first, strict=True))
    ]
    ids = [f"e{n}" for n in range(len(gold))]
    for study, predicted in zip(STUDIES, (first, better), strict=True):
        right = [100.0 * (one == other) for one, other in zip(gold, predicted, strict=True)]
        table = {"id": ids, "accuracy": right, "label": gold, "prediction": predicted}
        write_examples(tmp_path, study, labelled_row(), table)
    known = [{study: labelled_row(score=70.0 + 10 * n)} for n, study in enumerate(STUDIES)]
    found = side_by_side(summary(known[0]["a"]), summary(known[1]["b"]), tmp_path).iloc[0]
    assert (
        found["difference_interval"] == PAIRED
        and 0 < found["difference_ci_low"] < found["difference_ci_high"]
    )
    per_example = [
        {i: {"label": g, "prediction": p} for i, g, p in zip(ids, gold, said, strict=True)}
        for said in (first, better)
    ]
    sides = (
        Scores([labels_sample(one, "macro_f1")], Resampling(200)) for one in reversed(per_example)
    )
    ends = paired_difference(*sides, same_seeds=True).ends
    assert (found["difference_ci_low"], found["difference_ci_high"]) == pytest.approx(ends)
    assert (found["accuracy_a"], found["macro_f1_b"], found["mean_layers_a"]) == (90, 30, 3.5)
    comparison = side_by_side(summary(labelled_row()), summary(labelled_row(mean_layers=2.0)))
    text = markdown(
        "t",
        comparison_page(
            STUDIES, match(summary(labelled_row()), summary(labelled_row())), comparison, []
        ),
    )
    assert "mean layers" in text and "3.50 / 2.00" in text
    assert not [
        name
        for name in side_by_side(summary(row()), summary(row()))
        if name.startswith("mean_layers")
    ]


def test_what_differs_between_two_classifiers_is_named_as_people_say_it(tmp_path):
    known = labelled_row()
    for study, threshold, layers in zip(STUDIES, (0.9, 0.8), ([0, 5], [1, 5]), strict=True):
        cell = tmp_path / study / known["cell"]
        point = {
            "split": "test",
            "batch_size": 1,
            "exit": {"threshold": threshold},
            "regroup_batches": 8,
        }
        task, folder = {"task": "classification"}, f"predict/{known['inference']}"
        stamped = {
            "finetune/training.json": {
                **task,
                "protocol": "classified",
                "model": {"exits": {"layers": layers}},
            },
            f"{folder}/inference.json": {**task, "inference": point},
            f"{folder}/scores.json": {**task, "metric": "macro_f1", "split": "test"},
            "calibrate/temperatures.json": {"split": "validation", "temperatures": None},
        }
        for name, settings in stamped.items():
            (cell / name).parent.mkdir(parents=True, exist_ok=True)
            (cell / name).write_text(json.dumps({"provenance": {"settings": settings}}))
    rulers = read_rulers(tmp_path, STUDIES, [(summary(known), summary(known))])
    assert {each.name: list(each.values) for each in rulers.differing} == {
        "inference.exit": [("threshold 0.9", "threshold 0.8")],
        "model.exits.layers": [("[0, 5]", "[1, 5]")],
    }
