"""`longwatt init` at a terminal and without one, and what `longwatt check` prints."""

import re

import pytest
from typer.testing import CliRunner

from longwatt.commands import check as checking
from longwatt.commands import init as beginning
from longwatt.commands.app import COMMANDS, make_app
from longwatt.readiness import ready
from longwatt.readiness.findings import Findings
from tests.unit.first_study.made_rows import lines, question_rows


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(lines(question_rows()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, typed=None):
    return CliRunner().invoke(make_app(), [str(one) for one in arguments], input=typed)


@pytest.fixture
def at_terminal(monkeypatch):
    monkeypatch.setattr(beginning, "asks", lambda: True)


def test_a_study_is_written_and_the_next_command_named(here):
    done = run("init", "my-study", "--data", "rows.jsonl", "--model", "tiny")
    assert done.exit_code == 0, done.output
    assert "query: question, by its name" in done.output
    assert "Next: cd my-study && longwatt check && longwatt run" in done.output
    assert (here / "my-study/studies/my_study.yaml").is_file()


def test_the_page_in_the_folder_names_commands_that_exist(here):
    run("init", "my-study", "--data", "rows.jsonl", "--model", "tiny")
    page = (here / "my-study/README.md").read_text()
    named = re.findall(r"^    longwatt (\w+)", page, flags=re.MULTILINE)
    assert named[:3] == ["check", "plan", "run"] and set(named) <= set(COMMANDS)


def test_the_next_command_names_the_study_where_config_names_another(here):
    """Else a second study in a folder would seem checked and run, and the first was."""
    assert (
        run("init", ".", "--data", "rows.jsonl", "--model", "tiny", "--study", "a").exit_code == 0
    )
    done = run("init", ".", "--data", "rows.jsonl", "--model", "tiny", "--study", "b")
    assert "kept config.yaml" in done.output
    assert "Next: longwatt check --study b && longwatt run --study b\n" in done.output
    (here / "config.yaml").write_text("study: [")
    done = run("init", ".", "--data", "rows.jsonl", "--model", "tiny", "--study", "c")
    assert done.exit_code == 0 and "longwatt run --study c" in done.output


@pytest.mark.parametrize(
    ("given", "missing"),
    [(["--model", "tiny"], "--data is missing"), (["--data", "rows.jsonl"], "--model is missing")],
)
def test_without_a_terminal_a_missing_option_is_named(given, missing, here):
    done = run("init", "my-study", *given)
    assert done.exit_code == 2 and missing in done.output
    assert not (here / "my-study").exists()


def test_at_a_terminal_what_is_missing_is_asked_for(here, at_terminal):
    done = run("init", "my-study", typed="rows.jsonl\n\ny\n")
    assert done.exit_code == 0, done.output
    assert "[tiny]" in done.output and "Is that right?" in done.output
    assert (here / "my-study/studies/my_study.yaml").is_file()


def test_at_a_terminal_misread_fields_are_asked_for(here, at_terminal):
    typed = "n\nreport\nanswers\nnone\n\ny\n"
    done = run("init", "out", "--data", "rows.jsonl", "--model", "tiny", typed=typed)
    assert done.exit_code == 0, done.output
    assert done.output.count("Is that right?") == 2, "what was typed is shown and asked about"
    text = (here / "out/studies/out.yaml").read_text()
    assert "fields: {input: report, output: answers}" in text


def test_at_a_terminal_answers_that_were_taken_for_labels_become_texts(here, at_terminal):
    rows = [{"thread": f"Ticket {n}. " * 9, "reply": ("a disk", "a cable")[n % 2]}
            for n in range(40)]  # fmt: skip
    (here / "rows.jsonl").write_text(lines(rows))
    typed = "n\n\n\n\ntext\ny\n"
    done = run("init", "out", "--data", "rows.jsonl", "--model", "tiny", typed=typed)
    assert done.exit_code == 0, done.output
    assert "labels (classification)" in done.output and "the output is texts: as" in done.output
    assert "source: jsonl" in (here / "out/studies/out.yaml").read_text()


def test_without_a_terminal_the_options_that_correct_a_guess_are_named(here):
    done = run("init", "out", "--data", "rows.jsonl", "--model", "tiny")
    assert "--task and --metric put right" in done.output and "Is that right?" not in done.output


def test_an_answer_that_ends_early_writes_nothing(here, at_terminal):
    done = run("init", "out", "--data", "rows.jsonl", "--model", "tiny", typed="")
    assert done.exit_code != 0 and not (here / "out").exists()


def test_a_refusal_is_one_message_and_no_traceback(here):
    done = run("init", "out", "--data", "gone.jsonl", "--model", "tiny")
    assert done.exit_code == 1
    assert done.output.startswith("longwatt init: --data gone.jsonl does not exist")
    assert "Traceback" not in done.output


def checked(monkeypatch, *problems, dry=()):
    found = Findings(problems=list(problems), notes=["look at this"], checked=["all rows"])
    monkeypatch.setattr(ready, "check_study", lambda *_: found)
    monkeypatch.setattr(checking, "dry_run", lambda *_: list(dry))
    return run("check")


def test_a_sound_study_ends_with_0_and_says_what_was_checked(monkeypatch):
    done = checked(monkeypatch)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "note: look at this", "checked: all rows", "checked: Snakemake: a dry run of all jobs",
        "nothing would be refused",
    ]  # fmt: skip


def test_every_problem_is_printed_and_the_status_is_1(monkeypatch):
    done = checked(monkeypatch, "one", "two")
    assert done.exit_code == 1
    assert "problem: one\nproblem: two\nproblems found: 2; nothing was run" in done.output


def test_what_snakemake_alone_refuses_is_a_problem_too(monkeypatch):
    done = checked(monkeypatch, dry=["Snakemake: a cycle"])
    assert done.exit_code == 1 and "problem: Snakemake: a cycle" in done.output
