"""The published study rehearsed with tiny models on made-up documents, up to its claims."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.workflow.conftest import Project

TASKS = ("gov_report", "summ_screen_fd", "qmsum", "qasper")
STUDIES = {"sound": "paper", "published": "paper_as_published"}
REHEARSAL = ROOT / "tests/fixtures/rehearsal.yaml"


def write_task(folder: Path, task: str, rows: int = 16) -> None:
    """A zip as the hub has it, of documents longer than the longest input."""
    source = random.Random(task)
    words = [f"word{n}" for n in range(60)]
    with zipfile.ZipFile(folder / f"{task}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("train", "validation"):
            lines = []
            for number in range(rows):
                text = " ".join(source.choices(words, k=2400))
                output = " ".join(source.choices(words, k=source.randrange(4, 9)))
                lines.append(
                    {"id": f"{split}{number}", "pid": str(number), "input": text, "output": output}
                )
            lines.append({**lines[0], "output": "word1 word2"})  # a second reference
            archive.writestr(
                f"{task}/{split}.jsonl", "".join(json.dumps(line) + "\n" for line in lines)
            )


def left_out(**axes) -> dict:
    return {**axes, "reason": "takes too long for a test"}


# Cells take twenty seconds each. Sound: all at one length; as published: Qasper's of these.
LONGER = [left_out(seq_len=length) for length in (2048, 3072, 4096)]
OTHERS = [left_out(dataset=dataset) for dataset in TASKS if dataset != "qasper"]
LEFT_OUT = {"paper": LONGER, "paper_as_published": [*LONGER, *OTHERS]}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory) -> Project:
    """Cells of both protocols, trained, scored, drawn and judged, and their comparison."""
    project = Project.create(tmp_path_factory.mktemp("paper") / "project")
    data = project.path / "zips"
    data.mkdir()
    for task in TASKS:
        write_task(data, task)
    for path in (ROOT / "studies").glob("paper*.yaml"):
        (project.path / "studies" / path.name).write_text(path.read_text())
    project.edit("config.yaml", "mirror: null", f"mirror: {data}")
    for name, base in STUDIES.items():
        study = yaml.safe_load(REHEARSAL.read_text().replace("BASE", base))
        (project.path / f"studies/{name}.yaml").write_text(
            yaml.safe_dump({**study, "exclude": LEFT_OUT[base]})
        )
        project.run(study=name)
    command = [*project.command("compare", study="sound"), "against=published"]
    subprocess.run(command, cwd=project.path, env=project.environment(), check=True)
    return project


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_study_runs_in_both_protocols_and_is_shown_judged_and_compared(rehearsed):
    found = {name: rows(rehearsed.path / f"results/{name}/summary.csv") for name in STUDIES}
    assert {name: len(summary) for name, summary in found.items()} == {"sound": 16, "published": 5}
    for summary in found.values():
        assert all(
            float(row["score"]) >= 0 and row["initialisation"] == "random" for row in summary
        )
    results = rehearsed.path / "results/sound"
    for number in range(1, 7):
        assert (results / f"figures/figure_{number}.png").stat().st_size > 20_000
    verdicts = json.loads((results / "claims.json").read_text())["claims"]
    assert len(verdicts) == 11
    table = (results / "tables/published.md").read_text()
    assert "49.53" in table and "random weights" in table
    predictions = (
        rehearsed.path
        / "results/published/qasper/led_base/1024/gpu1/teacher_forced/seed42/predict/greedy"
    )
    ids = [
        json.loads(line)["id"]
        for line in (predictions / "predictions.jsonl").read_text().splitlines()
    ]
    assert ids and all("#" in id_ for id_ in ids), "every reference is an example of its own"
    compared = rows(results / "compare/published/comparison.csv")
    assert len(compared) == 5
    tokens = {path.name for path in (rehearsed.path / "resources/tokenized").iterdir()}
    assert len(tokens) == len(TASKS), "both studies share data and tokens"
