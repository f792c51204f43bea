"""What `--config` may say of this machine, as Snakemake hands it over."""

import datetime
import json
import math
from pathlib import Path

import pytest
from snakemake.cli import parse_config

from longwatt.config.errors import StudyError
from longwatt.config.machine_settings import machine_settings, module_config
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())


@pytest.fixture
def studies(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("1", "x", "2024-01-01"):
        (folder / f"{name}.yaml").write_text("")
    return folder


def read(studies: Path, *entries: str) -> dict:
    return machine_settings(
        {"study": "x", "pue": 1.0, **parse_config(list(entries))}, SCHEMA, [studies]
    )


@pytest.mark.parametrize(
    ("given", "name"),
    [("1", "1"), ("x", "x"), ("x.yaml", "x"), ("studies/x.yaml", "x"), ("./studies/x", "x"),
     ("{}/x.yaml", "x"),
     ("2024-01-01", "2024-01-01"), ("no_such", "no_such"), ("yes", "yes")],
)  # fmt: skip
def test_a_study_is_given_by_name_or_path(studies, given, name):
    assert read(studies, f"study={given.format(studies)}")["study"] == name
    assert (
        machine_settings({"study": datetime.date(2024, 1, 1)}, SCHEMA, [studies])["study"]
        == "2024-01-01"
    )
    assert read(studies, f"against={given.format(studies)}")["against"] == name


@pytest.mark.parametrize("given", ["elsewhere/x.yaml", "../x.yaml", "/tmp/x"])
def test_a_study_that_lies_elsewhere_is_explained(studies, given):
    with pytest.raises(
        StudyError, match=r"--config\): study: .* lies in .*; copy it there, then give study=x"
    ):
        read(studies, f"study={given}")


def test_nested_values_and_nothing_are_read_as_yaml(studies):
    carbon = {"grams_per_kwh": 50, "source": "2024", "year": 2024}
    assert read(studies, "carbon={grams_per_kwh: 50, source: 2024, year: 2024}")["carbon"] == carbon
    assert read(studies, 'prices={"per_kwh": 0.3, "currency": EUR}')["prices"] == {
        "currency": "EUR",
        "per_kwh": 0.3,
    }
    assert read(studies, "watts_per_core=null", "mirror=~") | {"pue": 1} == {
        "study": "x", "pue": 1, "watts_per_core": None, "mirror": None,
    }  # fmt: skip
    assert read(studies, "accept_code=[12345678, deadbeef]")["accept_code"] == [
        "12345678",
        "deadbeef",
    ]


def test_a_character_written_as_two_halves_is_one(studies):
    fox = "\U0001f98a"
    assert read(studies, 'prices={"currency": "\\ud83e\\udd8a"}')["prices"]["currency"] == fox
    config = {"study": "x", "carbon": {"grams_per_kwh": 1, "source": "\ud83e\udd8a", "year": 2024}}
    assert machine_settings(config, SCHEMA, [studies])["carbon"]["source"] == fox


@pytest.mark.parametrize(
    ("entry", "key"),
    [('prices={"currency": "\\ud83e"}', "prices.currency"),
     ('prices={"currency": "\\e[31m"}', "prices.currency"),
     ('carbon={"source": "\\0"}', "carbon.source"), ("mirror=/a\udc80b", "mirror")],
)  # fmt: skip
def test_a_text_that_no_table_can_hold_is_refused_with_its_key(studies, entry, key):
    with pytest.raises(StudyError, match=rf"--config\): {key}: U\+.* take it out"):
        read(studies, entry)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("watts_per_core=inf", "watts_per_core: expected a finite number, but found inf"),
        ("watts_per_core=.nan", "watts_per_core: expected a finite number, but found nan"),
        ("watts_per_core=nan", "watts_per_core: expected a finite number, but found nan"),
        ("pue=1e400", "pue: expected a finite number"),
        ("pue=-0", "pue"),
        ("prices={per_kwh: .inf}", r"prices\.per_kwh: expected a finite number"),
        (
            "carbon={grams_per_kwh: 1e999, source: a, year: 2024}",
            r"carbon\.grams_per_kwh: expected a finite number",
        ),
        ("carbon={gram_per_kwh: 5}", "unknown key 'gram_per_kwh'.*grams_per_kwh"),
        ("carbon=50", "carbon: expected a mapping"),
        ("wats_per_core=3", "unknown key 'wats_per_core'.*watts_per_core"),
        ("watts_per_core=many", "watts_per_core: expected auto, none or a number.*found 'many'"),
        ("study=[x]", "study: expected text"),
        ("study=", "study: expected text"),
    ],
)
def test_what_cannot_be_used_is_explained_by_key(studies, entry, said):
    with pytest.raises(StudyError, match=said):
        read(studies, entry)
    assert math.isfinite(read(studies)["pue"])


def test_a_module_has_what_is_shipped_where_its_workflow_says_nothing(studies):
    given = module_config({"study": "demo", "pue": 1.0, "prices": {"per_kwh": 1}}, {"pue": 2})
    assert given == {"study": "demo", "pue": 2, "prices": {"per_kwh": 1}}
    with pytest.raises(StudyError, match=r"module: config: expected a mapping, as .* found 'x'"):
        module_config({}, "x")
    with pytest.raises(StudyError, match=r"give longwatt a part of its own.*key 'samples'"):
        machine_settings({"study": "x", "samples": 3}, SCHEMA, [studies], imported=True)


def test_a_study_of_several_folders_may_be_named_by_a_path_into_any(studies, tmp_path):
    shipped = tmp_path / "shipped/studies"
    shipped.mkdir(parents=True)
    (shipped / "y.yaml").write_text("")
    for given in ("y", "y.yaml", "shipped/studies/y.yaml", f"{shipped}/y", "studies/y"):
        assert machine_settings({"study": given}, SCHEMA, [studies, shipped])["study"] == "y"
    with pytest.raises(StudyError, match="lies in elsewhere"):
        machine_settings({"study": "elsewhere/y"}, SCHEMA, [studies, shipped])
