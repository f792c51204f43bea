"""The tutorial from a user's JSON lines to an answer, followed to the letter."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.workflow.test_adding import FENCE

PAGE = (ROOT / "docs/tutorial/json_lines_to_answer.md").read_text()


@pytest.fixture
def run(tmp_path):
    """Run a block of the page where the one before it ended, longwatt and python being at hand."""
    programs = Path(sys.executable).parent
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    environment = {**kept, "PATH": f"{programs}{os.pathsep}{kept['PATH']}"}
    ended = tmp_path / "ended"
    ended.write_text(str(tmp_path))

    def block(body):
        done = subprocess.run(
            ["bash", "-euc", f"{body}\npwd > {ended}"], cwd=ended.read_text().strip(),
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return block


@pytest.mark.long
def test_every_command_of_the_page_works_and_says_what_the_page_shows(tmp_path, run):
    blocks = FENCE.findall(PAGE)
    assert [kind for kind, _, _ in blocks] == [
        "python", "sh", "sh", "text", "sh", "text", "sh", "sh", "text", "sh", "text",
    ]  # fmt: skip
    said = ""
    for kind, name, body in blocks:
        if name:
            (tmp_path / name).write_text(body)
        elif kind == "sh":
            said += run(body)
    for words in (
        "fields: input: report, output: answers, query: question",
        "42 train, 9 validation, 9 test rows",
        "checked: cells (2)",
        "nothing would be refused",
        "Take Tiny LED",
    ):
        assert words in PAGE.replace("\n", " ") and words in said
    with (tmp_path / "my-study/results/my_study/summary.csv").open() as stream:
        scores = {row["seq_len"]: float(row["score"]) for row in csv.DictReader(stream)}
    # Random weights on another machine round otherwise: the longer input finds more all the same.
    assert scores["64"] > scores["32"]
    assert (tmp_path / "my-study/results/my_study/answer.html").is_file()
