"""Results are judged by their stamps, not by times of files or Snakemake's records."""

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from longwatt.compare.beside import outdated_rows
from longwatt.compare.pairing import CompareError, read_results
from longwatt.config.studies import read_study
from longwatt.energy import costs
from longwatt.files import PACKAGE, sha256
from longwatt.freshness import source_checks
from longwatt.freshness.in_force import InForce, find
from longwatt.freshness.made_settings import settings_of_rows
from longwatt.freshness.outdated import (
    UNMATCHED,
    StaleSummary,
    message,
    outdated,
    set_outdated_aside,
    shared_set_aside,
)
from longwatt.freshness.summaries import CHANGED, NO_ORIGINS, best_summary, changed_cells
from longwatt.plan.plan import finished_parts
from longwatt.plan.report import read_plan
from longwatt.provenance.source_files import KnownDigests
from longwatt.provenance.stamps import STALE, digest, origin, set_stale_aside, write_json
from longwatt.report.batch_sizes_table import _products
from longwatt.report.partial import write_partial
from longwatt.report.settings_table import settings_in_force
from longwatt.report.tables import write_tables
from longwatt.results.__main__ import main
from longwatt.results.status import cell_states
from longwatt.results.summary import check_current, check_summary, write_summary
from longwatt.startup.checks import check_report
from longwatt.startup.invocation import believes_files
from longwatt.startup.run import partial_settings
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT, TINY_STUDY
from tests.made_results import summarise, write_artefact, write_study_results

SCRIPTS = PACKAGE.parents[1] / "scripts"
SCHEMA = ROOT / "workflow/schemas/study.schema.json"
RATE = ("learning_rate: 1e-3", "learning_rate: 2e-3")
CLAIM = """
claims:
  fast:
    statement: Every training is short.
    tests: [{value: {column: train_runtime_s, below: 100}}]
"""


def in_force(*change: str, machine: dict | None = None) -> InForce:
    """The tests' study as its file says it, after a change of its text."""
    text = (TINY_STUDY + CLAIM).replace(*change) if change else TINY_STUDY + CLAIM
    Path("studies").mkdir(exist_ok=True)
    Path("studies/tiny.yaml").write_text(text)
    study = read_study(Path("studies/tiny.yaml"), SCHEMA)
    return InForce(checked_stages("tiny", study, machine or {}), SCRIPTS)


@pytest.fixture
def current(tmp_path, monkeypatch) -> InForce:
    """A finished study below the current folder."""
    monkeypatch.chdir(tmp_path)
    found = in_force()
    write_study_results(found)
    return found


def results(current: InForce) -> Path:
    return Path(current.stages.results)


def named(current: InForce) -> list[str]:
    """The artefacts that do not count, without the folder of their study or cell."""
    return [
        one.artefact.removeprefix("results/tiny/") for one in outdated(current, results(current))
    ]


def rows(current: InForce) -> list[dict]:
    return current.stages.summarize().settings["rows"]


def stage_of(current: InForce, rule: str, place: int = 0):
    return [stage for stage in current.stages.all() if stage.rule == rule][place]


def test_a_finished_study_counts_whatever_the_times_of_its_files(current):
    check_current(results(current), current)
    for age, path in enumerate(sorted(Path().rglob("*.*"), reverse=True)):
        os.utime(path, (1e9 + age, 1e9 + age))
    check_current(results(current), current)
    assert main(["check", "results/tiny"]) == 0


def test_a_changed_learning_rate_is_named_with_both_values_though_nothing_is_missing(
    current, capsys
):
    changed = in_force(*RATE)
    with pytest.raises(StaleSummary) as refused:
        check_report(changed)
    said = str(refused.value)
    assert said.startswith("2 results of tiny are not what the study")
    assert (
        "training.learning_rate 0.001, now 0.002" in said
        and "64/cpu/generated/seed1/finetune" in said
    )
    assert "--set-aside" in said and "accept_code" not in said
    assert main(["check", "results/tiny"]) == 1 and "now 0.002" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("batch_size: 5", "batch_size: 6"), ["inference.json"] * 2),
        (("vocab_size: 600", "vocab_size: 610"), ["training.json"] * 2 + ["tables.json"]),
        (("train: 64", "train: 65"), ["training.json"] * 2 + ["tables.json"]),
        (("below: 100", "below: 90"), ["claims.json"]),
        (("title: Tiny", "title: Very tiny"), ["answer.json"]),
    ],
)
def test_a_change_names_what_it_makes_outdated(current, change, found):
    assert [Path(name).name for name in named(in_force(*change))] == found


def test_a_price_makes_the_summary_outdated_and_a_declared_power_the_energies(current):
    machine = {"watts_per_core": 5}
    found = [one.reason for one in outdated(in_force(machine=machine), results(current))]
    assert found == ["made with other settings: watts_per_core auto, now 5"] * 4
    machine = {"prices": {"currency": "EUR", "per_kwh": 0.2, "per_gpu_hour": None}}
    assert [Path(name).name for name in named(in_force(machine=machine))] == [
        "summary.json", "answer.json"
    ]  # fmt: skip


def test_one_outdated_cell_of_many_is_found(current):
    lengths = in_force("seq_lens: [32, 64]", "seq_lens: [32, 64, 48]")
    training = stage_of(lengths, "finetune", 2)
    with pytest.raises(StaleSummary, match=r"48.*not in the summary"):
        check_current(results(current), lengths)
    assert training.artefact.removeprefix("results/tiny/") in named(lengths)
    path = Path(stage_of(current, "finetune").artefact)
    content = json.loads(path.read_text())
    content["provenance"]["settings_digest"] = "0"
    path.write_text(json.dumps(content))
    states = cell_states(results(current), rows(current), current.stamps())
    assert states["state"].tolist() == ["outdated", "finished"]
    assert len(finished_parts(current.stages, current.stamps())) == 2


def test_results_of_other_code_are_refused_and_accepted_by_their_digest(current):
    path = Path(stage_of(current, "predict").artefact)
    content = json.loads(path.read_text())
    content["provenance"]["code_digest"] = "0123456789abcdef"
    write_json(path, content)
    summarise(current)
    (found,) = outdated(current, results(current))
    assert found.artefact == str(path) and found.reason.startswith(
        "made by code 0123456789ab, which is now "
    )
    assert "accept_code in config.yaml: [0123456789abcdef]" in message("tiny", [found])
    accepting = InForce(current.stages, SCRIPTS, ["0123456789abcdef"])
    check_current(results(current), accepting)
    assert accepting.code(stage_of(current, "predict")) == "0123456789abcdef"
    assert accepting.code(stage_of(current, "finetune")) == current.code(
        stage_of(current, "finetune")
    )


def test_predictions_of_another_training_do_not_count(current):
    """A cell trained again and touched: every stamp agrees, but not with what is there."""
    write_artefact(current, stage_of(current, "finetune"), train_s=7.0)
    write_artefact(current, stage_of(current, "summarize_energy"))
    summarise(current)
    (found,) = outdated(current, results(current))
    assert found.artefact.endswith("32/cpu/generated/seed1/predict/greedy/inference.json")
    assert (
        "made from another results/tiny/" in found.reason
        and "training.json than is there" in found.reason
    )
    assert cell_states(results(current), rows(current), current.stamps())["state"].tolist() == [
        "outdated",
        "finished",
    ]


def test_scores_of_other_predictions_and_energies_of_another_log_do_not_count(current):
    write_artefact(current, stage_of(current, "predict"), samples=13)
    summarise(current)
    assert sorted(Path(name).name for name in named(current)) == ["energy.json", "scores.json"]


def test_new_data_make_all_outdated_that_is_made_from_the_old(current):
    """The data alone were read again, from a changed file, and all else was touched."""
    write_artefact(current, stage_of(current, "download_dataset"), splits={"train": {"rows": 65}})
    assert {Path(name).name for name in named(current)} == {"provenance.json", "tokenized.json"}
    states = cell_states(results(current), rows(current), current.stamps())
    assert set(states["state"]) == {"outdated"}, "through all that lies between"
    assert finished_parts(current.stages, current.stamps()) == frozenset()
    write_artefact(current, stage_of(current, "make_tokenizer"))
    write_artefact(current, stage_of(current, "tokenize_dataset"), sha256={"validation.arrow": "2"})
    found = [Path(name).name for name in named(current)]
    assert found == ["training.json", "inference.json", "scores.json"] * 2


def test_data_that_were_removed_to_free_the_disk_say_nothing_against_results(current):
    shutil.rmtree("resources")
    check_current(results(current), current)
    assert set(cell_states(results(current), rows(current), current.stamps())["state"]) == {
        "finished"
    }


@pytest.mark.parametrize(
    "name", ["tables/tables.html", "figures/figures.html", "claims.html", "claims.md"]
)
def test_a_page_from_elsewhere_is_found(current, name):
    page = results(current) / name
    page.write_text(page.read_text() + " ")
    (found,) = outdated(current, results(current))
    assert (
        "is not the file that was written with it" in found.reason
        and Path(name).name in found.reason
    )


def test_a_table_from_elsewhere_is_refused(current):
    summary = results(current) / "summary.csv"
    summary.write_text(summary.read_text().replace("12.5", "22.5"))
    with pytest.raises(StaleSummary, match="is not the table that was written with"):
        check_current(results(current), current)


def test_an_artefact_without_a_stamp_and_one_that_is_torn_are_named(current):
    first, second = (Path(stage_of(current, "score", place).artefact) for place in (0, 1))
    first.write_text("{")
    second.write_text(json.dumps({"score": 1}))
    found = [one.reason for one in outdated(current, results(current))]
    assert found[:2] == ["does not say what made it"] * 2


def test_what_does_not_count_is_set_aside_and_made_again(current, capsys):
    in_force(*RATE)
    assert main(["check", "results/tiny", "--set-aside"]) == 0
    assert capsys.readouterr().out.count("finetune/training.json") == 2
    training = Path(stage_of(current, "finetune").artefact)
    assert not training.exists() and training.with_name("training.json.stale").exists()


def test_a_check_says_what_the_command_line_changed(current, capsys):
    machine = {"watts_per_core": 5}
    changed = in_force(machine=machine)
    write_study_results(changed)
    assert (
        main(["check", "results/tiny"]) == 1 and "watts_per_core 5, now" in capsys.readouterr().err
    )
    assert main(["check", "results/tiny", "--config", "watts_per_core=5"]) == 0
    assert main(["check", "results/tiny", "--config", "watts_per_core"]) == 1
    assert "KEY=VALUE" in capsys.readouterr().err
    Path("config.yaml").write_text("study: tiny\nwatts_per_core: 5.0\n")
    assert main(["check", "results/tiny"]) == 0


def test_without_its_study_file_results_are_judged_by_each_other(current, monkeypatch):
    Path("studies/tiny.yaml").unlink()
    assert find(results(current)) is None
    assert "studies/tiny.yaml is not here" in check_summary(results(current), {})
    write_artefact(current, stage_of(current, "score"), score=99.0)
    with pytest.raises(StaleSummary, match="is older than 1 of the results"):
        check_summary(results(current), {})


def test_partial_makes_nothing_of_what_another_training_gave(current, capsys):
    write_artefact(current, stage_of(current, "finetune"), train_s=7.0)
    write_artefact(current, stage_of(current, "finetune", 1), train_s=7.0)
    write_partial(results(current), partial_settings(current.stages), current.stamps(), {})
    assert not (results(current) / "partial/summary.csv").exists()


def test_an_origin_is_what_a_file_says_not_who_made_it(tmp_path):
    path = tmp_path / "a.json"

    def written(**changes: object) -> str:
        block = {"settings_digest": "s", "code_digest": "c", "longwatt": "1"}
        path.write_text(json.dumps({"x": 1, "provenance": {**block, **changes}}))
        return origin(path)

    before = written()
    assert written(code_digest="d", longwatt="2") == before != written(settings_digest="t")
    said = {"sha256": {"a": "1"}, "provenance": {"rule": "tokenize_dataset"}}
    path.write_text(json.dumps({**said, "seconds": 3}))
    assert origin(path) == digest({"a": "1"})
    path.write_text("[1]")
    assert origin(path) == sha256(path)


@pytest.mark.parametrize(
    ("rule", "said"), [("predict", "inference_runtime_s"), ("summarize_energy", "energy_j")]
)
def test_other_times_and_joules_beside_equal_files_are_another_origin(tmp_path, rule, said):
    """A comparison reports them, though predictions and curves can be the same."""
    path, listed = (
        tmp_path / "a.json",
        {"sha256": {"predictions.jsonl": "1"}, "provenance": {"rule": rule}},
    )
    path.write_text(json.dumps({**listed, said: 4.0}))
    before = origin(path)
    path.write_text(json.dumps({**listed, said: 5.0}))
    assert origin(path) != before


def test_settings_are_told_as_they_were_whatever_the_study_says_now(current):
    """One cell was trained anew with another rate, the other kept (`--rerun-triggers mtime`)."""
    changed = in_force(*RATE)
    write_artefact(changed, stage_of(changed, "finetune"))
    write_artefact(changed, stage_of(changed, "predict"))
    groups = settings_of_rows(results(current), rows(current))
    rates = {
        tuple(group["cells"]["seq_len"]): group["settings"]["training.learning_rate"]
        for group in groups
    }
    assert rates == {(32,): 0.002, (64,): 0.001}
    for stage in (
        stage_of(changed, "score"),
        *(stage_of(changed, "summarize_energy", n) for n in (0, 1)),
    ):
        write_artefact(changed, stage)
    summarise(changed)
    shutil.rmtree("resources")  # made-up data have no statistics to show
    write_tables(
        results(current) / "summary.csv", Path("tables"), changed.stages.tabulate().settings, {}
    )
    table = pd.read_csv("tables/settings.csv").set_index("setting")
    assert table.loc["training.learning_rate"].tolist() == ["0.002", "0.001"]
    assert table.loc["input lengths (tokens)"].tolist() == ["32", "64"]


def test_settings_that_results_do_not_say_are_na(current):
    path = Path(stage_of(current, "finetune").artefact)
    path.write_text(json.dumps({**json.loads(path.read_text()), "provenance": {}}))
    groups = settings_of_rows(results(current), rows(current))
    table = settings_in_force(groups, {}).set_index("setting")
    assert sorted(table.loc["training.learning_rate"]) == ["0.001", "NA"]


def test_devices_of_a_batch_are_those_that_the_training_had(current):
    row = {"budget": "cpu", "effective_batch_size": 16.0, "per_device_batch_size": 2.0}
    row |= {"gradient_accumulation_steps": 4.0, "processes": 2.0}
    table = pd.DataFrame(
        [{**dict.fromkeys(("dataset", "model", "protocol"), "x"), "seq_len": 32, **row}]
    )
    assert list(_products(table, {"cpu": 1}).values()) == ["16 = 2 x 4 x 2"]
    assert list(_products(table.assign(processes=None), {"cpu": 8}).values()) == ["16 < 2 x 4 x 8"]


def test_the_summary_that_tells_what_is_there_is_compared_not_the_newest(current):
    folder = results(current)
    partial = folder / "partial/summary.csv"
    write_summary(folder, rows(current)[:1], costs.price_figures({}), partial, {})
    os.utime(partial, (4e9, 4e9))
    assert best_summary(folder) == (folder / "summary.csv", []), "it has more rows"
    write_artefact(current, stage_of(current, "score", 1), score=99.0)
    assert best_summary(folder) == (partial, []), "the cell that it has is as it was"
    scores = stage_of(current, "score").artefact
    write_artefact(current, stage_of(current, "score"), score=98.0)
    path, found = best_summary(folder)
    assert path == folder / "summary.csv" and scores in found
    with pytest.raises(
        CompareError, match=r"does not tell the results beside it \(.*scores\.json.*partial"
    ):
        read_results(Path("results"), "tiny")


def test_a_study_that_was_renamed_is_judged_where_it_is_now(current):
    moved = Path("results/before")
    results(current).rename(moved)
    assert best_summary(moved) == (moved / "summary.csv", [])
    assert len(read_results(Path("results"), "before")) == 2
    table = moved / "summary.csv"
    table.write_text(table.read_text().replace("12.5", "13.5"))
    assert best_summary(moved) == (table, [CHANGED])
    (moved / "summary.json").unlink()
    assert best_summary(moved) == (table, [NO_ORIGINS])


def test_a_comparison_names_the_results_that_a_study_would_make_otherwise_now(current):
    changed, table = in_force(*RATE), read_results(Path("results"), "tiny")
    assert outdated_rows(Path("results"), "tiny", table, current.stamps()) == []
    assert outdated_rows(Path("results"), "tiny", table, None) is None
    names = outdated_rows(Path("results"), "tiny", table, changed.stamps())
    assert names == [f"needle/led/{length}/cpu/generated/seed1 (greedy)" for length in (32, 64)]
    fewer = in_force("seq_lens: [32, 64]", "seq_lens: [32]")
    names = outdated_rows(Path("results"), "tiny", table, fewer.stamps())
    assert names == ["needle/led/64/cpu/generated/seed1 (greedy)"], (
        "a cell that the study has no more"
    )
    other = current.of_other("tiny", Path("studies/tiny.yaml"), SCHEMA)
    assert (
        other.stamps() == fewer.stamps()
        and current.of_other("x", Path("studies/x.yaml"), SCHEMA) is None
    )
    Path("studies/bad.yaml").write_text("title: 3")
    assert current.of_other("bad", Path("studies/bad.yaml"), SCHEMA) is None


def test_a_plan_takes_no_times_from_rows_of_results_that_are_there_no_more(current):
    """Trained again, and killed before the summary: what it took is not what the summary says."""
    settings = {**current.stages.plan_settings(), "gpus_given": None, "gpus_found": 0, "demo": None}

    def sources() -> dict[str, str]:
        parts = read_plan(settings, current.stamps()).parts
        return {part.cell.seq_len: part.source for part in parts if part.part == "finetune"}

    assert sources() == {32: "measured", 64: "measured"}
    write_artefact(current, stage_of(current, "finetune"), train_runtime_s=7.0)
    found = sources()
    assert found[64] == "measured" and found[32].startswith("scaled by 1 measured cells")
    summary = results(current) / "summary.csv"
    summary.write_text(summary.read_text() + "\n")
    assert changed_cells(summary, results(current)) == frozenset(current.stages.cells)


def test_results_are_judged_alike_by_whatever_path_they_are_called(current, tmp_path, monkeypatch):
    for path in ("results/tiny/", str(tmp_path / "results/tiny")):
        assert main(["check", path]) == 0
    monkeypatch.chdir(results(current))
    assert main(["check", "."]) == 0
    monkeypatch.chdir(tmp_path)
    in_force(*RATE)
    assert main(["check", str(tmp_path / "results/tiny")]) == 1


def test_a_summary_and_curves_of_other_cells_are_set_aside_too(current):
    """Cells were restored from a backup, so Snakemake would find nothing to do."""
    write_artefact(current, stage_of(current, "score"), score=99.0)
    assert main(["check", "results/tiny"]) == 1
    assert named(current) == ["summary.json"]
    assert main(["check", "results/tiny", "--set-aside"]) == 0
    assert (
        not Path("results/tiny/summary.json").exists() and Path("results/tiny/summary.csv").exists()
    )


def test_what_is_set_aside_for_what_it_was_made_from_does_not_come_back_by_itself(current):
    """Predictions of another training carry the settings and code in force."""
    write_artefact(current, stage_of(current, "finetune"), train_s=7.0)
    write_artefact(current, stage_of(current, "summarize_energy"))
    summarise(current)
    inference = Path(stage_of(current, "predict").artefact)
    assert set_outdated_aside(current, results(current)) == [str(inference)]
    everything = list(current.stages.all())
    assert set_stale_aside(everything, current.codes) == [] and not inference.exists()
    assert inference.with_name("inference.json.unmatched").exists()


def test_summaries_set_aside_do_not_come_back_by_themselves(current):
    write_artefact(current, stage_of(current, "score"), score=99.0)
    assert set_outdated_aside(current, results(current)) == ["results/tiny/summary.json"]
    set_stale_aside(list(current.stages.all()), current.codes)
    assert not Path("results/tiny/summary.json").exists()


def test_results_that_cannot_be_renamed_are_named_without_a_traceback(current, capsys, monkeypatch):
    changed = in_force(*RATE)

    def refused(path: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        assert main(["check", "results/tiny", "--set-aside"]) == 1
        aside = set_stale_aside(list(changed.stages.all()), changed.codes)
    assert "training.json cannot be renamed (Read-only file system)" in capsys.readouterr().err
    assert aside == [stage_of(current, "finetune", place).artefact for place in (0, 1)]
    assert all(Path(artefact).exists() for artefact in aside)


NEEDLE = TINY_STUDY[TINY_STUDY.index("    source: needle") : TINY_STUDY.index("    metric: f1")]
OWN = "    source: jsonl\n    options: {files: {train: own.jsonl, validation: own.jsonl}}\n"


@pytest.fixture
def own(tmp_path, monkeypatch) -> InForce:
    """A finished study of the user's own file, below the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("own.jsonl").write_text("old\n")
    found = in_force(NEEDLE, OWN)
    write_study_results(found)
    os.utime(
        "own.jsonl", (1e9, 1e9)
    )  # these artefacts record no sources, so times are all there is
    check_current(results(found), found)
    return found


def change_own_file() -> None:
    Path("own.jsonl").write_text("new\n")
    os.utime("own.jsonl", (4e9, 4e9))


def test_results_of_files_that_have_changed_since_are_refused_and_do_not_count(own, capsys):
    change_own_file()
    (found,) = outdated(own, results(own))
    assert found.artefact.endswith("dataset.json")
    assert found.reason == "read from files that have changed since: own.jsonl"
    assert main(["check", "results/tiny"]) == 1 and "own.jsonl" in capsys.readouterr().err
    states = cell_states(results(own), rows(own), own.stamps())
    assert set(states["state"]) == {"outdated"}
    table = read_results(Path("results"), "tiny")
    assert len(outdated_rows(Path("results"), "tiny", table, own.stamps())) == 2


def test_data_that_were_set_aside_and_not_made_again_are_not_data_that_were_removed(own):
    """The file had changed, and what it holds now cannot be read."""
    change_own_file()
    (data,) = source_checks.set_aside(own.stages, KnownDigests(source_checks.KNOWN))
    (found,) = outdated(own, results(own))
    assert (found.artefact, found.reason) == (data, "set aside, and not made again yet")
    states = cell_states(results(own), rows(own), own.stamps())
    assert set(states["state"]) == {"outdated"}
    Path(data + source_checks.OUTDATED).unlink()
    assert outdated(own, results(own)) == []


@pytest.mark.parametrize("rule", ["make_tokenizer", "tokenize_dataset"])
def test_tokens_of_other_code_that_were_set_aside_are_no_removed_data(current, rule):
    path = Path(stage_of(current, rule).artefact)
    path.rename(path.with_name(path.name + STALE))
    assert [one.artefact for one in outdated(current, results(current))] == [str(path)]
    assert set(cell_states(results(current), rows(current), current.stamps())["state"]) == {
        "outdated"
    }


@pytest.mark.parametrize(
    ("options", "judged"),
    [
        ({"executor": "touch"}, True),
        ({"touch": True}, True),
        ({"report": "r.html", "report_after_run": True}, True),
        ({"executor": "local", "touch": False}, False),
        ({"report": "r.html"}, False),
        ({}, False),
    ],
)
def test_all_is_judged_before_snakemake_takes_it_as_it_is(options, judged):
    assert believes_files(options) == judged


def test_shared_data_set_aside_are_awaited_by_the_next_run(current):
    """Snakemake alone would not miss them while all that was made from them is there."""
    jobs = list(current.stages.all())
    path = Path(stage_of(current, "tokenize_dataset").artefact)
    for suffix in (STALE, source_checks.OUTDATED, UNMATCHED):
        path.rename(path.with_name(path.name + suffix))
        assert shared_set_aside(jobs) == [str(path)]
        path.with_name(path.name + suffix).rename(path)
    assert shared_set_aside(jobs) == []
    path.unlink()
    assert shared_set_aside(jobs) == [], "removed to free the disk"
