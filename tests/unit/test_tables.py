"""The table that people read."""

import json

from longwatt.provenance import sha256
from longwatt.tables import readable, write_tables
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
    write_tables(summary, tmp_path, {}, {"rule": "tabulate"})
    for name in ("summary.md", "summary.html", "summary.csv"):
        assert "999" in (tmp_path / name).read_text()
    assert len((tmp_path / "summary.md").read_text().splitlines()) == 4
    report = json.loads((tmp_path / "tables.json").read_text())
    assert report == {"rows": 2, "summary_sha256": sha256(summary), "provenance": {"rule": "tabulate"}}
