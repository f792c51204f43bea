import pytest

from longwatt.answer.page_facts import (
    claim_rows,
    columns,
    default_cost,
    energy_notes,
    notes_on,
    page_facts,
    point_rows,
)
from tests.answer_facts import synthetic_facts


def test_energy_comes_first_where_any_is_known():
    assert default_cost(synthetic_facts(3)["points"]) == "lifecycle_energy"
    timed = synthetic_facts(3, energy=False)["points"]
    assert default_cost(timed) == "inference_time"
    for point in timed:
        point["costs"] = {**point["costs"], "inference_time": None}
    assert default_cost(timed) == "memory"
    assert default_cost([]) == "lifecycle_energy"


def test_caveats_stand_beside_the_name():
    point = {"random_weights": True, "diverged": True, "imported": True}
    point |= {"energy_source": "estimate", "energy_flags": ["shared_gpu"]}
    assert notes_on(point) == (
        "random weights, diverged, imported, energy estimated, energy flagged shared_gpu"
    )
    assert notes_on({"energy_source": "measured"}) == ""


def test_money_has_a_column_in_its_currency_where_some_is_known():
    facts = synthetic_facts(2)
    assert "money" not in columns(facts)
    facts["points"][0]["costs"]["money"] = 2.5
    facts["currency"] = "EUR"
    assert columns(facts)["money"] == "Cost (EUR)"


def test_columns_that_no_point_fills_are_left_out():
    facts = synthetic_facts(2)
    for point in facts["points"]:
        point |= {"seq_len": None, "budget": "", "seeds": []}
    assert not {"seq_len", "budget", "seeds"} & set(columns(facts))
    assert set(columns(facts)) >= {"inference", "score", "memory"}


def test_what_is_estimated_flagged_and_unknown_is_explained():
    facts = synthetic_facts(64)
    facts["points"][0] |= {"energy_source": None, "energy_flags": ["short", "shared_gpu"]}
    text = " ".join(energy_notes(facts))
    assert text.startswith(facts["energy"]["words"][0])
    assert "read from no meter" in text and "Measured energy" in text and "is NA" in text
    assert "Flag short: the energy is of less than 5 s" in text and "energy_log.md" in text
    imported = {"imported": True, "energy_source": "estimate"}
    words = energy_notes({"points": [imported], "energy": {"words": []}})
    assert words == ["Imported results say themselves how their energy is known."]


def test_rows_have_a_cell_for_every_column_and_say_what_is_unknown():
    facts = synthetic_facts(2)
    first = facts["points"][0]
    first["costs"] = {**first["costs"], "memory": None, "train_energy": 0.0}
    first |= {"seq_len": None, "score_low": None, "budget_title": None, "seeds": []}
    row = point_rows(facts)[0]
    assert ["cell", *(cell.column for cell in row.cells)] == list(columns(facts))
    texts = {cell.column: (cell.text, cell.value) for cell in row.cells}
    assert texts["memory"] == texts["seq_len"] == ("NA", "")
    assert texts["train_energy"] == ("0", "0.0")
    assert texts["budget"][0] == texts["seeds"][0] == "NA"
    assert texts["score"][0] == f"{first['score']:.1f}"


def test_the_page_embeds_few_of_the_points_that_dominate():
    facts = synthetic_facts(64)
    embedded = page_facts(facts)
    fronts = [front for point in embedded["points"] for front in point["frontier"].values()]
    assert max(len(front["by"]) for front in fronts) == 3
    assert "cells" not in embedded["points"][0] and "claims" not in embedded


@pytest.mark.parametrize(
    "verdict, mark", [("supported", "good"), ("contradicted", "bad"), ("not decidable", "open")]
)
def test_verdicts_are_words_with_a_colour(verdict, mark):
    claim = {"id": "a", "statement": "b", "verdict": verdict, "notes": None}
    assert claim_rows({"claims": [claim]}) == [
        {"id": "a", "statement": "b", "verdict": verdict, "mark": mark, "notes": ""}
    ]
