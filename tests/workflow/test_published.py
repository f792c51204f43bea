"""Published values and a study's own figures, through Snakemake."""

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

MORE = """
published:
  source: A paper
  protocol: teacher_forced
  scores: [{dataset: needle, model: led, budget: cpu, scores: {32: 30, 64: 40.5}}]
  batch_sizes: [{datasets: [needle], model: led, budget: cpu, effective: {64: 8}}]
  datasets: {needle: {rows: {train: 64, validation: 24, test: 4}}}
figures:
  - {name: zeta, title: Figure 1. Time, costs: [training_time_log, inference_speed],
     datasets: [needle]}
  - {name: alpha, costs: [peak_memory], datasets: [needle], models: [led], budgets: [cpu]}
"""


def test_published_values_make_tables_and_figures_anew_and_nothing_else(project):
    with project.study.open("a") as stream:
        stream.write(MORE)
    before = {path: path.stat().st_mtime_ns for path in project.results.rglob("*.json")}
    project.run("--report-after-run", "--report", "report.html")
    anew = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert anew == {"tables.json", "figures.json"}
    names = {path.stem for path in (project.results / "figures").glob("*.svg")}
    assert {"zeta", "alpha", "published", "accuracy_vs_training_time"} <= names
    wanted = {".html", ".md", ".csv"}
    assert {path.suffix for path in (project.results / "tables").glob("published.*")} == wanted
    assert "random weights" in (project.results / "tables/published.md").read_text()
    report = (project.path / "report.html").read_text()
    assert "Figure 1. Time" in report and "scores beside A paper" in report
    assert "settings in force" in report
    captions = (
        "A figure that the study file asks for",
        "Published scores in the order",
        "This study's scores (filled",
    )
    assert all(caption in report for caption in captions)


def test_a_published_value_without_a_cell_stops_the_run_at_once(tmp_path):
    wrong = MORE.replace("{32: 30, 64: 40.5}", "{32: 30, 96: 40.5}")
    project = Project.create(tmp_path / "project", TINY_STUDY + wrong)
    output = project.run("-n", ok=False)
    assert "published.scores[0]: the study has no cell needle/led/96/cpu" in output
    assert "Traceback" not in output and "tiny.yaml" in output
    assert not (project.path / "resources").exists()
