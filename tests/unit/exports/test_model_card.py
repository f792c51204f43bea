"""Model cards: metadata as the hub documents it, read back by its own library."""

import copy
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from longwatt.exports.facts import facts_of_study
from longwatt.exports.formats import model_card_problems
from longwatt.exports.known import LeftOut, NothingToExport
from longwatt.exports.model_card import model_card
from longwatt.layout.escaping import in_markdown
from tests.exported_study import ADAPTED, BASIS, ESTIMATED, LATER, ODD, UNKNOWN
from tests.unit.exports.conftest import RESULTS
from tests.unit.exports.test_boamps import everything, redeclared


def card_of(study, name, left_out=None):
    (cell,) = [one for one in study.cells if one.cell == name]
    text = model_card(study, cell, left_out or LeftOut())
    return text, yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("name", [ADAPTED, ESTIMATED, LATER, UNKNOWN])
def test_metadata_is_valid_and_read_back_by_the_hubs_library(study, name):
    text, metadata = card_of(study, name)
    assert model_card_problems(metadata) == []
    read = ModelCard(text)
    assert read.data.to_dict() == metadata
    assert read.data.eval_results[0].metric_value == 12.5


@pytest.mark.parametrize("name", [ADAPTED, ESTIMATED, LATER, UNKNOWN])
def test_no_card_says_anything_of_what_is_not_known(study, name):
    text, metadata = card_of(study, name)
    values = list(everything(metadata))
    assert not [value for value in values if value in (None, "NA", "None", "nan", "")]
    assert "nan" not in text.lower().split() and "None" not in text and " NA " not in text


def test_a_card_of_adapters_names_its_base_data_licence_and_carbon(study):
    text, metadata = card_of(study, ADAPTED)
    assert metadata["base_model"] == "HuggingFaceTB/SmolLM2-135M"
    assert metadata["base_model_relation"] == "adapter" and metadata["library_name"] == "peft"
    assert metadata["datasets"] == ["tau/scrolls"] and metadata["license"] == "cc-by-4.0"
    carbon = metadata["co2_eq_emissions"]
    (cell,) = [one for one in study.cells if one.cell == ADAPTED]
    assert carbon["emissions"] == cell.training.row["train_gco2e"]
    assert carbon["emissions"] == pytest.approx(50 * cell.training.row["train_energy_kwh"])
    assert carbon["training_type"] == "fine-tuning"
    assert carbon["geographical_location"] == "Grenoble, France"
    assert carbon["hardware_used"] == "2 x NVIDIA H200"
    assert "measured" in carbon["source"] and "(the grid's operator, 2025)" in carbon["source"]
    assert "zero_shot (before training)" in text


def test_scores_have_their_split_and_interval_and_are_of_the_trained_model_alone(study):
    _, metadata = card_of(study, LATER)
    (index,) = metadata["model-index"]
    found = {
        (result["dataset"]["split"], metric["args"]["inference"]): metric
        for result in index["results"]
        for metric in result["metrics"]
    }
    assert set(found) == {("validation", "greedy"), ("test", "tested")}, "and no cascade"
    metric = found["test", "tested"]
    assert (metric["type"], metric["value"]) == ("f1", 12.5)
    ends = [metric["args"][f"interval_{end}"] for end in ("low", "high", "confidence")]
    assert ends == [10.0, 15.0, 0.95] and metric["args"]["examples"] == 12
    _, adapted = card_of(study, ADAPTED)
    points = [m["args"]["inference"] for m in adapted["model-index"][0]["results"][0]["metrics"]]
    assert points == ["greedy"], "and not the model before training"


def test_an_estimate_is_called_one(study):
    text, metadata = card_of(study, ESTIMATED)
    assert f"estimated, not measured, from CPU time and {BASIS}" in text
    assert "estimated, not measured" in metadata["co2_eq_emissions"]["source"]
    assert "training_type" not in metadata["co2_eq_emissions"], "random weights are neither"


def test_unknown_energy_leaves_carbon_out_and_is_said(study):
    left_out = LeftOut()
    text, metadata = card_of(study, UNKNOWN, left_out)
    assert "co2_eq_emissions" not in metadata and "Energy is not known." in text
    assert "co2_eq_emissions" in left_out.found


def test_undeclared_metadata_is_left_out_and_the_way_to_declare_it_is_said(study):
    left_out = LeftOut()
    bare = facts_of_study(RESULTS, redeclared(study).current, {"cell": ESTIMATED})
    _, metadata = card_of(bare, ESTIMATED, left_out)
    absent = {"license", "language", "datasets", "base_model", "co2_eq_emissions"}
    assert not absent & set(metadata)
    lines = "\n".join(left_out.lines())
    assert "export: {license: ...} in studies/told.yaml" in lines and "carbon: {...}" in lines


def test_texts_with_markup_are_shown_and_do_nothing(study):
    text, _ = card_of(study, ESTIMATED)
    assert f"\n# {in_markdown(ODD)}, led, 32 tokens" in text
    body = text.split("---\n", 2)[2]
    assert not re.search(r"(?<!\\)<[bi]>", body) and "| dataset " in body


def test_a_cell_that_is_not_trained_has_no_card(study):
    (cell,) = [one for one in study.cells if one.cell == ADAPTED]
    with pytest.raises(NothingToExport, match="no finished training"):
        model_card(study, replace(cell, training=None), LeftOut())


WRONG = {
    "a licence that the hub does not write so": ("license", "Apache 2.0"),
    "emissions as text": ("co2_eq_emissions", "emissions", "4 g"),
    "emissions without a source": ("co2_eq_emissions", "source", None),
    "a training type of our own": ("co2_eq_emissions", "training_type", "lora"),
    "a data set that is no repository": ("datasets", ["a/b/c"]),
    "a relation that there is not": ("base_model_relation", "child"),
    "a score as text": ("model-index", 0, "results", 0, "metrics", 0, "value", "12.5"),
    "an unknown task": ("model-index", 0, "results", 0, "task", "type", "summaries"),
    "a misspelt key": ("licence", "mit"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrongly_filled_field_is_found(study, wrong):
    metadata = copy.deepcopy(card_of(study, ADAPTED)[1])
    *path, name, value = WRONG[wrong]
    place = metadata
    for step in path:
        place = place[step]
    place[name] = value
    assert model_card_problems(metadata) != []
