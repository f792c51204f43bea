"""Pages of docs/ on data and models of one's own, followed to the letter."""

import csv
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.workflow.conftest import Project

PAGES = ("tutorial/own_data", "how-to/add_source", "how-to/add_family")  # in a reader's order
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def scores(project: Project, study: str) -> dict[str, str]:
    with (project.path / f"results/{study}/summary.csv").open() as stream:
        return {row["model"]: row["score"] for row in csv.DictReader(stream)}


@pytest.mark.long
def test_every_file_and_command_of_the_pages_works(tmp_path):
    project = Project.create(tmp_path / "project")
    (project.path / ".venv").symlink_to(sys.prefix)
    blocks = FENCE.findall("".join((ROOT / f"docs/{page}.md").read_text() for page in PAGES))
    assert [kind for kind, _, _ in blocks].count("sh") == 4
    assert sum(bool(name) for _, name, _ in blocks) == 6
    # Files first: a reader, too, has both before the command that uses them.
    for kind, name, body in blocks:
        if name:
            path = project.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body)
        elif kind == "sh":
            where = {"cwd": project.path, "env": project.environment()}
            command = ["bash", "-euc", body]
            done = subprocess.run(command, capture_output=True, text=True, **where)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert set(scores(project, "mine")) == {"t5", "bart"}
    assert set(scores(project, "coded")) == {"both_ends"}
    assert "My T5" in (project.path / "results/mine/tables/scores.md").read_text()
