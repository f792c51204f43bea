"""The program `longwatt`: its commands, its help, its version, what a shell completes."""

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from longwatt.__main__ import run
from longwatt.commands.app import COMMANDS, make_app
from longwatt.commands.passed_on import ARGPARSE_COMMANDS, completions
from tests.conftest import ROOT


def output_of(*arguments: str) -> str:
    done = CliRunner().invoke(make_app(), list(arguments), prog_name="longwatt")
    assert done.exit_code == 0, done.output
    return done.output


def test_help_names_every_command_with_a_whole_sentence():
    lines = output_of("--help").splitlines()
    for name in COMMANDS:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(line.split()) > 3 and line.endswith("."), "not cut off at 80 columns"
        assert not line.endswith("..."), line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name, capsys):
    assert run([name, "--help"]) == 0
    assert f"longwatt {name}" in capsys.readouterr().out


def test_the_version_is_the_packages():
    assert output_of("--version").startswith(f"longwatt {metadata.version('longwatt')} (Snakemake ")


def test_no_command_at_all_shows_the_help(capsys):
    assert run([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


def test_a_wrong_name_is_answered_with_the_nearest(capsys):
    assert run(["chose"]) == 2
    assert "choose" in capsys.readouterr().err


def test_two_dashes_reach_the_command_behind_them(tmp_path, capsys):
    """Click would eat them, and `energy record` would find no command."""
    assert run(["gpus", "lease", "--count", "0"]) == 2
    assert "write it after --" in capsys.readouterr().err
    code = "import sys; from longwatt.__main__ import run; sys.exit(run(sys.argv[1:]))"
    lease = ["gpus", "lease", "--count", "0", "--", "printf", "%s\\n", "--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *lease], capture_output=True, text=True,
        env={**os.environ, "LONGWATT_LEASE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("--help\n", 0)


def test_help_is_there_in_less_than_a_second_of_work():
    """Nothing heavy is loaded to print it."""
    code = (
        "import sys; from longwatt.__main__ import run; run(['--help']); "
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'snakemake', 'datasets'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def completed(words: str) -> list[str]:
    environment = {
        **os.environ, "_LONGWATT_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "longwatt"], capture_output=True, text=True, env=environment
    )
    return done.stdout.split()


def test_a_shell_completes_commands_studies_and_options():
    assert set(completed("longwatt com")) == {"compare"}
    assert "demo" in completed("longwatt run --study de")
    assert "--min-score" in completed("longwatt choose --mi")


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("energy", [], {"record", "mark", "summarize", "meters"}),
        ("energy", ["record"], {"--out", "--gpus"}),
        ("gpus", ["lease", "--count", "1"], {"--wait-s"}),
        ("exits", [], {"choose", "--max-drop"}),
        ("results", ["check"], {"--set-aside"}),
        ("models", ["merge"], {"--help"}),
        ("metrics", [], {"--task"}),
    ],
)
def test_what_may_come_next_follows_the_parser(name, words, expected):
    assert expected <= set(completions(ARGPARSE_COMMANDS[name].parser(), words))


def test_every_command_that_a_page_or_a_message_names_is_there():
    pages = [ROOT / "README.md", ROOT / "AGENTS.md", *(ROOT / "docs").rglob("*.md")]
    code = (ROOT / "workflow/lib/longwatt").rglob("*.py")
    text = "\n".join(path.read_text() for path in [*pages, *code])
    # In a command line: behind a backtick, a prompt, or the indent of a block of code.
    named = set(re.findall(r"(?:`|^ {4,}(?:\$ )?|\.venv/bin/)longwatt ([a-z]\w+)", text, re.M))
    assert {"init", "run", "choose", "energy"} <= named
    # The method of BoAmps reports has a name of two words, too.
    assert named - {"estimate"} <= set(COMMANDS)
