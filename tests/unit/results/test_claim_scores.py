"""Claims compare cells that scored the same examples example by example."""

import json

import numpy as np
import pandas as pd
import pytest

from longwatt.metrics import METRICS, score_parts
from longwatt.metrics.resampling import (
    PAIRED,
    Resampling,
    Sample,
    Scores,
    difference_of,
    interval_of,
)
from longwatt.metrics.score_intervals import OVER_SEEDS, paired_difference
from longwatt.provenance.artefacts import Damaged
from longwatt.results.judge_claims import (
    APART,
    FAILS,
    HOLDS,
    OVER_EXAMPLES,
    UNCLEAR,
    WHOLE_RUN,
    judge,
)
from longwatt.study.summary_columns import (
    ACCURACIES,
    COLUMNS,
    NUMBER_COLUMNS,
    OF_EXAMPLES,
    SCORE_COLUMNS,
)

SCORING = {"bootstrap_resamples": 500, "confidence": 0.95, "seed": 0}
HARD = np.random.default_rng(0).uniform(5, 70, 120)
IDS = [f"e{n}" for n in range(120)]


class Study:
    """Cells with examples' scores on disk, and the summary that speaks of them."""

    def __init__(self, results) -> None:
        self.results, self.rows, self.cells = results, [], []

    def add(
        self, model: str, values, seed: int = 1, ids=IDS, split="validation", dataset="d", **known
    ) -> None:
        columns = values if isinstance(values, dict) else {"f1": values}
        axes = {
            "dataset": dataset,
            "model": model,
            "seq_len": 8,
            "budget": "b",
            "protocol": "generated",
            "seed": seed,
        }
        cell = {**axes, "inference": "greedy", "cell": f"{dataset}/{model}/seed{seed}"}
        folder = self.results / cell["cell"] / "predict" / "greedy"
        folder.mkdir(parents=True)
        pd.DataFrame({"id": ids, **columns}).round(4).to_csv(folder / "examples.csv", index=False)
        table = np.asarray(columns["f1"], float)[:, None]
        low, high, _ = interval_of(Scores([Sample.of(ids, table)], Resampling(500)))
        score = {
            "score": round(float(table.mean()), 4),
            "f1": round(float(table.mean()), 4),
            "score_name": "f1",
        }
        ends = {"score_ci_low": low, "score_ci_high": high}
        base = {
            **dict.fromkeys(COLUMNS),
            **cell,
            **score,
            **ends,
            "initialisation": "checkpoint",
            "examples": len(ids),
        }
        self.rows.append({**base, **known})
        self.cells.append({**cell, "left_out": None, "split": split})

    def judged(self, kind: str, given: dict, **more) -> dict:
        bound = {} if kind == "equivalent" else {"above": 0}
        claim = {"statement": "s", "tests": [{kind: {**bound, **given}}]}
        settings = {"claims": {"c": claim}, "cells": self.cells, "scoring": {**SCORING, **more}}
        found = judge(pd.DataFrame(self.rows), settings, self.results)
        (finding,) = found["c"]["tests"][0]["judged"][WHOLE_RUN]["findings"]
        return finding


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path)


PAIR = {"column": "score", "of": {"model": "a"}, "to": {"model": "b"}}


def noise(seed: int, sd: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, 120)


def test_a_small_gain_on_the_same_examples_is_seen(study):
    study.add("a", HARD + 2 + noise(1))
    study.add("b", HARD)
    found = study.judged("difference", PAIR)
    low, high = found["interval"]
    assert (
        found["status"] == HOLDS
        and found["method"] == PAIRED
        and 1 < low < found["number"] < high < 3
    )
    ratio = study.judged("ratio", {**PAIR, "above": 1})
    assert ratio["status"] == HOLDS and ratio["method"] == PAIRED
    assert ratio["interval"][0] < ratio["number"] < ratio["interval"][1] < 1.1
    for row in study.rows:
        (study.results / row["cell"] / "predict/greedy/examples.csv").unlink()
    apart = study.judged("difference", PAIR)
    assert (apart["status"], apart["method"]) == (UNCLEAR, APART), (
        "the intervals of both reach far across each other"
    )


@pytest.mark.parametrize(
    ("gain", "margin", "status"),
    [
        (0.1, 1.5, HOLDS),
        (0.1, 0.3, UNCLEAR),
        (4, 1.5, FAILS),
        (-4, 1.5, FAILS),
        (1.4, 1.5, UNCLEAR),
    ],
)
def test_equivalence_needs_an_interval_within_the_margin(study, gain, margin, status):
    study.add("a", HARD + gain + noise(1))
    study.add("b", HARD)
    found = study.judged("equivalent", {**PAIR, "within": margin})
    assert (found["status"], found["method"]) == (status, PAIRED)
    low, high = found["interval"]
    assert (status == HOLDS) == (-margin <= low and high <= margin)
    sides = [Scores([Sample.of(IDS, np.round(values, 4)[:, None])], Resampling(500, 0.9))
             for values in (HARD + gain + noise(1), HARD)]  # fmt: skip
    assert (low, high) == pytest.approx(paired_difference(*sides, same_seeds=True).ends, abs=1e-3)
    wide = study.judged("difference", PAIR)["interval"]
    assert wide[0] < low < high < wide[1], "each end has the confidence that both have there"


def test_equivalence_follows_the_study_s_confidence(study):
    study.add("a", HARD + noise(1))
    study.add("b", HARD)
    wide = study.judged("equivalent", {**PAIR, "within": 5}, confidence=0.99)["interval"]
    same = study.judged("difference", PAIR, confidence=0.98)["interval"]
    assert wide == pytest.approx(same)


def test_several_seeds_are_equivalent_over_seeds_and_examples(study):
    for seed in (1, 2, 3, 4):
        study.add("a", HARD + noise(seed, 1), seed=seed)
        study.add("b", HARD + noise(seed + 10, 1), seed=seed)
    found = study.judged("equivalent", {**PAIR, "within": 2})
    assert found["status"] == HOLDS and found["method"].startswith(OVER_SEEDS)
    wide = study.judged("difference", PAIR)["interval"]
    assert wide[0] < found["interval"][0] < found["interval"][1] < wide[1]


def test_without_an_interval_nothing_is_equivalent(study):
    study.add("a", HARD, train_energy_kwh=2.0, parameters=5)
    study.add("b", HARD, train_energy_kwh=2.0, parameters=5)
    given = {"of": {"model": "a"}, "to": {"model": "b"}, "within": 1}
    found = study.judged("equivalent", {"column": "train_energy_kwh", **given})
    assert found["status"] == UNCLEAR and "without one nothing is shown" in found["why"][0]
    exact = study.judged("equivalent", {"column": "parameters", **given})
    assert exact["status"] == HOLDS, "it is known without an interval"


def test_energies_of_several_seeds_are_equivalent_by_their_spread(study):
    for seed, energy in ((1, 2.0), (2, 2.02), (3, 1.98)):
        study.add("a", HARD, seed=seed, train_energy_kwh=energy)
        study.add("b", HARD, seed=seed, train_energy_kwh=energy + 0.01)
    given = {"column": "train_energy_kwh", "of": {"model": "a"}, "to": {"model": "b"}}
    assert study.judged("equivalent", {**given, "within": 0.1})["status"] == HOLDS
    assert study.judged("equivalent", {**given, "within": 0.02})["status"] == UNCLEAR


def test_a_score_is_equivalent_to_a_number_by_its_own_examples(study):
    study.add("a", HARD)
    value = float(HARD.mean())
    given = {"column": "score", "to": {"value": value}}
    wide = study.judged("difference", given)["interval"]
    found = study.judged("equivalent", {**given, "within": 5})
    assert found["status"] == HOLDS and wide[0] < found["interval"][0] < found["interval"][1]


def test_cells_that_scored_a_part_are_compared_on_that_part(study):
    """The rest of the examples is harder, and would hide the gain."""
    study.add("a", HARD[:60] + 2 + noise(1)[:60], ids=IDS[:60])
    study.add("b", np.append(HARD[:60], HARD[60:] + 20))
    found = study.judged("difference", PAIR)
    assert found["status"] == HOLDS and 1 < found["number"] < 3
    assert "on the 60 examples that both answered" in found["method"]
    assert found["number"] == pytest.approx(np.subtract(*found["values"]))
    assert found["values"][1] == pytest.approx(HARD[:60].mean(), abs=1e-3)
    ratio = study.judged("ratio", {**PAIR, "above": 1})
    assert ratio["status"] == HOLDS and "that both answered" in ratio["method"]


def test_examples_of_shared_documents_are_drawn_by_document(study):
    """Questions on one document go well together, so that six documents decide less than 120."""
    gains = np.repeat(np.random.default_rng(3).normal(1.5, 3, 6), 20)
    for model, gain in (("a", gains), ("b", 0)):
        study.add(model, HARD + gain)
    assert study.judged("difference", PAIR)["status"] == HOLDS
    documents = [f"d{n // 20}" for n in range(120)]
    study.rows, study.cells = [], []
    for model, gain in (("c", gains), ("e", 0)):
        study.add(model, {"f1": HARD + gain, "document": documents})
    found = study.judged("difference", {**PAIR, "of": {"model": "c"}, "to": {"model": "e"}})
    words = "over 6 documents (widened, since they are few)"
    assert found["status"] == UNCLEAR and words in found["method"]


def test_results_scored_before_documents_were_recorded_take_those_of_others(study):
    documents = [f"d{n // 4}" for n in range(120)]
    study.add("a", HARD + 2 + noise(1))
    study.add("b", {"f1": HARD, "document": documents})
    assert "over 30 documents" in study.judged("difference", PAIR)["method"]


def test_the_order_of_examples_does_not_matter(study):
    study.add("a", (HARD + 2 + noise(1))[::-1], ids=IDS[::-1])
    study.add("b", HARD)
    assert study.judged("difference", PAIR)["status"] == HOLDS


@pytest.mark.parametrize(
    "other",
    [
        {"ids": [f"x{n}" for n in range(120)]},
        {"ids": [*IDS[:-1], "x"]},
        {"split": "test"},  # whose examples are called the same
    ],
)
def test_other_examples_are_not_paired(study, other):
    study.add("a", HARD + 2 + noise(1))
    study.add("b", HARD, **other)
    assert study.judged("difference", PAIR)["method"] == APART


def test_another_dataset_with_the_same_ids_is_not_paired(study):
    study.add("a", HARD + 2, dataset="d")
    study.add("a", HARD, dataset="e")
    found = study.judged(
        "difference", {"column": "score", "of": {"dataset": "d"}, "to": {"dataset": "e"}}
    )
    assert found["method"] == APART


def test_examples_of_other_results_than_the_summary_s_are_not_believed(study):
    study.add("a", HARD + 2 + noise(1))
    study.add("b", HARD)
    study.rows[0] |= {"score": 90.0, "score_ci_low": 88.0, "score_ci_high": 92.0}
    assert study.judged("difference", PAIR)["method"] == APART


def test_the_lead_is_as_uncertain_as_the_score_and_of_the_same_examples(study):
    """Shared good and bad examples make it surer than an exact lead, others less sure."""
    independent = np.random.default_rng(9).permutation(HARD)
    given = {"column": "score", "to": {"column": "score_lead"}}
    widths = []
    for model, lead in (("a", HARD - 4), ("b", independent)):
        study.rows, study.cells = [], []
        study.add(
            model,
            {"f1": HARD, "lead_f1": lead, "ceiling_f1": HARD + 10},
            score_lead=round(float(lead.mean()), 4),
        )
        found = study.judged("difference", given)
        assert found["method"].startswith(PAIRED)
        widths.append(np.subtract(*found["interval"][::-1]))
    exact = np.subtract(*(study.rows[0][f"score_ci_{end}"] for end in ("high", "low")))
    assert widths[1] > 1.2 * exact > exact > widths[0] * 0.9
    ratio = study.judged("ratio", {**given, "above": 0})
    assert ratio["method"].startswith(PAIRED) and ratio["interval"][0] < 1 < ratio["interval"][1]


def test_a_ceiling_that_is_reached_exactly_still_has_width(study):
    study.add(
        "a", {"f1": np.full(120, 100.0), "ceiling_f1": np.full(120, 100.0)}, score_ceiling=100.0
    )
    found = study.judged(
        "difference", {"column": "score", "to": {"column": "score_ceiling"}, "at_least": -1}
    )
    assert found["number"] == 0 and found["interval"][0] < -2 and found["status"] == UNCLEAR


def test_a_baseline_alone_has_an_interval_over_examples(study):
    study.add("a", {"f1": HARD, "lead_f1": HARD}, score_lead=round(float(HARD.mean()), 4))
    found = study.judged("value", {"column": "score_lead"})
    assert found["interval"][0] < found["number"] < found["interval"][1]


def test_several_seeds_have_an_interval_over_seeds_and_examples(study):
    for seed, shift in ((1, 0.0), (2, 0.4), (3, -0.4)):
        study.add("a", HARD + 3 + shift + noise(seed), seed=seed)
        study.add("b", HARD + shift + noise(seed + 10), seed=seed)
    found = study.judged("difference", PAIR)
    assert (
        found["method"] == f"{OVER_SEEDS} and {PAIRED}, added as squares"
        and found["status"] == HOLDS
    )
    sides = [Scores([Sample.of(IDS, (HARD + up + shift + noise(seed + more)).round(4)[:, None])
                     for seed, shift in ((1, 0.0), (2, 0.4), (3, -0.4))], Resampling(500))
             for up, more in ((3, 0), (0, 10))]  # fmt: skip
    low, high, _ = difference_of(*sides)
    assert found["interval"][0] < low < high < found["interval"][1], (
        "wider than over examples alone"
    )
    alone = study.judged("value", {"column": "score", "of": {"model": "a"}, "above": 30})
    assert alone["method"].startswith(OVER_SEEDS) and "examples" in alone["method"]
    ratio = study.judged("ratio", {**PAIR, "above": 1})
    assert ratio["status"] == HOLDS and ratio["method"].startswith(OVER_SEEDS)


def test_other_seeds_on_the_same_examples_are_paired_by_example_alone(study):
    for seed in (1, 2, 3):
        study.add("a", HARD + 3 + noise(seed, 2), seed=seed)
    for seed in (7, 8):
        study.add("b", HARD + noise(seed, 2), seed=seed)
    found = study.judged("difference", PAIR)
    assert found["method"].startswith(OVER_SEEDS) and PAIRED in found["method"]
    assert found["interval"][0] < 3 < found["interval"][1]


def test_one_seed_against_a_number_keeps_the_summary_s_interval(study):
    study.add("a", HARD)
    found = study.judged("difference", {"column": "score", "to": {"value": 90}})
    assert found["method"] == OVER_EXAMPLES and found["status"] == FAILS
    low = study.rows[0]["score_ci_low"]
    assert found["interval"][0] == pytest.approx(low - 90, abs=1e-3)


def test_references_that_count_alone_are_drawn_by_their_example(study):
    three = [f"{id_}#{n}" for id_ in IDS for n in range(3)]
    examples = [id_ for id_ in IDS for _ in range(3)]
    for model, gain in (("a", 1.0), ("b", 0.0)):
        values = np.repeat(HARD + gain * (1 + noise(5)), 3)
        study.add(model, {"example": examples, "f1": values}, ids=three)
    found = study.judged("difference", PAIR)
    low, high = found["interval"]
    sides = [
        Scores([Sample.of(IDS, (HARD + gain * (1 + noise(5)))[:, None])], Resampling(500))
        for gain in (1, 0)
    ]
    assert (low, high) == pytest.approx(paired_difference(*sides, True).ends, abs=2e-3), (
        "as one reference would"
    )


def test_classes_and_the_majority_are_compared_by_example(study):
    gold = ["x"] * 90 + ["y"] * 30
    said = ["x"] * 80 + ["y"] * 40
    table = {"f1": np.zeros(120),
             "accuracy": [100.0 * (g == s) for g, s in zip(gold, said, strict=True)],
             "label": gold, "prediction": said,
             "majority": [100.0 * (g == "x") for g in gold]}  # fmt: skip
    accuracy = float(np.mean(table["accuracy"]))
    study.add(
        "a",
        table,
        score_name="accuracy",
        score=accuracy,
        accuracy=accuracy,
        majority=75.0,
        macro_f1=None,
    )
    found = study.judged("difference", {"column": "accuracy", "to": {"column": "majority"}})
    assert found["method"] == PAIRED and found["number"] == pytest.approx(accuracy - 75)
    assert found["interval"][0] < found["number"] < found["interval"][1]


def test_all_of_it_is_json(study):
    study.add("a", HARD + 2 + noise(1))
    study.add("b", HARD)
    json.dumps(study.judged("difference", PAIR))


@pytest.mark.parametrize("damaged", ["", "nothing\n1\n", 'id,f1\n"e0,1\n'])
def test_a_damaged_file_is_named_with_what_to_do(study, damaged):
    study.add("a", HARD)
    study.add("b", HARD)
    path = study.results / study.rows[0]["cell"] / "predict/greedy/examples.csv"
    path.write_text(damaged)
    with pytest.raises(
        Damaged, match=r"d/a/seed1/predict/greedy/examples\.csv is damaged .*run again"
    ):
        study.judged("difference", PAIR)


UNICODE = ("rouge1_unicode", "rouge2_unicode", "rougeL_unicode", "f1_unicode")


@pytest.mark.parametrize("column", ["score", *UNICODE, "rouge_unicode_geometric_mean"])
def test_scores_of_unicode_words_are_paired_too(study, column):
    for model, values in (("a", HARD + 2 + noise(1)), ("b", HARD)):
        mean = round(float(values.round(4).mean()), 4)
        name = "rouge_unicode_geometric_mean"
        known = {**dict.fromkeys((*UNICODE, name, "score"), mean), "score_name": name}
        study.add(model, {"f1": values, **dict.fromkeys(UNICODE, values)}, **known)
    found = study.judged("difference", {**PAIR, "column": column})
    assert (
        found["status"] == HOLDS
        and found["method"] == PAIRED
        and 1 < found["interval"][0] < found["interval"][1] < 3
    )


def test_every_score_of_examples_is_a_column_that_claims_pair():
    scores = {*METRICS.values(), *(part for name in METRICS.values() for part in score_parts(name))}
    assert (
        scores <= {*OF_EXAMPLES}
        and scores <= {*ACCURACIES}
        and scores <= {*SCORE_COLUMNS}
        and scores <= {*NUMBER_COLUMNS}
    )


def test_an_interval_s_end_of_random_weights_decides_nothing_either(study):
    study.add("a", HARD, initialisation="random")
    found = study.judged("value", {"column": "score_ci_low", "above": 0})
    assert found["status"] == UNCLEAR and found["notes"] == ["random weights"]


def test_flags_of_an_energy_that_a_number_is_not_made_of_are_not_its_own(study):
    energy = {"train_energy_source": "nvml_counter", "inference_energy_source": "estimate",
              "train_energy_kwh": 2.0,
              "inference_energy_kwh": 1.0}  # fmt: skip
    study.add("a", HARD, **energy, inference_energy_flags="short")
    study.add(
        "b", HARD, **{**energy, "inference_energy_source": "nvml_counter"}, train_energy_flags="gap"
    )
    other = {"model": "b", "column": "inference_energy_kwh"}
    found = study.judged("ratio", {"column": "train_energy_kwh", "of": {"model": "a"}, "to": other})
    assert (found["status"], found["notes"]) == (HOLDS, [])


@pytest.mark.parametrize(
    ("lost", "column", "status"),
    [
        ("standard", "relative_time", UNCLEAR),
        ("standard", "speedup_at_equal_accuracy_ci_low", UNCLEAR),
        ("standard", "accuracy_over_efficient", HOLDS),
        ("efficient", "accuracy_over_efficient", UNCLEAR),
        ("standard efficient", "train_time_over_standard", UNCLEAR),
        ("standard", "mean_layers", HOLDS),
        (None, "relative_time", HOLDS),
        (float("nan"), "relative_time", HOLDS),
    ],
)
def test_nothing_is_claimed_relative_to_a_baseline_that_diverged(study, lost, column, status):
    study.add("a", HARD, diverged_baselines=lost, **{column: 1.0})
    found = study.judged("value", {"column": column})
    assert found["status"] == status and ("training diverged" in found["notes"]) == (
        status == UNCLEAR
    )


def test_a_confidence_of_a_half_makes_no_interval_without_width(study):
    study.add("a", HARD + noise(1))
    study.add("b", HARD)
    low, high = study.judged("equivalent", {**PAIR, "within": 5}, confidence=0.5)["interval"]
    assert low < high
