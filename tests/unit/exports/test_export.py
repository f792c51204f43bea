"""Exports by command: what is chosen, where it goes, what is refused, what is said."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from longwatt.__main__ import run
from longwatt.exports.facts import facts_of_study, study_in_force
from longwatt.exports.known import NothingToExport, without_unknown
from longwatt.exports.writing import replace_crate, said_if_unwritable
from longwatt.freshness.outdated import outdated
from longwatt.results.summary import check_current, read_summary
from tests.exported_study import (
    ADAPTED,
    DECLARED,
    ESTIMATED,
    LABELS,
    LATER,
    MACHINE,
    STUDY,
    UNKNOWN,
    write_study,
)
from tests.unit.exports.conftest import RESULTS

BOAMPS, CARD, CRATE = (
    ["export", "--format", name] for name in ("boamps", "model-card", "ro-crate")
)


@pytest.fixture
def here(told, tmp_path, monkeypatch) -> Path:
    """A copy of the finished study that a test may change, as current folder."""
    shutil.copytree(told[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_numbers_are_those_of_the_summary(study):
    table = read_summary(RESULTS / "summary.csv")
    told = {(job.row["cell"], job.point): job.row for cell in study.cells for job in cell.points}
    assert len(told) == len(table)
    for row in table.to_dict("records"):
        mine = told[row["cell"], row["inference"]]
        for column in mine.keys() & set(table.columns):
            assert mine[column] == row[column] or str(mine[column]) == str(row[column]), column
        unknown = {name for name, value in row.items() if pd.isna(value)}
        assert not unknown & mine.keys()


def test_reports_of_all_finished_cells_stand_below_the_results(here, capsys):
    assert run(BOAMPS) == 0
    out = capsys.readouterr()
    written = out.out.split()
    assert f"results/told/exports/boamps/{ADAPTED}/training.json" in written
    assert all(json.loads(Path(path).read_text())["measures"] for path in written)
    assert f"left out: the report of {UNKNOWN}, training; its energy is not known" in out.err
    check_current(RESULTS, study_in_force(RESULTS, {}))


def test_nothing_is_written_over_without_force_and_nothing_of_the_rest(here, capsys):
    assert run([*BOAMPS, "--cell", ESTIMATED]) == 0
    paths = [Path(path) for path in capsys.readouterr().out.split()]
    paths[0].write_text("mine")
    paths[1].unlink()
    assert run([*BOAMPS, "--cell", ESTIMATED]) == 1
    assert "there already; give --force" in capsys.readouterr().err
    assert paths[0].read_text() == "mine" and not paths[1].exists()
    assert run([*BOAMPS, "--cell", ESTIMATED, "--force"]) == 0
    assert json.loads(paths[0].read_text())["task"] and paths[1].exists()


def test_a_single_report_goes_into_a_file_and_several_do_not(here, capsys):
    Path(f"results/told/{ADAPTED}/predict/zero_shot/scores.json").unlink()
    Path(f"results/told/{ADAPTED}/predict/greedy/scores.json").unlink()
    assert run([*BOAMPS, "--dataset", "needle", "--out", "one.json"]) == 1
    assert "7 reports do not go into the file one.json" in capsys.readouterr().err
    assert run([*BOAMPS, "--dataset", "qmsum"]) == 1
    said = capsys.readouterr().err
    assert "none of 1 cells of told is finished" in said and "longwatt run --study told" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cell", f"{ESTIMATED}x"], "has no cell with cell"),
        (["--dataset", "neddle"], "did you mean 'needle'?"),
        (["--seed", "7"], "has no cell with seed 7; there are 1, 2"),
        (["--study", "tould"], "did you mean 'told'?"),
        (["--seq-len", "32", "--model", "smol"], "no cell with seq_len 32; there are 64"),
        (["--config", "place"], "give it as KEY=VALUE"),
        (["--config", "place={infrastructure: cellar}"], "'cellar' is not known"),
        (["--cell", UNKNOWN], "no report can be written; left out: the report of"),
        (["--out", "studies/told.yaml/x"], "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(here, capsys, words, said):
    assert run([*BOAMPS, *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("longwatt export: ") and said in err, err
    assert not Path("results/told/exports").exists()


def test_a_cell_that_is_not_finished_or_made_otherwise_is_no_cell_to_export(here, capsys):
    Path(f"results/told/{ESTIMATED}/finetune/training.json").unlink()
    assert run([*BOAMPS, "--cell", ESTIMATED]) == 1
    assert "is finished by the settings and code in force" in capsys.readouterr().err
    assert run([*BOAMPS, "--dataset", "needle", "--seq-len", "64"]) == 0
    why = "not finished by the settings and code in force; run it first"
    assert f"left out: {LATER}, both; {why}" in capsys.readouterr().err, "it asks the other cell"
    Path(f"results/told/{LATER}/predict/tested/scores.json").unlink()
    assert run([*CARD, "--cell", LATER, "--out", "card.md"]) == 0
    said = capsys.readouterr().err
    assert f"{LATER}, tested" in said and why in said
    text = Path("studies/told.yaml").read_text()
    Path("studies/told.yaml").write_text(text.replace("learning_rate: 1e-3", "learning_rate: 2e-3"))
    capsys.readouterr()
    assert run([*BOAMPS, "--force"]) == 0
    (left,) = capsys.readouterr().out.split()
    assert left.endswith(f"{ADAPTED}/inference-zero_shot.json"), "no learning rate made that"


def test_results_without_their_study_are_refused(here, capsys):
    Path("studies/told.yaml").unlink()
    assert run([*BOAMPS, "--study", "told"]) == 1
    assert "studies/told.yaml is not here" in capsys.readouterr().err


def test_the_card_is_of_the_cell_that_was_named(here, capsys):
    assert run([*CARD, "--cell", ADAPTED, "--dataset", "needle"]) == 1
    assert "no cell with dataset needle; there are qmsum" in capsys.readouterr().err
    assert run([*CARD, "--cell", ADAPTED, "--out", "card"]) == 0
    assert capsys.readouterr().out.split() == ["card/README.md"]
    assert Path("card/README.md").read_text().startswith("---\nbase_model: HuggingFaceTB/")
    assert run([*CARD, "--dataset", "qmsum", "--out", "my.md"]) == 0
    out = capsys.readouterr()
    assert out.out.split() == ["my.md"] and "is the only cell of that kind" in out.err


def choose(**chosen: str | None) -> None:
    """Have the answer choose a cell of each dataset."""
    path = RESULTS / "answer.json"
    answer = json.loads(path.read_text())
    answer["provenance"].pop("content_sha256", None)
    answer["points"] = [{"id": cell, "cells": [cell]} for cell in chosen.values() if cell]
    answer["recommendations"] = {name: {"chosen": cell} for name, cell in chosen.items()}
    path.write_text(json.dumps(answer))


def test_the_card_is_of_the_cell_that_the_answer_chose(here, capsys):
    choose(needle=LATER, qmsum=None)
    assert run(CARD) == 0
    out = capsys.readouterr()
    assert out.out.split() == [f"results/told/exports/model-card/{LATER}/README.md"]
    assert f"{LATER} is the cell that results/told/answer.json chose for needle" in out.err
    choose(needle=LATER, qmsum=ADAPTED)
    assert run([*CARD, "--force"]) == 1
    said = capsys.readouterr().err
    assert f"{LATER} of needle, {ADAPTED} of qmsum; give --cell or --dataset" in said
    assert run([*CARD, "--dataset", "needle", "--force"]) == 0


def test_a_card_without_an_answer_needs_a_cell(here, capsys):
    choose(needle=None)
    assert run(CARD) == 1
    assert "chose none; give --cell or --dataset" in capsys.readouterr().err
    (RESULTS / "answer.json").unlink()
    assert run(CARD) == 1
    assert "so no cell is chosen; give --cell, or finish the study" in capsys.readouterr().err


def test_a_crate_is_of_a_finished_study_and_never_takes_anything_away(here, small_package, capsys):
    assert run(CRATE) == 0 and Path("results/told/exports/ro-crate.zip").is_file()
    assert run(CRATE) == 1 and "give --force" in capsys.readouterr().err
    Path("mine").mkdir()
    Path("mine/work.txt").write_text("work")
    assert run([*CRATE, "--out", "mine", "--force"]) == 1
    assert "without ro-crate-metadata.json" in capsys.readouterr().err
    assert Path("mine/work.txt").read_text() == "work"
    assert run([*CRATE, "--dataset", "needle"]) == 1
    assert "is of a whole study" in capsys.readouterr().err
    Path("studies/told.yaml").write_text(STUDY)
    assert run([*CRATE, "--force"]) == 1 and "requires a licence" in capsys.readouterr().err
    Path(f"results/told/{LATER}/predict/both/scores.json").unlink()
    assert run([*CRATE, "--force"]) == 1
    assert "a run crate is of a finished study" in capsys.readouterr().err
    assert [path.name for path in Path("results/told/exports").iterdir()] == ["ro-crate.zip"]


def test_a_crate_goes_into_the_folder_that_a_link_names(here, small_package, capsys):
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    assert run([*CRATE, "--out", "link"]) == 0
    Path("disk/stale.txt").touch()
    assert run([*CRATE, "--out", "link", "--force"]) == 0
    assert Path("link").is_symlink() and Path("disk/ro-crate-metadata.json").is_file()
    assert not Path("disk/stale.txt").exists() and not list(here.glob(".crate-*"))


LONG_NAME = "n" * 300


@pytest.mark.parametrize(
    ("words", "out", "said"),
    [
        (BOAMPS, LONG_NAME, "File name too long"),
        ([*CARD, "--cell", ADAPTED], f"{LONG_NAME}.md", "File name too long"),
        (CRATE, LONG_NAME, "File name too long"),
        (CRATE, "config.yaml", "Not a directory"),
        (CRATE, "loop", "Not a directory"),
        (BOAMPS, "loop", "Too many levels of symbolic links"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_in_one_line(
    here, small_package, capsys, words, out, said
):
    Path("loop").symlink_to("loop")
    before = Path("config.yaml").read_text()
    assert run([*words, "--out", out, "--force"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"longwatt export: {out}")
    assert line.endswith(f" cannot be written ({said}); give another --out")
    assert Path("config.yaml").read_text() == before and not list(here.glob(".crate-*"))


def test_a_full_disk_is_told_from_other_reasons(tmp_path):
    full = f"[Errno 28] {os.strerror(28)}"
    said = pytest.raises(NothingToExport, match=r"\(no space left on device\); .* free some")
    with said, said_if_unwritable(tmp_path / "out"):
        raise shutil.Error([("a", "b", f"{full}: 'b'")])
    with said, said_if_unwritable(tmp_path / "out"):
        raise OSError(28, os.strerror(28))


def test_an_earlier_crate_is_moved_away_and_not_taken_apart(tmp_path):
    target, staging = tmp_path / "crate", tmp_path / "staging"
    for folder, which in ((target, "earlier"), (staging / "crate", "later")):
        folder.mkdir(parents=True)
        (folder / "which").write_text(which)
    replace_crate(staging / "crate", target)
    assert (target / "which").read_text() == "later"
    assert (staging / "earlier/which").read_text() == "earlier", "up to the end of its maker"


def test_declarations_change_no_result(here):
    text = Path("studies/told.yaml").read_text()
    assert DECLARED in text
    Path("studies/told.yaml").write_text(text.replace(DECLARED, ""))
    Path("config.yaml").write_text(MACHINE.replace("place:", "place: {}\n#"))
    current = study_in_force(RESULTS, {})
    assert outdated(current, RESULTS) == []


def test_a_classifier_with_exits_tells_its_accuracy_and_its_rule(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_study(LABELS)
    assert run(BOAMPS) == 0
    paths = map(Path, capsys.readouterr().out.split())
    reports = [json.loads(path.read_text())["task"] for path in paths]
    assert [one.get("measuredAccuracy") for one in reports] == [None, 0.625, 0.625]
    assert {one["taskFamily"] for one in reports} == {"textClassification"}
    assert run([*CARD, "--out", "card.md"]) == 0
    card = ModelCard(Path("card.md").read_text()).data
    assert card.pipeline_tag == "text-classification" and card.library_name is None
    leaving = [one.metric_args for one in card.eval_results if one.metric_name.endswith("(leave)")]
    assert [one["exit_value"] for one in leaving] == [0.5]


def test_nothing_is_told_of_results_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NothingToExport, match="longwatt run --study demo"):
        study_in_force(Path("results/demo"), {})


def test_a_point_whose_log_of_energy_is_torn_is_not_finished(here):
    Path(f"results/told/{ESTIMATED}/predict/greedy/energy.jsonl.gz").write_bytes(b"\x1f\x8btorn")
    study = facts_of_study(RESULTS, study_in_force(RESULTS, {}), {"cell": ESTIMATED})
    assert [job.point for job in study.cells[0].jobs] == [None, "tested"]


def test_unknown_values_go_and_known_noughts_stay():
    given = {"a": None, "b": float("nan"), "c": 0, "d": [None, "", {}], "e": False, "f": {"g": ""}}
    assert without_unknown(given) == {"c": 0, "e": False}
