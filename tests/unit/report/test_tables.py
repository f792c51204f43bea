"""The table that people read."""

import json
import os
from pathlib import Path

import pytest

from longwatt.config.documents import normalise, read_yaml
from longwatt.datasets import scrolls
from longwatt.datasets.records import download
from longwatt.files import sha256
from longwatt.metric_words import RAW
from longwatt.report.tables import (
    dataset_statistics,
    energies_table,
    readable,
    scores_by_length,
    write_tables,
)
from longwatt.study.reported.report_items import TABLE_KINDS, TABLES
from tests.unit.report.test_figures import as_file, row, table

SETTINGS = {
    "titles": {},
    "datasets": [],
    "devices": {"cpu": 1},
    "published": {},
}
ROW = {"validation_s": 1.0, "train_samples_per_second": 32.0, "peak_memory_gib": 0.5, "steps": 8}


def test_units_titles_and_random_weights_are_named():
    (found,) = readable(table(row(**ROW)), {"led": "LED tiny", "needle": "Needle"}).to_dict(
        "records"
    )
    assert (found["dataset"], found["model"]) == ("Needle", "LED tiny (random weights)")
    assert (found["score"], found["95 % interval"], found["ceiling"]) == (
        "20.0",
        "15.0 to 26.0",
        "25.0",
    )
    assert found["training (s)"] == "10.0" and found["training energy (Wh)"] == "NA"


def test_threads_stand_beside_every_speed():
    rows = [row(**ROW, threads=2, inference_threads=n, seq_len=n) for n in (1, 2)]
    assert readable(table(*rows), {})["threads"].tolist() == ["2, inference 1", "2"]
    assert readable(table(row(**ROW)), {})["threads"].tolist() == ["NA"]


def test_an_interval_is_called_by_its_confidence():
    assert "90 % interval" in readable(table(row(**ROW, score_confidence=0.9)), {}).columns


def test_an_estimated_energy_says_so():
    rows = [
        row(**ROW, train_energy_kwh=0.002, train_energy_source=source, seq_len=n)
        for n, source in enumerate(("estimate", "nvml_counter"))
    ]
    assert readable(table(*rows), {})["training energy (Wh)"].tolist() == [
        "2.000 (estimated)",
        "2.000",
    ]


def test_a_setting_that_never_varies_is_left_out():
    columns = readable(table(row(**ROW), row(**ROW, seed=2)), {}).columns
    assert "seed" in columns and "budget" not in columns


def test_every_format_has_every_row(tmp_path):
    summary = as_file(tmp_path, row(**ROW), row(**ROW, seq_len=999))
    write_tables(summary, tmp_path, SETTINGS, {"rule": "tabulate"})
    for name in ("summary", "scores"):
        for kind in TABLE_KINDS:
            assert "999" in (tmp_path / f"{name}.{kind}").read_text()
    assert {path.stem for path in tmp_path.glob("*.html")} == set(TABLES)
    assert len((tmp_path / "summary.md").read_text().splitlines()) == 4
    report = json.loads((tmp_path / "tables.json").read_text())
    files = {
        path.name: sha256(path)
        for path in tmp_path.iterdir()
        if path.stem in TABLES and path != summary
    }
    facts = {"rows": 2, "sha256": files, "summary_sha256": sha256(summary)}
    assert report.pop("provenance")["rule"] == "tabulate"
    assert report == facts


def test_scores_stand_by_length_and_a_regime_has_a_row_of_its_own():
    rows = [
        row(**ROW, score_lead=3.0, seq_len=n, attention_regime=regime)
        for n, regime in (
            (64, "full attention"),
            (128, "block-sparse attention"),
            (256, "block-sparse attention"),
        )
    ]
    found = scores_by_length(
        table(*rows, row(**ROW, model="led2", seq_len=64)), {"led": "BigBird"}
    ).to_dict("records")
    assert [list(r.values())[1] for r in found] == [
        "BigBird, full attention, from random weights",
        "BigBird, block-sparse attention, from random weights",
        "led2, from random weights",
    ]
    assert [found[0][n] for n in ("64", "128")] == ["20.0 (15.0 to 26.0)", ""]
    assert (
        found[1]["64"] == ""
        and found[1]["256"].startswith("20.0")
        and found[1]["lead baseline"] == "3.0"
    )


def test_paths_of_attention_are_a_column_where_they_differ():
    rows = [row(**ROW, model=name, attention=name) for name in ("fast", "stock")]
    for made in (readable, energies_table):
        found = made(table(*rows, row(**ROW, model="older")), {})
        assert found["attention path"].tolist() == ["fast", "stock", "NA"]
        assert "attention path" not in made(table(rows[0], {**rows[0], "seed": 2}), {}).columns
    mixed = table(*({**one, "model": "led"} for one in rows))
    assert [one["model"] for one in scores_by_length(mixed, {}).to_dict("records")] == [
        "led, fast attention, from random weights",
        "led, stock attention, from random weights",
    ]


def test_dataset_statistics_are_those_of_all_splits_by_rows(tmp_path):
    def split(examples, rows, words_in, words_out):
        return {
            "examples": examples,
            "rows": rows,
            "words_in_mean": words_in,
            "words_out_mean": words_out,
        }

    records = {
        "splits": {"train": split(10, 30, 100.0, 4.0), "validation": split(10, 10, 200.0, 8.0)}
    }
    missed = {
        "rouge": {
            "raw": {"examples": 1, "references": 2},
            "normalized": {"examples": 1, "references": 3},
        }
    }
    records["visibility"] = {"train": {"unseen": {}}, "validation": {"unseen": missed}}
    lengths = {
        "train": {"mean": 10.0, "min": 1, "max": 30},
        "validation": {"mean": 20.0, "min": 1, "max": 25},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(records))
    (tmp_path / "tokenized.json").write_text(
        json.dumps({"input_tokens": lengths, "round_trip": {"train": {"references_changed": 4}}})
    )
    fact = {"dataset": "d", "metric": "rouge", "tokenizer": "bpe", "text": "normalized"}
    there = {
        **fact,
        "records": str(tmp_path / "dataset.json"),
        "tokens": str(tmp_path / "tokenized.json"),
    }
    absent = {**fact, "records": str(tmp_path / "none.json"), "tokens": str(tmp_path / "none.json")}
    (found,) = dataset_statistics([there, absent], {"d": "Data"}, {}).to_dict("records")
    assert found == {
        "dataset": "Data",
        "metric": "rouge",
        "rows": "40",
        "words in": "125",
        "words out": "5.0",
        "train/validation/test rows": "30/10/NA",
        "references unseen by metric": "3",
        "tokenizer": "bpe",
        "tokens in": "15",
        "most tokens in": "30",
        "references changed by tokenizer": "4",
    }


def test_energies_are_in_the_unit_that_fits_their_size():
    rows = table(
        row(**ROW, train_energy_kwh=12.5, train_energy_source="nvml_counter"),
        row(**ROW, seq_len=128),
    )
    assert readable(rows, {})["training energy (kWh)"].tolist() == ["12.500", "NA"]
    assert energies_table(rows, {})["training (kWh)"].tolist() == ["12.500", "NA"]
    assert not [name for name in energies_table(rows, {}).columns if "(Wh)" in name]


def statistics(folder, rows: dict, words_in: float, words_out: float) -> dict[str, str]:
    """A dataset of which all rows are alike."""
    splits = {
        name: {"examples": n, "rows": n, "words_in_mean": words_in, "words_out_mean": words_out}
        for name, n in rows.items()
    }
    lengths = {name: {"mean": 10.0, "min": 1, "max": 30} for name in rows}
    (folder / "dataset.json").write_text(json.dumps({"splits": splits}))
    (folder / "tokenized.json").write_text(json.dumps({"input_tokens": lengths}))
    paths = {"records": str(folder / "dataset.json"), "tokens": str(folder / "tokenized.json")}
    return {"dataset": "d", "metric": "rouge", "tokenizer": "bpe", **paths}


def test_published_statistics_stand_beside_the_measured_ones(tmp_path):
    fact = statistics(tmp_path, {"train": 90, "validation": 10}, 100.0, 5.0)
    published = {
        "datasets": {"d": {"rows": {"train": 100, "validation": 25, "test": 7}, "words_in": 80}}
    }
    (found,) = dataset_statistics([fact], {}, published).to_dict("records")
    assert (found["published rows"], found["rows differ (%)"]) == ("125", "-20.0"), (
        "of the splits that are in use"
    )
    assert (found["published words in"], found["words in differ (%)"]) == ("80", "+25.0")
    assert (found["published words out"], found["words out differ (%)"]) == ("NA", "NA")
    assert found["published train/validation/test rows"] == "100/25/7"


def test_a_dataset_without_published_statistics_has_none_beside_one_that_has(tmp_path):
    fact = statistics(tmp_path, {"train": 90}, 100.0, 5.0)
    (found,) = dataset_statistics([fact], {}, {"datasets": {"other": {"words_in": 80}}}).to_dict(
        "records"
    )
    assert found["published rows"] == found["words in differ (%)"] == "NA"


REAL = os.environ.get("LONGWATT_SCROLLS_MIRROR", "")
ALL = ["train", "validation", "test"]


def real_statistics(task: str, root, folder, monkeypatch) -> dict[str, str]:
    """The table's row of a task of the mirror, as studies/paper.yaml has its published values."""
    monkeypatch.setenv(scrolls.MIRROR, REAL)
    download({"source": "scrolls", "options": {"task": task, "splits": ALL}}, folder, {})
    splits = json.loads((folder / "dataset.json").read_text())["splits"]
    (folder / "tokenized.json").write_text(
        json.dumps({"input_tokens": {name: {"mean": 1, "max": 1} for name in splits}})
    )
    fact = {"dataset": task, "metric": "rouge", "text": RAW, "tokenizer": "none"}
    paths = {"records": str(folder / "dataset.json"), "tokens": str(folder / "tokenized.json")}
    published = normalise(read_yaml(root / "studies/paper.yaml"))["published"]
    (found,) = dataset_statistics([{**fact, **paths}], {}, published).to_dict("records")
    return {str(name): text for name, text in found.items()}


@pytest.mark.skipif(
    not REAL or not Path(REAL, "qmsum.zip").is_file(), reason="LONGWATT_SCROLLS_MIRROR is not set"
)
def test_the_whole_of_qmsum_agrees_with_its_published_statistics(root, tmp_path, monkeypatch):
    found = real_statistics("qmsum", root, tmp_path, monkeypatch)
    assert [found[f"{name} differ (%)"] for name in ("rows", "words in", "words out")] == [
        "+0.0"
    ] * 3
    assert (
        found["train/validation/test rows"]
        == found["published train/validation/test rows"]
        == "1257/272/281"
    )


@pytest.mark.skipif(
    not REAL or not Path(REAL, "gov_report.zip").is_file(),
    reason="LONGWATT_SCROLLS_MIRROR is not set",
)
def test_a_part_of_gov_report_is_seen_to_be_one(root, tmp_path, monkeypatch):
    found = real_statistics("gov_report", root, tmp_path, monkeypatch)
    rows = int(found["rows"].replace(",", ""))
    assert found["published rows"] == "19,402"
    assert float(found["rows differ (%)"]) == pytest.approx(100 * (rows / 19402 - 1), abs=0.05)
