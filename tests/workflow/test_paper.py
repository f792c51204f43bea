"""The published study rehearsed: its 64 cells, tables, figures and claims, with tiny models on made-up documents."""

from __future__ import annotations

import csv
import json
import random
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import Project

TASKS = ("gov_report", "summ_screen_fd", "qmsum", "qasper")
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
                lines.append({"id": f"{split}{number}", "pid": str(number), "input": text, "output": output})
            lines.append({**lines[0], "output": "word1 word2"})  # a second reference
            archive.writestr(f"{task}/{split}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory) -> Project:
    """Both protocols' 64 cells, trained, scored, drawn and judged."""
    project = Project.create(tmp_path_factory.mktemp("paper") / "project")
    data = project.path / "zips"
    data.mkdir()
    for task in TASKS:
        write_task(data, task)
    for path in (ROOT / "studies").glob("paper*.yaml"):
        (project.path / "studies" / path.name).write_text(path.read_text())
    project.edit("config.yaml", "mirror: null", f"mirror: {data}")
    for name, base in (("sound", "paper"), ("published", "paper_as_published")):
        (project.path / f"studies/{name}.yaml").write_text(REHEARSAL.read_text().replace("BASE", base))
        project.run(study=name)
    return project


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_study_runs_in_both_protocols(rehearsed):
    for name in ("sound", "published"):
        summary = rows(rehearsed.path / f"results/{name}/summary.csv")
        assert len(summary) == 64 and all(float(row["score"]) >= 0 for row in summary)
        assert {row["initialisation"] for row in summary} == {"random"}
