"""A tiny study from nothing to figures."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.stand_in_gpus import STAND_IN

from longwatt.energy.reduction.reduce import summarize_log
from longwatt.provenance.stamps import digest, read_stamp
from longwatt.study.reported.report_items import GENERAL, figures, tables
from longwatt.study.summary_columns import COLUMNS
from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

PROMISED = (
    "cell dataset model seq_len budget protocol seed inference initialisation score score_name",
    "score_ci_low score_ci_high rouge1 rouge2 rougeL f1 train_samples_per_second train_runtime_s",
    "train_energy_kwh train_energy_source train_power_efficiency inference_samples_per_second",
    "mean_gpu_utilization_pct mean_gpu_memory_gib peak_memory_gib effective_batch_size steps",
    "stopped_early",
)
UNMEASURED = (
    "train_energy_kwh", "train_power_efficiency", "mean_gpu_utilization_pct",
    "inference_energy_kwh",
)  # fmt: skip


@pytest.fixture
def rows(finished) -> list[dict[str, str]]:
    with (finished.results / "summary.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_summary_has_a_row_per_cell_and_every_promised_column(rows):
    assert [row["seq_len"] for row in rows] == ["32", "64"]
    assert list(rows[0]) == list(COLUMNS)
    assert set(" ".join(PROMISED).split()) <= set(rows[0])


def test_what_is_unknown_is_na_and_never_zero(rows):
    for row in rows:
        assert row["train_energy_source"] == "none"
        for column in (
            "train_energy_kwh",
            "train_power_efficiency",
            "mean_gpu_utilization_pct",
            "inference_energy_kwh",
        ):
            assert row[column] == "NA"


def test_numbers_of_a_row_agree_with_each_other(rows, finished):
    for row in rows:
        training = json.loads(
            (finished.cell(int(row["seq_len"])) / "finetune/training.json").read_text()
        )
        assert training["steps"] == 8 and training["effective_batch_size"] == 4
        assert training["samples"] == 8 * 4
        assert training["input_tokens"] <= training["padded_input_tokens"]
        padding = 1 - training["input_tokens"] / training["padded_input_tokens"]
        assert float(row["padding_share"]) == pytest.approx(padding)
        assert row["max_tokens_per_batch"] == "NA"
        spent = training["train_s"] + training["validation_s"] + training["checkpoint_s"]
        assert float(row["train_runtime_s"]) == pytest.approx(spent)
        assert float(row["train_samples_per_second"]) == pytest.approx(32 / spent)
        assert training["validations"] == 2 and len(training["attempts"]) == 1
        assert float(row["score_ci_low"]) <= float(row["score"]) <= float(row["score_ci_high"])
        assert 0 < float(row["score_ceiling"]) <= 100


def test_a_longer_input_has_a_higher_ceiling(rows):
    ceilings = [float(row["score_ceiling"]) for row in rows]
    assert ceilings[0] < ceilings[1] == 100


def test_history_has_losses_and_validations(finished):
    with (finished.cell(32) / "finetune/history.csv").open() as stream:
        history = list(csv.DictReader(stream))
    assert list(history[0]) == ["step", "epoch", "loss", "learning_rate", "score", "seconds"]
    assert [row["step"] for row in history if row["loss"] != "NA"] == ["2", "4", "6", "8"]
    assert [row["step"] for row in history if row["score"] != "NA"] == ["4", "8"]
    seconds = [float(row["seconds"]) for row in history]
    assert seconds == sorted(seconds)


def test_every_prediction_has_its_counts_and_its_batch(finished):
    lines = (finished.cell(64) / "predict/greedy/predictions.jsonl").read_text().splitlines()
    predictions = [json.loads(line) for line in lines]
    assert len(predictions) == 12
    assert [p["batch"] for p in predictions] == [0] * 5 + [1] * 5 + [2] * 2
    assert all(p["input_tokens"] > 0 and p["batch_seconds"] > 0 for p in predictions)
    inference = json.loads((finished.cell(64) / "predict/greedy/inference.json").read_text())
    per_batch = {p["batch"]: p["batch_seconds"] for p in predictions}
    assert inference["inference_samples_per_second"] == pytest.approx(12 / sum(per_batch.values()))


def test_the_best_weights_are_safetensors(finished):
    model = finished.cell(32) / "finetune/model"
    assert (model / "model.safetensors").stat().st_size > 0
    assert not list(model.glob("*.bin")) and (model / "tokenizer.json").exists()


def test_every_stamped_artefact_carries_its_settings_and_code(finished):
    names = (
        "dataset", "tokenized", "training", "inference", "energy", "scores", "summary", "tables",
        "figures", "power",
    )  # fmt: skip
    paths = [p for name in names for p in finished.path.glob(f"re*/**/{name}.json")]
    stamps = {path: read_stamp(path) for path in paths if "work" not in path.parts}
    assert len(stamps) == 2 + 2 * 5 + 4
    for path, stamp in stamps.items():
        assert stamp is not None, path
        assert stamp["settings_digest"] == digest(stamp["settings"])
        assert len(stamp["code_digest"]) == 64


def test_figures_exist_and_the_energy_panel_says_why_it_is_empty(finished):
    figures = finished.results / "figures"
    names = {path.stem for path in figures.glob("*.svg")}
    assert names == {path.stem for path in figures.glob("*.png")} == set(GENERAL)
    assert "Energy was not measured" in _text(figures / "accuracy_vs_training_energy.svg")
    assert "Energy was not measured" not in _text(figures / "accuracy_vs_training_time.svg")


def test_every_job_has_an_energy_log_with_its_phases(finished):
    training = summarize_log([finished.cell(32) / "finetune/energy.jsonl.gz"])
    assert {"idle_before", "load", "train", "validation", "checkpoint", "finish"} <= set(
        training["phases"]
    )
    facts = json.loads((finished.cell(32) / "finetune/training.json").read_text())
    for phase in ("train", "validation", "checkpoint"):
        assert training["phases"][phase]["duration_s"] == pytest.approx(
            facts[f"{phase}_s"], abs=0.05
        )
    inference = summarize_log([finished.cell(32) / "predict/greedy/energy.jsonl.gz"])
    assert inference["duration_s"] == inference["phases"]["generate"]["duration_s"] > 0
    assert (training["attempts"], training["wasted"]["duration_s"]) == (1, 0)
    assert training["energy_source"] == "none"
    rated = summarize_log([finished.cell(32) / "finetune/energy.jsonl.gz"], "auto")
    assert rated["energy_source"] == "estimate" and rated["watts_per_core"] == 280 / 128
    assert "AMD EPYC 7763 64-Core Processor, 280 W" in rated["watts_basis"], "the job's own machine"


def test_every_cell_has_a_figure_of_its_power(finished):
    page = (finished.results / "power/power.html").read_text()
    assert page.count("<details>") == 2 and page.count("Power was not measured") == 4
    assert "training steps" in page


def _text(svg: Path) -> str:
    return svg.read_text()


def test_a_jobs_log_holds_what_its_workers_printed(finished):
    log = (finished.logs(32) / "finetune.log").read_text()
    assert "attempt 1 starts from the beginning" in log
    assert "step 8/8" in log and "score" in log


def test_a_second_run_has_nothing_to_do(project):
    assert "Nothing to be done" in project.run()


def test_a_report_is_one_file_with_captions(project):
    project.run("--report", "report.html")
    report = (project.path / "report.html").read_text()
    assert report.count('"page": "all cells"') == 1, "the power of all cells is one page"
    assert "learning_rate" not in report, (
        "settings are told by the artefacts and tables, not by a job's parameters"
    )
    shown = {s.caption for s in (*figures({}).values(), *tables({}).values())} | {
        "power",
        "workflow",
        "answer",
    }
    for caption in (project.path / f"workflow/report/{name}.rst" for name in sorted(shown)):
        beginning = caption.read_text().split(":")[0].split("{{")[0].strip("* ")[:30].split(".")[0]
        assert beginning in report, caption.name


@pytest.mark.long
def test_declared_watts_per_core_give_an_estimate_that_says_so(project):
    project.edit("config.yaml", "watts_per_core: none", "watts_per_core: 10.5")
    again = {"summarize_energy": 4, "summarize": 1, "tabulate": 1, "plot": 1, "plot_power": 1,
             "answer": 1}  # fmt: skip
    assert project.would_run() == again
    project.run()
    with (project.results / "summary.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert row["train_energy_source"] == "estimate" and row["train_energy_measured"] == "False"
    assert row["train_energy_basis"] == row["inference_energy_basis"] == "declared: watts_per_core"
    assert float(row["train_energy_kwh"]) > 0 and float(row["train_power_efficiency"]) > 0
    assert "estimated" in _text(project.results / "figures/accuracy_vs_training_energy.svg")
    parts = ("train_steps_energy_kwh", "validation_energy_kwh", "checkpoint_energy_kwh")
    assert sum(float(row[part]) for part in parts) == pytest.approx(
        float(row["train_energy_kwh"]), rel=0.05
    )
    assert row["wasted_energy_kwh"] == "0.0" and float(row["joules_per_example"]) > 0
    assert row["train_gco2e"] == "NA", "no intensity was given"
    assert "(estimated)" in (project.results / "tables/energy.md").read_text()
    _choose(project, row)


def _choose(project, row) -> None:
    """The front of life-cycle energy, and the command that chooses by it."""
    kwh = float(row["train_energy_kwh"]) + 1e6 * float(row["joules_per_example"]) / 3.6e6
    assert float(row["lifecycle_energy_kwh"]) == pytest.approx(kwh)
    assert row["frontier_lifecycle_energy"] in ("on", "undecided", "dominated")
    assert 0 <= float(row["frontier_lifecycle_energy_share"]) <= 1
    assert "front (life-cycle energy)" in (project.results / "tables/summary.md").read_text()
    command = [sys.executable, "-m", "longwatt", "choose", "--study", "tiny"]
    done = subprocess.run(
        command, cwd=project.path, env=project.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())  # lines are wrapped
    assert "Take " in said and "(random weights)" in said
    assert "estimated" in said and "had no part in the choice" in said


@pytest.mark.long
def test_a_local_checkpoint_and_its_tokenizer_are_a_model_like_any_other(finished, tmp_path):
    folder = finished.cell(64) / "finetune/model"
    study = TINY_STUDY.replace(
        "initialisation: random", f"initialisation: checkpoint\n    path: {folder}"
    )
    study = study.replace(
        "bpe: {kind: byte_level_bpe, vocab_size: 600}", f"bpe: {{kind: checkpoint, path: {folder}}}"
    )
    study = study.replace("seq_lens: [32, 64]", "seq_lens: [64]")
    project = Project.create(tmp_path / "project", study)
    project.run()
    with (project.results / "summary.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["initialisation"] == "checkpoint"
    (model,) = (project.path / "resources/models").iterdir()
    assert (model / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert "Nothing to be done" in project.run()


@pytest.mark.long
def test_a_gpu_budget_without_cuda_is_refused_and_never_trained_on_the_cpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    project = Project.create(tmp_path / "project", TINY_STUDY.replace("gpus: 0", "gpus: 1"))
    (project.path / "pynvml.py").write_text(STAND_IN)
    environment = {"PYTHONPATH": str(project.path), "STAND_IN_GPUS": "GPU-0=x"}
    environment["LONGWATT_LEASE_DIR"] = str(tmp_path / "l")
    said = project.run(ok=False, **environment)
    assert "the cell's budget has 1 GPU(s) but torch" in said
    assert "sees 0 of CUDA_VISIBLE_DEVICES=GPU-0" in said
