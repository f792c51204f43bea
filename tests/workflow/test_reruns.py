"""What a rerun sees: a change, and exactly the rules that run again."""

import os
import shutil
import time

import pytest

from tests.spacing import single_spaced
from tests.workflow.conftest import Project

AFTER_SUMMARY = {"tabulate": 1, "plot": 1, "answer": 1}
AFTER_ENERGY = {"summarize": 1, "plot_power": 1, **AFTER_SUMMARY}
AFTER_SCORE = {"score": 2, "summarize": 1, **AFTER_SUMMARY}
AFTER_PREDICT = {"predict": 2, "summarize_energy": 2, **AFTER_SCORE, **AFTER_ENERGY}
AFTER_FINETUNE = {"finetune": 2, **AFTER_PREDICT, "summarize_energy": 4}
AFTER_DATA = {"tokenize_dataset": 1, **AFTER_FINETUNE}
LIB = "workflow/lib/longwatt/"

CLAIM = """
claims:
  ceiling_rises:
    statement: More of the document shows more answers.
    tests:
      - ratio: {column: score_ceiling, of: {seq_len: 64}, to: {seq_len: shorter}, above: 1}
"""

CODE = {
    "a comment": (
        LIB + "training/ledger.py",
        "early: bool = False\n",
        "early: bool = False  # so far\n",
        {},
    ),
    "a docstring": (LIB + "metrics/rouge.py", "without stemming.", "unstemmed.", {}),
    "formatting": (
        LIB + "training/ledger.py",
        "early: bool = False\n",
        "early: bool  =  (False)\n",
        {},
    ),
    "a lease's message": (LIB + "gpus/leases.py", "waiting for", "queueing for", {}),
    "the job's wrapper": (
        LIB + "jobs/launch.py",
        "TAKEOVER_WAIT_S = 60.0",
        "TAKEOVER_WAIT_S = 61.0",
        {},
    ),
    "the energy recorder": (
        LIB + "energy/recorder.py",
        "LOG_SYNC_EVERY_S = 5.0",
        "LOG_SYNC_EVERY_S = 6.0",
        {},
    ),
    "the scoring command": (LIB + "metrics/__main__.py", "return 1\n", "return 2\n", {}),
    "another family's code": (LIB + "models/seq2seq.py", '"led")', '"led", "x")', {}),
    "another source's code": (LIB + "datasets/reading/rows.py", "a number", "some number", {}),
    "table code": (
        LIB + "layout/table_files.py",
        '= "caption"',
        '= "caption" + ""',
        {"tabulate": 1},
    ),
    "plotting code": (LIB + "report/figures.py", "markersize=7", "markersize=8", {"plot": 1}),
    "the code of the energy figure": (
        LIB + "report/energy_figures.py",
        "height=0.66",
        "height=0.67",
        {"plot": 1},
    ),
    "the code of the power page": (
        LIB + "report/power_page.py",
        "MOST_POINTS = 400",
        "MOST_POINTS = 401",
        {"plot_power": 1},
    ),
    "a script of the answer's page": (
        LIB + "answer/page_plot.js",
        "const ZOOM = 1.4;",
        "const ZOOM = 1.5;",
        {"answer": 1},
    ),
    "summary code": (
        LIB + "study/summary_columns.py",
        '"stopped_early", "attempts"',
        '"attempts", "stopped_early"',
        None,
    ),
    "scoring code": (LIB + "results/scoring.py", "100 * best_f1(", "100.0 * best_f1(", AFTER_SCORE),
    "training code": (
        LIB + "training/ledger.py",
        "early: bool = False\n",
        "early: bool = bool(0)\n",
        AFTER_FINETUNE,
    ),
    "the family's code": (
        LIB + "models/led.py",
        "mask[:, 0] = 1",
        "mask[:, :1] = 1",
        AFTER_FINETUNE,
    ),
    "inference code": (
        LIB + "inference/batch_progress.py",
        "REPORT_EVERY_BATCHES = 10",
        "REPORT_EVERY_BATCHES = 9",
        AFTER_PREDICT,
    ),
    "energy reduction": (
        LIB + "energy/reduction/reduce.py",
        "J_PER_KWH = 3.6e6",
        "J_PER_KWH = 3_600_000.0 + 0",
        {"summarize_energy": 4, **AFTER_ENERGY},
    ),
}
SETTINGS = {
    "a learning rate": ("learning_rate: 1e-3", "learning_rate: 2e-3", AFTER_FINETUNE),
    "two values swapped": (
        "{every_steps: 4, max_examples: 6",
        "{every_steps: 6, max_examples: 4",
        AFTER_FINETUNE,
    ),
    "a validation's batch": ("batch_size: 6}", "batch_size: 3}", AFTER_FINETUNE),
    # The table of settings shows those that a training was carried out with.
    "how often checkpoints are written": ("checkpoint_every_s: 0", "checkpoint_every_s: 60", {}),
    "how often losses are logged": ("log_every_steps: 2", "log_every_steps: 5", {}),
    "who loads the data": ("max_steps: 8", "max_steps: 8\n  dataloader_workers: 1", {}),
    "epochs where steps rule": ("max_steps: 8", "max_steps: 8\n  max_epochs: 3", {}),
    "6.0 for 6": ("batch_size: 6}", "batch_size: 6.0}", {}),
    "another spelling of a number": ("1e-3", "0.001", {}),
    "keys in another order": (
        "{kind: byte_level_bpe, vocab_size: 600}",
        "{vocab_size: 600, kind: byte_level_bpe}",
        {},
    ),
    "a metric's setting": ("grid:", "scoring: {bootstrap_resamples: 500}\ngrid:", AFTER_SCORE),
    "an inference batch": (
        "greedy: {split: validation, batch_size: 5}",
        "greedy: {batch_size: 6}",
        AFTER_PREDICT,
    ),
    "the study's title": ("title: Tiny", "title: Very tiny", {"answer": 1}),
    "a model's title": (
        "    family: led",
        "    title: LED\n    family: led",
        {**AFTER_SUMMARY, "plot_power": 1},
    ),
    "a new length": (
        "seq_lens: [32, 64]",
        "seq_lens: [32, 64, 48]",
        {"finetune": 1, "predict": 1, "summarize_energy": 2, "score": 1, **AFTER_ENERGY},
    ),
    "a dataset's option": (
        "train: 64",
        "train: 65",
        {"download_dataset": 1, "make_tokenizer": 1, **AFTER_DATA},
    ),
    "a tokenizer's option": (
        "vocab_size: 600",
        "vocab_size: 610",
        {"make_tokenizer": 1, **AFTER_DATA},
    ),
}


@pytest.mark.parametrize("change", CODE)
def test_a_change_of_code_reruns_exactly(project, change):
    name, old, new, expected = CODE[change]
    project.edit(name, old, new)
    if expected is None:  # the table changes, and so what is drawn from it
        expected = {"summarize": 1, **AFTER_SUMMARY}
    assert project.would_run() == expected


@pytest.mark.parametrize("change", SETTINGS)
def test_a_change_of_settings_reruns_exactly(project, change):
    old, new, expected = SETTINGS[change]
    project.edit("studies/tiny.yaml", old, new)
    assert project.would_run() == expected


@pytest.mark.long
def test_a_claim_is_judged_and_nothing_is_made_again_for_it(project):
    project.study.write_text(project.study.read_text() + CLAIM)
    assert project.would_run() == {"judge_claims": 1, "answer": 1}
    project.run("partial", "all")
    said = [
        single_spaced((folder / "claims.md").read_text())
        for folder in (project.results, project.results / "partial")
    ]
    assert said[0] == said[1]
    assert "| ceiling_rises | More of the document shows more answers. | supported |" in said[0]
    project.run("--report", "report.html")
    assert (
        "The claims of the study, each with its verdict"
        in (project.path / "report.html").read_text()
    )
    project.edit("studies/tiny.yaml", "above: 1}", "above: 90}")
    assert project.would_run() == {"judge_claims": 1, "answer": 1}
    assert "claims.json is older than" in project.run("--report", "report.html", ok=False)


def test_a_price_or_a_grid_s_carbon_only_summarizes_again(project):
    project.edit("config.yaml", "per_kwh: null, per_gpu_hour", "per_kwh: 0.3, per_gpu_hour")
    assert project.would_run() == {"summarize": 1, **AFTER_SUMMARY}


def test_a_touch_reruns_nothing(project):
    for path in [
        *(project.path / "workflow").rglob("*.py"),
        project.study,
        *project.results.rglob("*.json"),
    ]:
        os.utime(path)
    assert project.would_run() == {}


def fresh_clone(project: Project, path) -> Project:
    """Old results beside a new clone: no .snakemake folder."""
    clone = Project.create(path)
    for folder in ("results", "resources", "logs"):
        shutil.copytree(project.path / folder, clone.path / folder)
    return clone


def test_a_fresh_clone_keeps_old_results(project, tmp_path):
    assert fresh_clone(project, tmp_path / "clone").would_run() == {}


def test_a_fresh_clone_with_a_changed_learning_rate_trains_again(project, tmp_path):
    clone = fresh_clone(project, tmp_path / "clone")
    clone.edit("studies/tiny.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    said = clone.run("-n")
    assert "Made by other settings or code than now" in said
    assert str(clone.cell(32).relative_to(clone.path) / "finetune/training.json") in said
    assert clone.would_run() == AFTER_FINETUNE
    clone.edit("studies/tiny.yaml", "learning_rate: 2e-3", "learning_rate: 1e-3")
    assert clone.would_run() == {}, "with the old settings the old results count again"


def test_a_fresh_clone_with_changed_code_trains_again_unless_the_code_is_accepted(
    project, tmp_path
):
    clone = fresh_clone(project, tmp_path / "clone")
    clone.edit(LIB + "training/ledger.py", "early: bool = False\n", "early: bool = bool(0)\n")
    assert clone.would_run() == AFTER_FINETUNE
    clone.edit("config.yaml", "accept_code: []", f"accept_code: [{code_digest_of(project)}]")
    assert clone.would_run() == {}


def test_accepted_code_keeps_finished_cells_and_trains_new_ones(project):
    digest = code_digest_of(project)
    project.edit(LIB + "training/ledger.py", "early: bool = False\n", "early: bool = bool(0)\n")
    assert project.would_run() == AFTER_FINETUNE
    project.edit("config.yaml", "accept_code: []", f"accept_code: [{digest}]")
    assert project.would_run() == {}
    project.edit("studies/tiny.yaml", "seq_lens: [32, 64]", "seq_lens: [32, 64, 48]")
    assert project.would_run()["finetune"] == 1


def code_digest_of(project: Project) -> str:
    from longwatt.provenance.stamps import read_stamp

    return read_stamp(project.cell(32) / "finetune/training.json")["code_digest"]


def test_a_copied_cell_of_other_settings_is_found_out(project, tmp_path):
    other = Project.create(tmp_path / "other")
    other.edit("studies/tiny.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    shutil.copytree(project.path / "resources", other.path / "resources")
    shutil.copytree(project.cell(32), other.cell(32))
    assert other.would_run()["finetune"] == 2


def test_a_summary_older_than_its_cells_is_refused_by_the_report(project):
    scores = project.cell(64) / "predict/greedy/scores.json"
    time.sleep(0.01)
    scores.write_text(scores.read_text().replace('"examples": 12', '"examples": 13'))
    said = project.run("--report", "report.html", ok=False)
    assert "is older than 1 of the results" in said and "scores.json" in said
    assert not (project.path / "report.html").exists()
    scores.unlink()
    assert "scores.json" in project.run("--report", "report.html", ok=False)


def test_a_report_of_other_settings_is_refused_and_a_touch_does_not_hide_them(project):
    project.edit("studies/tiny.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    said = project.run("--report", "report.html", ok=False)
    assert "2 results of tiny are not what the study" in said
    assert "learning_rate 0.001, now 0.002" in said
    assert not (project.path / "report.html").exists()
    project.run("--touch")
    assert project.would_run()["finetune"] == 2


def test_a_report_before_anything_has_run_is_refused(tmp_path):
    assert "has no summary" in Project.create(tmp_path / "new").run(
        "--report", "report.html", ok=False
    )


def test_partial_leaves_out_what_other_settings_made(project):
    assert "2 cells: 2 finished" in project.run("partial")
    project.edit("studies/tiny.yaml", "learning_rate: 1e-3", "learning_rate: 2e-3")
    said = project.run("partial")
    assert "2 cells: 2 outdated" in said and "nothing is finished yet" in said


@pytest.mark.long
def test_changed_data_are_still_to_be_read_again_after_a_touch(tmp_path):
    """A dry run says so too, though the touch has recorded all as made."""
    project = Project.create(tmp_path / "project")
    name = project.path / "own.jsonl"
    name.write_text(
        "".join(f'{{"id": "{n}", "input": "a b c d e {n}", "output": "{n}"}}\n' for n in range(16))
    )
    text = project.study.read_text()
    source = text[text.index("    source: needle") : text.index("    metric: f1")]
    own = "    source: jsonl\n    options: {files: {train: own.jsonl, validation: own.jsonl}}\n"
    project.study.write_text(text.replace(source, own))
    project.run("--until", "download_dataset")
    name.write_text(name.read_text().replace("a b", "a x"))
    (before,) = (
        path.read_text() for path in project.path.glob("resources/datasets/*/dataset.json")
    )
    project.run("--touch", "--until", "download_dataset")
    said = project.run("-n", "--until", "download_dataset")
    assert "Read from files that have changed since" in said and "Nothing to be done" not in said
    project.run("--until", "download_dataset")
    (made,) = (path.read_text() for path in project.path.glob("resources/datasets/*/dataset.json"))
    assert made != before and "download_dataset" not in project.would_run(
        "--until", "download_dataset"
    )
