"""Study files: schema, nearest key, normalised types."""

import json
from pathlib import Path

import pytest

from longwatt.config.documents import merge, normalise, read_yaml, validate
from longwatt.config.errors import StudyError
from longwatt.config.studies import find_study, read_study
from tests.conftest import ROOT


def read(tmp_path: Path, text: str, schema: Path) -> dict:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return read_study(path, schema)


def test_a_valid_study_is_read(tmp_path, tiny_study_text, study_schema):
    study = read(tmp_path, tiny_study_text, study_schema)
    assert study["training"]["learning_rate"] == 0.001
    assert study["models"]["led"]["config"]["d_model"] == 16


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "learning_rate:",
            "learning_rat:",
            "unknown key 'learning_rat' (did you mean 'learning_rate'?)",
        ),
        ("max_examples: 6", "max_example: 6", "training.validation: unknown key 'max_example'"),
        ("gpus: 0", "gpus: none", "budgets.cpu.gpus: expected a whole number, but found 'none'"),
        ("seq_lens: [32, 64]", "seq_lens: []", "grid.0.seq_lens"),
        (
            "metric: f1",
            "metric: f2",
            "datasets.needle.metric: 'f2' is not known (did you mean 'f1'?); known: rouge, f1",
        ),
        ("title: Tiny\n", "", "'title' is a required property; add it"),
        (
            "learning_rate: 1e-3",
            "learning_rate: fast",
            "training.learning_rate: expected a number, but found 'fast'",
        ),
        (
            "vocab_size: 600",
            "vocabsize: 600",
            "unknown key 'vocabsize' (did you mean 'vocab_size'?)",
        ),
        ("_size: 4}", "_size: largets}", "but found 'largets' (did you mean 'largest'?)"),
        ("_size: 4}", "_size: {led: {32: largets}}}", "expected a whole number or largest"),
        ("_size: 4}", "_size: 0}", "per_device_batch_size"),
        ("gpus: 0,", "gpus: 0, processes: 0,", "processes"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    tmp_path, tiny_study_text, study_schema, old, new, said
):
    assert old in tiny_study_text
    with pytest.raises(StudyError) as refused:
        read(tmp_path, tiny_study_text.replace(old, new, 1), study_schema)
    assert said in str(refused.value)
    assert "study.yaml" in str(refused.value)


def test_an_exponent_without_a_dot_is_a_number(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 2e-5\nb: 1E3\nc: e5\nd: '2e-5'\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 2e-5, "b": 1000.0, "c": "e5", "d": "2e-5"}


def test_a_repeated_key_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(StudyError, match=r"a\.yaml, line 3: the key c is given twice"):
        read_yaml(tmp_path / "a.yaml")


def test_an_anchor_may_be_merged(tmp_path):
    (tmp_path / "a.yaml").write_text("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n")
    assert read_yaml(tmp_path / "a.yaml")["y"] == {"a": 1, "b": 3}


def test_a_mapping_that_is_merged_where_it_stands_may_be_used_again(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "c: &c {a: 1, b: 2}\nx: {<<: &d {<<: *c, b: 3}, e: 4}\ny: *d\nz: {<<: *d}\n"
    )
    read = read_yaml(tmp_path / "a.yaml")
    assert read["x"] == {"a": 1, "b": 3, "e": 4} and read["y"] == read["z"] == {"a": 1, "b": 3}
    (tmp_path / "b.yaml").write_text("x:\n  <<: {a: 1, a: 2}\n")
    with pytest.raises(StudyError, match=r"b\.yaml, line 2: the key a is given twice"):
        read_yaml(tmp_path / "b.yaml")


def test_an_unknown_study_names_the_nearest(tmp_path):
    (tmp_path / "demo.yaml").write_text("")
    with pytest.raises(StudyError, match="did you mean 'demo'"):
        read_yaml(tmp_path / "dmeo.yaml")


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path):
    with pytest.raises(StudyError, match=r"xxx\.yaml cannot be read: File name too long"):
        read_yaml(tmp_path / f"{'x' * 300}.yaml")


def test_broken_yaml_and_broken_utf8_name_the_file(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [1\n")
    with pytest.raises(StudyError, match=r"(?s)a\.yaml is not YAML.*line 2"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(StudyError, match=r"b\.yaml is not UTF-8"):
        read_yaml(tmp_path / "b.yaml")


def test_one_spelling_per_value():
    assert repr(normalise({"b": 6.0, "a": [0.5, 2.0], 4: True})) == repr(
        {"4": True, "a": [0.5, 2], "b": 6}
    )


def test_later_layers_win_key_by_key():
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"d": 4}) == {
        "a": {"b": 3, "c": 2},
        "d": 4,
    }


CONFIG = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"carbon": {"grams_per_kwh": 300}}, "carbon: .*'source' is a required property; add it"),
        (
            {"carbon": {"grams_per_kwh": 300, "source": "x", "year": None}},
            "carbon.year: expected a whole number",
        ),
        ({"carbon": {"grams_per_kwh": -1, "source": "x", "year": 2025}}, "carbon.grams_per_kwh"),
        ({"carbon": {"gramms_per_kwh": 1}}, "carbon: unknown key 'gramms_per_kwh'.*grams_per_kwh"),
        ({"prices": {"per_kwh": "cheap"}}, "prices.per_kwh: expected a number"),
        ({"cores_per_cell": 1.5}, "cell: expected auto, all or a number of cores.* found 1.5\n"),
        ({"cores_per_cell": True}, "cell: expected auto, all or a number of cores.* found True\n"),
        ({"mirror": 5}, r'mirror: expected text or nothing.* quotation marks \("5"\)\n'),
        ({"mirror": 1.5}, "mirror: expected text or nothing .null., but found 1.5\n"),
        ({"pue": 0.9}, "pue: 0.9 is less than the minimum of 1"),
    ],
)
def test_wrong_figures_of_carbon_and_money_are_refused_by_name(given, said):
    with pytest.raises(StudyError, match=said):
        validate({"study": "demo", **given}, CONFIG, "config.yaml")


@pytest.mark.parametrize(
    "given",
    [{}, {"carbon": {"grams_per_kwh": None, "source": None, "year": None}},
     {"prices": {"per_kwh": 0.3}}, {"pue": 1.4},
     {"carbon": {"grams_per_kwh": 300, "source": "the grid", "year": 2025}}],
)  # fmt: skip
def test_figures_of_carbon_and_money_may_be_left_out(given):
    validate({"study": "demo", **given}, CONFIG, "config.yaml")


def test_a_study_may_extend_another_key_by_key(tmp_path, tiny_study_text, study_schema):
    (tmp_path / "base.yaml").write_text(tiny_study_text)
    own = "extends: base\ntitle: Mine\ntraining: {learning_rate: 0.5}\ngrid:\n  "
    own += "- {datasets: [needle], models: [led], seq_lens: [16], budgets: [cpu]}\n"
    study = read(tmp_path, own, study_schema)
    base = read_study(tmp_path / "base.yaml", study_schema)
    assert study["title"] == "Mine" and "extends" not in study
    assert study["training"] == {**base["training"], "learning_rate": 0.5}
    assert study["models"] == base["models"]
    assert [block["seq_lens"] for block in study["grid"]] == [[16]], (
        "a list is replaced, not added to"
    )
    assert "training" not in read(tmp_path, "extends: base\ntraining:\n", study_schema), "left out"


def test_a_study_whose_base_is_missing_or_itself_is_refused(
    tmp_path, tiny_study_text, study_schema
):
    (tmp_path / "base.yaml").write_text(tiny_study_text)
    with pytest.raises(
        StudyError,
        match=r"bas.yaml does not exist \(did you mean 'base'\?\); .* found: .*base",
    ):
        read(tmp_path, "extends: bas\n", study_schema)
    for wrong in ("../studies/base", "[base]", "base/x"):
        with pytest.raises(StudyError, match="extends: expected the name of a study, but found"):
            read(tmp_path, f"extends: {wrong}\n", study_schema)
    (tmp_path / "other.yaml").write_text("extends: study\n")
    with pytest.raises(StudyError, match="circle: study -> other -> study"):
        read(tmp_path, "extends: other\n", study_schema)
    with pytest.raises(StudyError, match="unknown key 'titel'"):
        read(tmp_path, "titel: x\n" + tiny_study_text, study_schema)


def test_inherited_claims_and_published_facts_can_be_taken_away_one_by_one(tmp_path, study_schema):
    for name in ("paper", "paper_cost"):
        (tmp_path / f"{name}.yaml").write_text((ROOT / f"studies/{name}.yaml").read_text())
    own = "extends: paper\nclaims: {07_base_and_longer_can_match_large: null}\n"
    own += "published: {datasets: {qmsum: null}}\n"
    study = read(tmp_path, own, study_schema)
    assert (
        study["claims"]["07_base_and_longer_can_match_large"] is None and len(study["claims"]) == 11
    )
    assert set(study["published"]["datasets"]) == {"gov_report", "summ_screen_fd", "qasper"}
    with pytest.raises(StudyError, match=r"claims: unknown claim to take away '07_base'"):
        read(tmp_path, "extends: paper\nclaims: {07_base: null}\n", study_schema)


def test_a_study_may_extend_one_of_another_folder_but_those_beside_it_come_first(
    tmp_path, tiny_study_text
):
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.mkdir()
    theirs.mkdir()
    (own / "study.yaml").write_text("extends: base\n")
    (theirs / "base.yaml").write_text(tiny_study_text.replace("Tiny", "Theirs"))
    folders = [own, theirs]
    assert read_study(own / "study.yaml", folders=folders)["title"] == "Theirs"
    (own / "base.yaml").write_text(tiny_study_text.replace("Tiny", "Own"))
    assert read_study(own / "study.yaml", folders=folders)["title"] == "Own"
    (theirs / "study.yaml").write_text("extends: base\n")
    assert read_study(theirs / "study.yaml", folders=folders)["title"] == "Theirs"
    said = r"own/bsae.yaml does not exist \(did you mean 'base'\?\); studies found: base, study "
    with pytest.raises(StudyError, match=rf"{said}\(looked also in {theirs}\)"):
        find_study("bsae", folders)
