"""The path of attention as a study chooses it: settings, checks, names, claims."""

import pytest

from longwatt.config.documents import merge
from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.provenance.stamps import digest
from longwatt.study import settings
from longwatt.study.cells import Cell, expand
from longwatt.study.checks import checked_stages
from longwatt.study.claims import list_tests, point_of
from longwatt.study.reported.report_settings import claim_cells, headings, titles
from longwatt.study.settings_in_force import groups, in_force
from tests.conftest import ROOT

SCHEMA = ROOT / "workflow/schemas/study.schema.json"
CHECKPOINT = {"initialisation": "checkpoint", "repository": "a/led-small", "revision": "0" * 40}
BATCH = {"per_device_batch_size": "largest", "memory_gib_per_gpu": 1}


def cell(model: str) -> Cell:
    return Cell("needle", model, 64, "cpu", "generated", 1)


@pytest.fixture
def study(tmp_path, tiny_study_text) -> dict:
    """The tiny study with its LED twice, by either path, and a BART."""
    (tmp_path / "s.yaml").write_text(tiny_study_text)
    found = read_study(tmp_path / "s.yaml", SCHEMA)
    led = found["models"]["led"]
    bart = {**led, "family": "seq2seq", "config": {"model_type": "bart"}}
    found["models"] = {"slow": {**led, "attention": "stock"}, "quick": led, "bart": bart}
    found["grid"][0]["models"] = list(found["models"])
    return found


def asked(study: dict, **entry) -> dict:
    """The study with these keys in the entry of BART."""
    return merge(study, {"models": {"bart": entry}})


def test_trainings_predictions_and_probes_differ_by_their_path(study):
    paths = {"slow": "stock", "quick": "fast", "bart": "stock"}
    study = merge(study, {"budgets": {"cpu": BATCH}})
    stages = checked_stages("s", study, {})
    for model, path in paths.items():
        chosen = stages.finetune(cell(model).name).settings
        assert chosen["model"]["attention"] == path
        assert settings.probe_settings(chosen)["model"]["attention"] == path
        assert stages.predict(cell(model).name, "greedy").settings["attention"] == path
    slow, quick = (cell(name).name for name in ("slow", "quick"))
    assert digest(dict(stages.finetune(slow).settings)) != digest(
        dict(stages.finetune(quick).settings)
    )
    assert stages.probe(slow).split("-")[-1] != stages.probe(quick).split("-")[-1]
    assert len(stages.probes) == 6
    assert stages.score(slow, "greedy").settings == stages.score(quick, "greedy").settings


def test_a_default_that_is_written_out_changes_nothing(study):
    stated = merge(study, {"models": {"quick": {"attention": "fast"}}})
    chosen = [settings.finetune_settings(one, cell("quick")) for one in (study, stated)]
    assert chosen[0] == chosen[1]


def test_both_paths_of_a_model_share_download_and_tokens(study):
    both = {name: {**study["models"][name], **CHECKPOINT} for name in ("slow", "quick")}
    for entry in both.values():
        del entry["config"]
    stages = checked_stages("s", merge(study, {"models": both}), {})
    assert len(stages.models) == 1 and len(stages.pairs()) == 1
    (key,) = stages.models
    assert key.startswith("led-small-")
    chosen = [stages.finetune(cell(name).name).settings for name in both]
    assert {(one["checkpoint"], one["tokens"]) for one in chosen} == {(key, chosen[0]["tokens"])}


@pytest.mark.parametrize("attention", ["fast", "quick"])
def test_what_a_family_lacks_is_refused_by_model_and_key(study, attention):
    said = f"models.bart.attention: '{attention}' is asked for, but the family seq2seq offers stock"
    with pytest.raises(StudyError, match=said):
        checked_stages("s", asked(study, attention=attention), {})


def test_examples_are_packed_only_by_families_that_can(study):
    said = (
        "training.packing is true, but the family led pads its batches; families that pack: "
        "causal. Set it to false in the `training` of models.slow"
    )
    packed = merge(study, {"training": {"packing": True}})
    with pytest.raises(StudyError, match=said):
        checked_stages("s", packed, {})
    padded = {"training": {"packing": False}}
    allowed = merge(packed, {"models": dict.fromkeys(("slow", "quick", "bart"), padded)})
    assert "packing" not in training_of(checked_stages("s", allowed, {}), "slow")


def test_packed_rows_have_no_padding_to_ask_for(study):
    causal = {"family": "causal", "config": {"model_type": "llama"}}
    one = merge(study, {"models": {"bart": causal}, "training": {"packing": True}})
    one["grid"][0]["models"] = ["bart"]
    assert training_of(checked_stages("s", one, {}), "bart")["packing"] is True
    with pytest.raises(StudyError, match=r"packing is true, but training\.padding is max_length"):
        checked_stages("s", merge(one, {"training": {"padding": "max_length"}}), {})


def training_of(stages, model: str) -> dict:
    return stages.finetune(cell(model).name).settings["training"]


def test_a_misspelt_path_is_refused_when_the_study_is_read(tmp_path, tiny_study_text):
    text = tiny_study_text.replace("family: led", "family: led\n    attention: stok")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(StudyError, match="'stok' is not known"):
        read_study(tmp_path / "s.yaml", SCHEMA)


def test_one_title_of_two_paths_is_told_apart(study):
    for name, entry in study["models"].items():
        entry["title"] = "LED" if name != "bart" else "BART"
    found = titles(study)
    assert [found[name] for name in study["models"]] == [
        "LED, stock attention", "LED, fast attention", "BART",
    ]  # fmt: skip
    assert "LED, fast attention, 64 tokens" in headings(study, {"a": cell("quick")})["a"]
    study["models"]["slow"]["title"] = "LED as it was"
    assert [titles(study)[name] for name in ("slow", "quick")] == ["LED as it was", "LED"]
    study["models"]["again"] = {**study["models"]["quick"], "title": "LED"}
    assert titles(study)["again"] == "LED", "the same path needs no name"


def test_settings_in_force_show_the_path(study):
    def shown(name: str) -> dict:
        chosen = settings.finetune_settings(study, cell(name))
        point = {"greedy": settings.predict_settings(study, cell(name), "greedy")}
        scored = {"greedy": settings.score_settings(study, cell(name), "greedy")}
        return in_force(chosen, point, scored)

    found = groups({name: cell(name) for name in ("slow", "quick")}, shown)
    assert [group["settings"]["attention"] for group in found] == ["stock", "fast"]
    older = settings.finetune_settings(study, cell("slow"))
    del older["model"]["attention"]
    assert "attention" not in in_force(older, {}, {})


def test_the_published_studies_take_the_published_path():
    for name in ("paper", "paper_as_published", "paper_cost"):
        stages = checked_stages(name, read_study(ROOT / f"studies/{name}.yaml", SCHEMA), {})
        paths = {stages.finetune(one).settings["model"]["attention"] for one in stages.cells}
        assert paths == {"stock"}, name


def test_the_other_studies_take_their_families_default():
    for name, paths in (("demo", {"fast"}), ("qmsum", {"fast", "stock"})):
        stages = checked_stages(name, read_study(ROOT / f"studies/{name}.yaml", SCHEMA), {})
        assert {settings.attention(stages.study, m) for m in stages.study["models"]} == paths


def test_the_shipped_study_compares_every_cell_with_its_twin():
    study = read_study(ROOT / "studies/attention.yaml", SCHEMA)
    stages = checked_stages("attention", study, {})
    cells = stages.judge_claims().settings["cells"]
    points = {point_of(one) for one in cells}
    tests = [test for name, one in stages.claims.items() for test in list_tests(name, one)]
    for test in tests:
        pairs = test.comparisons(points)
        named = {(a.model, b.model, a.seq_len == b.seq_len) for a, b in pairs}
        assert len(pairs) == 4 and test.alone(points, pairs) == []
        assert named == {
            ("led_fast", "led_stock", True), ("bigbird_fast", "bigbird_stock", True),
        }  # fmt: skip
    batches = {
        (one.seq_len, settings.finetune_settings(study, one)["budget"]["per_device_batch_size"])
        for one in expand(study).values()
    }
    assert batches == {(2048, 2), (4096, 2)}, "the same batches on both paths"
    assert len(stages.models) == 2, "each checkpoint is downloaded once"


# Claims.


def points(study: dict) -> list:
    cells = expand(study)
    inference = {name: ["greedy"] for name in cells}
    return [point_of(one) for one in claim_cells(study, cells, inference)]


def only_test(study: dict, kind: str, given: dict):
    claim = {"statement": "x", "tests": [{kind: given}]}
    return list_tests("c", claim)[0], points(study)


def compared(study: dict, kind: str, **given) -> list[tuple[str, ...]]:
    """The models of each comparison at one length."""
    test, there = only_test(study, kind, {"column": "score", "above": 0, **given})
    found = test.comparisons(there)
    return [tuple(p.model for p in group) for group in found if group[0].seq_len == 64]


def test_cells_are_selected_by_their_path(study):
    assert compared(study, "value", of={"attention": "fast"}) == [("quick",)]
    assert compared(study, "value", of={"attention": "stock"}) == [("bart",), ("slow",)]
    assert len(compared(study, "value", of={"attention": ["fast", "stock"]})) == 3


def test_the_other_path_is_that_of_the_same_model(study):
    of = {"attention": "fast"}
    assert compared(study, "difference", of=of, to={"attention": "stock"}) == [("quick", "slow")]
    pair = [("quick", "slow"), ("quick", "bart")]
    models = {"model": ["slow", "bart"], "attention": "stock"}
    assert compared(study, "difference", of=of, to=models) == pair
    assert compared(study, "difference", of=of, to={**models, "attention": "fast"}) == []
    assert compared(study, "difference", of=of, to={"model": "slow"}) == [("quick", "slow")]


def test_another_length_may_have_the_other_path(study):
    test, there = only_test(
        study, "ratio",
        {"column": "score", "of": {"attention": "fast", "seq_len": 64},
         "to": {"attention": "stock", "seq_len": "shorter"}, "above": 0},
    )  # fmt: skip
    ((one, other),) = test.comparisons(there)
    assert (one.model, one.seq_len, other.model, other.seq_len) == ("quick", 64, "slow", 32)


def test_a_cell_without_a_twin_is_named(study):
    study["models"]["quick"] = merge(study["models"]["quick"], {"config": {"d_model": 32}})
    test, there = only_test(
        study, "difference", {"column": "score", "to": {"attention": "stock"}, "above": 0}
    )
    assert test.comparisons(there) == []
    assert {point.model for point in test.alone(there, [])} == {"quick"}


def test_paths_vary_within_a_model_and_models_across_paths(study):
    assert compared(study, "variation", across="attention") == [("quick", "slow")]
    assert compared(study, "variation", across="model") == [("bart", "quick", "slow")]
    test, there = only_test(
        study, "correlation", {"between": ["seq_len", "score"], "within": ["attention"]}
    )
    groups_ = [{p.attention for p in group} for group in test.comparisons(there)]
    assert groups_ == [{"fast"}, {"stock"}]


def test_what_a_search_made_of_both_paths_are_twins(study):
    for name in ("slow", "quick"):
        study["models"][name]["search"] = {"learning_rate": [1e-3, 2e-3]}
    from longwatt.config.expansion import write_out

    found = write_out(study, "s")
    wanted = [("quick", "slow")]
    assert compared(found, "difference", of={"attention": "fast"}, to={"attention": "stock"}) == (
        wanted
    )


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("of: {attention: fats}", "unknown attention 'fats' .did you mean 'fast'"),
        ("of: {attention: stock}", "unknown attention 'stock'"),
        ("to: {attention: stock}", "unknown attention 'stock'"),
    ],
)
def test_a_path_that_no_cell_has_is_refused(tmp_path, tiny_study_text, selector, said):
    other = "" if selector.startswith("to") else ", to: {seq_len: next}"
    test = f"difference: {{column: score, {selector}{other}, above: 0}}"
    claims = f"claims:\n  one:\n    statement: It is.\n    tests:\n      - {test}\n"
    (tmp_path / "s.yaml").write_text(tiny_study_text + claims)
    with pytest.raises(StudyError, match=said):
        checked_stages("s", read_study(tmp_path / "s.yaml", SCHEMA), {})
