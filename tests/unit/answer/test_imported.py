"""Results of other programs: a documented CSV, and PEFT's comparison as the how-to converts it."""

import json
import re

import pytest

from longwatt.answer.choice import Limits
from longwatt.answer.facts import csv_facts
from longwatt.answer.imported import IMPORTED_COLUMNS, UnreadableResults, read_imported
from tests.conftest import ROOT

HEAD = "model,score,n_examples,train_kwh,joules_per_request,ms_per_request,memory_gib,energy,seed"
ROWS = (
    "small,40,500,1,36,10,4,measured,1",
    "small,44,500,3,36,10,4,measured,2",
    "large,60,500,9,72,20,8,estimate,1",
)


def written(tmp_path, *lines: str):
    path = tmp_path / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_seeds_are_one_point_and_costs_are_means(tmp_path):
    small, large = read_imported(written(tmp_path, HEAD, *ROWS))
    assert (small.id, small.score, small.seeds) == ("results/small", 42, ("1", "2"))
    assert small.costs(1_000_000)["lifecycle_energy"] == 2 + 10
    assert small.low < 40 and small.high > 44  # two seeds that differ by 4 say little
    assert large.costs(0) == {
        "train_energy": 9, "lifecycle_energy": 9, "inference_time": 20, "memory": 8, "money": None,
    }  # fmt: skip
    assert large.energy_source == "estimate" and large.imported and large.scores is None
    assert large.error == pytest.approx(100 * (0.6 * 0.4 / 500) ** 0.5)


def test_facts_of_a_csv_have_all_that_the_page_shows(tmp_path):
    facts = csv_facts(written(tmp_path, HEAD, *ROWS), Limits(requests=1000))
    json.dumps(facts, allow_nan=False)
    small, large = facts["points"]
    assert small["frontier"]["memory"]["status"] == "on" and large["imported"]
    assert small["frontier"]["money"] == {"status": None, "share": None, "by": []}
    assert len(small["resampled"]) == 200
    advice = facts["recommendations"]["results"]
    assert advice["chosen"] == small["id"] and "imported" in advice["words"][0]
    assert facts["claims"] == [] and facts["study"] == "results"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds no rows"),
        (["model,scores", "a,1"], r"unknown column 'scores' \(did you mean 'score'\?\)"),
        (["model", "a"], "the column 'score' is missing"),
        (["model,score", "a,high"], "line 2: score is 'high', not 0 to 100"),
        (["model,score", "a,50", "b,500"], "line 3: score is '500'"),
        (["model,score,train_kwh", "a,50,-1"], "train_kwh is '-1', not 0 or more"),
        (["model,score,memory_gib", "a,50,nan"], "memory_gib is 'nan'"),
        (["model,score", "a,0.5", "b,0.75"], "no score is above 1; give them from 0 to 100"),
        (["model,score", "a,50", "a,60"], "two rows of results/a have the seed"),
        (["model,score,energy", "a,50,guess"], "energy is 'guess', not measured or estimate"),
        (["model,score", ",50"], "the model has no name"),
        (["model,score,train_kwh", "a,50,1e308"], "train_kwh is 1e308, which no result can be"),
        (["model,score,seed,score_name", "a,50,1,f1", "a,60,2,em"], "have several score_name"),
        (["model;score", "a;50,5"], "parted by semicolons; save it with commas"),
        (["model,score,score", "a,50,60"], "the column 'score' is there twice"),
        (["model,score,seed", "a,50,1", "", "b,50,5,1"], "line 4: 4 fields under 3 columns"),
        (["model,score,score_low,score_high", "a,50,60,40"], "line 2: the score 50 is not between"),
        (["model,score,score_low", "a,50,40"], "score_low and score_high one is missing"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, lines, said):
    with pytest.raises(UnreadableResults, match=said):
        read_imported(written(tmp_path, *lines))


def test_what_spreadsheets_write_is_read(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("model, score,budget,energy\na, 50,NA,NA\n,,,\n\nb,60\n", encoding="utf-8-sig")
    a, b = read_imported(path)
    assert (a.id, a.budget, a.score, b.score) == ("results/a", "", 50, 60)
    path.write_text("model,score\n\xe9,50\n", encoding="latin-1")
    with pytest.raises(UnreadableResults, match="not in UTF-8; save it as"):
        read_imported(path)


def test_seeds_that_differ_widen_intervals_over_examples(tmp_path):
    head = "model,score,score_low,score_high,seed"
    (point,) = read_imported(written(tmp_path, head, "a,40,39,41,1", "a,60,59,61,2"))
    assert point.low == 0 and point.high == 100  # two seeds, 20 points apart


def test_a_full_score_of_few_examples_is_not_sure(tmp_path):
    (point,) = read_imported(written(tmp_path, "model,score,n_examples", "a,100,10"))
    assert point.error > 5


def test_unknown_numbers_are_unknown_and_never_0(tmp_path):
    (point,) = read_imported(written(tmp_path, "model,score,train_kwh,memory_gib", "a,50,NA,"))
    assert set(point.costs(1).values()) == {None} and point.error is None
    facts = csv_facts(written(tmp_path, "model,score,memory_gib", "a,50,2", "b,60,3"), Limits())
    assert facts["recommendations"]["results"]["sure"] is None
    words = " ".join(facts["recommendations"]["results"]["words"])
    assert "How sure the choice is, is not known" in words and "chosen by peak memory" in words


def synthetic_run(name: str, accuracy: float, memory_gib: float, seconds: float) -> dict:
    """A made-up result in the shape of PEFT's method comparison; no number is a real one's."""
    steps = [{"step": 250, "valid accuracy": accuracy / 2, "train loss": 1.0}]
    last = {"step": 500, "test accuracy": accuracy, "train loss": 0.7}
    return {
        "run_info": {"experiment_name": name, "created_at": "2000-01-01", "peft_config": {}},
        "train_info": {
            "accelerator_memory_max": int(memory_gib * 2**30), "train_time": seconds,
            "status": "success", "num_trainable_params": 1, "metrics": [*steps, last],
        },
        "meta_info": {"model_info": {}, "dataset_info": {}},
    }  # fmt: skip


def test_the_how_to_converts_results_of_the_shape_of_pefts_comparison(tmp_path, monkeypatch):
    guide = (ROOT / "docs/how-to/choose.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    runs = {"lora r8": (0.40, 20, 1800), "lora r64": (0.41, 22, 1900), "full": (0.55, 60, 3600)}
    (tmp_path / "peft").mkdir()
    for name, run in runs.items():
        (tmp_path / f"peft/{name}.json").write_text(json.dumps(synthetic_run(name, *run)))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "choose.md", "exec"), {})
    points = {point.model: point for point in read_imported(tmp_path / "peft.csv")}
    assert points["full"].score == pytest.approx(55) and points["full"].costs(0)["memory"] == 60
    assert points["full"].energy_source == "estimate"
    facts = csv_facts(tmp_path / "peft.csv", Limits(min_score=35, requests=0))
    assert facts["recommendations"]["gsm8k"]["chosen"] == points["lora r8"].id


def test_the_reference_lists_every_column():
    page = (ROOT / "docs/reference/results.md").read_text()
    assert [name for name in IMPORTED_COLUMNS if f"`{name}`" not in page] == []


def test_points_of_unknown_spread_have_places_as_measured_without_a_share(tmp_path):
    rows = ("model,score,train_kwh,joules_per_request", "a,50,1,1", "b,40,2,2")
    facts = csv_facts(written(tmp_path, *rows), Limits())
    places = [one["frontier"]["lifecycle_energy"] for one in facts["points"]]
    assert [one["status"] for one in places] == ["on", "dominated"]
    assert {one["share"] for one in places} == {None}
    assert not any(one["spread_known"] for one in facts["points"])


def test_results_without_costs_say_which_columns_would_help(tmp_path):
    facts = csv_facts(written(tmp_path, "model,score", "a,50"), Limits())
    assert "Add train_kwh and joules_per_request" in facts["recommendations"]["results"]["words"][0]


def test_what_spreadsheets_add_to_a_csv_is_dropped(tmp_path):
    (found,) = read_imported(written(tmp_path, "\ufeffmodel, score ,seed", "m , 50,1", "m,60,2"))
    assert (found.id, found.score, found.seeds) == ("results/m", 55, ("1", "2"))
