"""Both schemas describe every key, have the code's defaults, and editors accept our files."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from longwatt.config import reference
from longwatt.config.documents import check_name, read_yaml, validate
from longwatt.config.errors import StudyError
from longwatt.config.schema_paths import describe, path_of
from longwatt.config.studies import read_study
from longwatt.config.yaml_values import Loader
from longwatt.energy import costs
from longwatt.study import cells, settings
from longwatt.study.cascade_cells import CASCADE_DEFAULTS
from longwatt.study.claims import ClaimTest
from longwatt.study.model_settings import LORA_DEFAULTS
from longwatt.tasks import TEXT
from tests.conftest import ROOT

SCHEMAS = {
    name: json.loads((ROOT / f"workflow/schemas/{name}.schema.json").read_text(encoding="utf-8"))
    for name in ("study", "config")
}
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def nodes(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every mapping and list of a schema, with its path."""
    yield path, value
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nodes(item, (*path, str(key)))


SCHEMAS_INSIDE = ("properties", "patternProperties", "$defs", "anyOf", "oneOf", "allOf")


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """Find every schema that needs a description, by path: keys, definitions, entries, items."""
    found = {}
    for path, node in nodes(schema):
        entry = path[-1:] in (("items",), ("additionalProperties",)) and "properties" in (
            node or {}
        )
        if entry or (len(path) > 1 and path[-2] in SCHEMAS_INSIDE):
            found["/".join(path)] = node
    return found


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_property_says_what_it_is(schema):
    Draft202012Validator.check_schema(schema)
    for path, node in described(schema).items():
        assert isinstance(node, dict), f"{path}: {node} can carry no description"
        if "$ref" in node and path.split("/")[-2] != "properties":
            continue  # an alternative that is described where it is defined
        text = node.get("description", "")
        assert re.fullmatch(r"[A-Z0-9].*\.", text), f"{path}: {text!r} is no sentence"
        assert len(text) <= 300, f"{path}: {len(text)} characters"
        assert words(text) - words(path.split("/")[-1]) - {"the", "a", "an", "of"}, (
            f"{path} repeats its name"
        )


def test_the_test_of_descriptions_sees_every_kind_of_place():
    schema = {
        "properties": {"a": {"items": {"properties": {}}}, "b": {"anyOf": [{}]}},
        "$defs": {"c": {"additionalProperties": {"properties": {}}}},
        "then": {"properties": {"d": False}},
    }
    assert set(described(schema)) == {
        "properties/a", "properties/a/items", "properties/b", "properties/b/anyOf/0", "$defs/c",
        "$defs/c/additionalProperties", "then/properties/d",
    }  # fmt: skip


def defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Every default of a schema, by the definition and the keys that it stands at."""
    stated = {path[:-1]: node for path, node in nodes(schema) if path[-1:] == ("default",)}
    return {
        ".".join(part for part in path if part not in ("properties", "$defs")): node
        for path, node in stated.items()
    }


def flat(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Collect the code's defaults by `name.key`, but for those that a schema cannot state."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= (
            flat(f"{name}.{key}", value) if isinstance(value, dict) else {f"{name}.{key}": value}
        )
    return found


def test_every_default_of_a_study_is_that_of_the_code():
    bpe = settings.tokenizer_settings({"tokenizers": {"bpe": {}}}, "bpe")
    pair = ClaimTest("", "ratio", {})
    shares = ("value", "correlation", "variation")
    expected = {
        **flat("training", settings.TRAINING_DEFAULTS),
        **flat("generation", settings.GENERATION_DEFAULTS),
        **flat("inference", settings.INFERENCE_DEFAULTS),
        "inference.weights": "trained",
        "training.packing": False,
        "model.chat": False,
        **flat("model.lora", LORA_DEFAULTS),
        "inference.regroup_batches": settings.EXIT_DEFAULTS["regroup_batches"],
        **flat("inference.cascade", CASCADE_DEFAULTS),
        **flat("budget", settings.BUDGET_DEFAULTS),
        "budget.effective_batch_size": None,
        **flat(
            "scoring",
            {
                **settings.SCORING_DEFAULTS,
                **settings.COMPARISON_DEFAULTS,
                **settings.COMPARISON_OF_EXITS,
            },
        ),
        **flat("answer", settings.ANSWER_DEFAULTS),
        **flat("model.exits", settings.EXITS_DEFAULTS),
        "calibration.split": settings.CALIBRATION_DEFAULTS[
            "split"
        ],  # its batch size is another setting's
        "tokenizer.else.min_frequency": bpe["min_frequency"],
        "block.seeds": cells.AXIS_DEFAULTS["seeds"],
        **{f"claim_test.{kind}.share": pair.share for kind in shares},
        "claim_pairs.share": pair.share,
        "claim_equivalence.share": pair.share,
        "dataset.task": TEXT,
        "claim.random_weights": pair.random_weights,
    }
    stated = defaults(SCHEMAS["study"])
    assert {key: stated.get(key, "none") for key in expected} == expected
    assert stated == expected


def test_a_dataset_is_of_texts_unless_said(tiny_study_text, study_schema, tmp_path):
    (tmp_path / "s.yaml").write_text(tiny_study_text)
    study = read_study(tmp_path / "s.yaml", study_schema)
    assert not cells.classifies(study, "needle")
    study["datasets"]["needle"]["task"] = "classification"
    assert cells.classifies(study, "needle")


def test_every_default_of_the_machine_is_that_of_config_yaml_and_of_the_code():
    stated, config = defaults(SCHEMAS["config"]), read_yaml(ROOT / "config.yaml")
    assert {**flat("", config), ".accept_code": []} == {
        **{f".{key}": value for key, value in stated.items() if key != "against"}, ".study": "demo",
    }  # fmt: skip
    assert costs.price_figures({})["pue"] == stated["pue"]
    unknown = (stated[key] for key in stated if key.startswith(("carbon.", "prices.")))
    assert set(unknown) == {None} == set(costs.price_figures({}).values()) - {1}


@pytest.mark.parametrize("path", [*STUDIES, ROOT / "config.yaml"], ids=lambda path: path.name)
def test_an_editor_finds_the_schema_and_nothing_wrong(path):
    """As the YAML language server reads it: YAML 1.2, no `extends`, keys of mappings as text."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found, f"{path.name} does not begin with the line that names its schema"
    schema = json.loads((path.parent / found[1]).read_text(encoding="utf-8"))
    document = read_yaml(path)
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []


def test_what_a_study_need_not_repeat_of_its_base_is_needed_of_any_other(tiny_study_text):
    validator = Draft202012Validator(SCHEMAS["study"])
    assert validator.is_valid(
        {"extends": "paper", "datasets": {"qmsum": {"training": {"max_steps": 1}}}}
    )
    assert not validator.is_valid({"extends": "paper", "datasets": {"qmsum": {"trianing": {}}}})
    missing = {
        error.message.split("'")[1]
        for error in validator.iter_errors({"datasets": {"qmsum": {}}, "models": {"a": {}}})
    }
    assert {"title", "grid", "source", "metric", "family", "initialisation", "tokenizer"} <= missing


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate: 1e-3", "learning_rate: fast", "\n  learning_rate: Peak learning rate"),
        ("learning_rate:", "learning_rat:", "\n  learning_rate: Peak learning rate"),
        ("title: Tiny\n", "", "'title' is a required property; add it\n  title: Heading"),
        ("    family: led\n", "",
         "models.led: 'family' is a required property; add it\n  family: Module"),
        ("seq_lens: [32, 64]", "seq_lens: [32, 4]",
         "seq_lens.1: 4 is less than the minimum of 8\n  seq_lens: Input"),
        ("gpus: 0", "gpus: none", "\n  gpus: GPUs of a cell"),
        ("initialisation: random", "path: x\n    initialisation: random",
         "models.led.path: A model from random weights has no path; leave it out"),
        ("title: Tiny", "title: Tiny\nzzzzz: 1", "known keys: answer, budgets"),
    ],
)  # fmt: skip
def test_a_message_says_what_the_key_means(tiny_study_text, study_schema, tmp_path, old, new, said):
    assert old in tiny_study_text
    (tmp_path / "s.yaml").write_text(tiny_study_text.replace(old, new, 1))
    with pytest.raises(StudyError) as refused:
        read_study(tmp_path / "s.yaml", study_schema)
    assert said in str(refused.value)
    assert str(refused.value).count("\n") == ("\n  " in said)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"pue": 0.9}, "\n  pue: Power usage"),
     ({"watts_per_cor": 3}, "\n  watts_per_core: Watts of one busy core"),
     ({"carbon": {"grams_per_kwh": 3}},
      "'source' is a required property; add it\n  source: Who states the grams"),
     ({"accept_code": ["xyz"]},
      "accept_code.0: expected a code digest, .* but found 'xyz'\n  accept_code: Digests")],
)  # fmt: skip
def test_a_message_about_the_machine_says_what_the_key_means(given, said):
    with pytest.raises(StudyError, match=said):
        validate({"study": "demo", **given}, SCHEMAS["config"], "config.yaml")


def test_an_unknown_name_says_what_its_key_means():
    with pytest.raises(
        StudyError, match=r"known: led; a hint\n  family: Module in longwatt/models/"
    ):
        check_name("family", "lde", ["led"], "studies/x.yaml: models.a.family", "; a hint")
    with pytest.raises(
        StudyError, match=r"known: b\n  datasets: Names of entries of `datasets`\.$"
    ):
        check_name("dataset", "a", ["b"], "studies/x.yaml: grid[0].datasets")
    with pytest.raises(StudyError, match=r"known: b$"):
        check_name("cell", "a", ["b"], "studies/x.yaml")


def test_paths_are_read_as_messages_spell_them():
    assert path_of("a.yaml: claims.x.tests[0].ratio.to") == [
        "claims",
        "x",
        "tests",
        0,
        "ratio",
        "to",
    ]
    assert path_of("a.yaml: figures[1] (mine).costs") == ["figures", 1, "costs"]
    assert describe(SCHEMAS["study"], ["training", "no_such_key"]) == "", (
        "a key that the schema lacks"
    )
    assert describe(SCHEMAS["study"], ["figures", 1, "costs", 0]).startswith(
        "\n  costs: What the x axes show"
    )


def test_the_reference_is_what_the_schemas_give():
    for path, text in reference.pages().items():
        name = path.relative_to(ROOT)
        assert path.read_text(encoding="utf-8") == text, (
            f"{name} is not what its schema gives; run `make docs`"
        )
        assert max(map(len, text.splitlines())) <= 100, f"{name} is wider than 100 columns"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_key_and_every_example_stands_in_the_reference_and_examples_hold(schema):
    text = "\n\n".join(reference.pages().values())
    for path in described(schema):
        *_, kind, key = path.split("/")
        assert kind != "properties" or f"`{key}` (" in text or f"\n## {key}\n" in text, (
            f"{path} is not in it"
        )
    for key, one in schema["properties"].items():
        for example in one.get("examples", ()):
            shown = (
                {"study": "x", key: example} if "study" in schema["properties"] else {key: example}
            )
            errors = Draft202012Validator(schema).iter_errors(shown)
            found = [
                error for error in errors if error.absolute_path or error.validator != "required"
            ]
            assert found == [], f"the example of {key}"


def test_shown_examples_are_those_of_the_schema():
    pages = reference.pages()
    for name, schema in SCHEMAS.items():
        text = pages[ROOT / f"docs/reference/{name}.md"]
        shown = [
            yaml.load(block, Loader=Loader)
            for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        ]
        given = [
            {key: example}
            for key, one in schema["properties"].items()
            for example in one.get("examples", ())
        ]
        assert shown == given
