"""The table that people read."""

import json

from longwatt.provenance import sha256
from longwatt.stages import TABLE_KINDS, TABLES
from longwatt.tables import dataset_statistics, readable, scores_by_length, write_tables
from tests.unit.test_figures import as_file, row, table

ROW = {"validation_s": 1.0, "train_samples_per_second": 32.0, "peak_memory_gib": 0.5, "steps": 8}


def test_units_titles_and_random_weights_are_named():
    (found,) = readable(table(row(**ROW)), {"led": "LED tiny", "needle": "Needle"}).to_dict("records")
    assert (found["dataset"], found["model"]) == ("Needle", "LED tiny (random weights)")
    assert (found["score"], found["95 % interval"], found["ceiling"]) == ("20.0", "15.0 to 26.0", "25.0")
    assert found["training (s)"] == "10.0" and found["training energy (Wh)"] == "NA"


def test_an_estimated_energy_says_so():
    rows = [
        row(**ROW, train_energy_kwh=0.002, train_energy_source=source, seq_len=n)
        for n, source in enumerate(("estimate", "nvml_counter"))
    ]
    assert readable(table(*rows), {})["training energy (Wh)"].tolist() == ["2.000 (estimated)", "2.000"]


def test_a_setting_that_never_varies_is_left_out():
    columns = readable(table(row(**ROW), row(**ROW, seed=2)), {}).columns
    assert "seed" in columns and "budget" not in columns


def test_every_format_has_every_row(tmp_path):
    summary = as_file(tmp_path, row(**ROW), row(**ROW, seq_len=999))
    write_tables(summary, tmp_path, {"titles": {}, "datasets": []}, {"rule": "tabulate"})
    for name in ("summary", "scores"):
        for kind in TABLE_KINDS:
            assert "999" in (tmp_path / f"{name}.{kind}").read_text()
    assert {path.stem for path in tmp_path.glob("*.html")} == set(TABLES)
    assert len((tmp_path / "summary.md").read_text().splitlines()) == 4
    report = json.loads((tmp_path / "tables.json").read_text())
    assert report == {"rows": 2, "summary_sha256": sha256(summary), "provenance": {"rule": "tabulate"}}


def test_scores_stand_by_length_and_a_regime_has_a_row_of_its_own():
    rows = [
        row(**ROW, score_lead=3.0, seq_len=n, attention_regime=regime)
        for n, regime in ((64, "full attention"), (128, "block-sparse attention"), (256, "block-sparse attention"))
    ]
    found = scores_by_length(table(*rows, row(**ROW, model="led2", seq_len=64)), {"led": "BigBird"}).to_dict("records")
    assert [list(r.values())[1] for r in found] == [
        "BigBird, full attention, from random weights",
        "BigBird, block-sparse attention, from random weights",
        "led2, from random weights",
    ]
    assert [found[0][n] for n in ("64", "128")] == ["20.0 (15.0 to 26.0)", ""]
    assert found[1]["64"] == "" and found[1]["256"].startswith("20.0") and found[1]["lead baseline"] == "3.0"


def test_dataset_statistics_are_those_of_all_splits_by_rows(tmp_path):
    def split(examples, rows, words_in, words_out):
        return {"examples": examples, "rows": rows, "words_in_mean": words_in, "words_out_mean": words_out}

    records = {"splits": {"train": split(10, 30, 100.0, 4.0), "validation": split(10, 10, 200.0, 8.0)}}
    lengths = {"train": {"mean": 10.0, "min": 1, "max": 30}, "validation": {"mean": 20.0, "min": 1, "max": 25}}
    (tmp_path / "dataset.json").write_text(json.dumps(records))
    (tmp_path / "tokenized.json").write_text(json.dumps({"input_tokens": lengths}))
    fact = {"dataset": "d", "metric": "rouge", "tokenizer": "bpe"}
    there = {**fact, "records": str(tmp_path / "dataset.json"), "tokens": str(tmp_path / "tokenized.json")}
    absent = {**fact, "records": str(tmp_path / "none.json"), "tokens": str(tmp_path / "none.json")}
    (found,) = dataset_statistics([there, absent], {"d": "Data"}).to_dict("records")
    assert found == {
        "dataset": "Data",
        "metric": "rouge",
        "rows": "40",
        "words in": "125",
        "words out": "5.0",
        "train/validation/test rows": "30/10/NA",
        "tokenizer": "bpe",
        "tokens in": "15",
        "most tokens in": "30",
    }
