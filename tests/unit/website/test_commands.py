"""The page of commands is what the program says of itself."""

import argparse

import click
import typer
from typer.main import get_command
from website import commands


def test_the_page_is_what_the_program_says_today():
    """Write it anew with `make docs`."""
    assert commands.PAGE.read_text() == commands.text()


def test_a_program_of_click_is_described_with_its_commands():
    @click.group(help="Do things.")
    @click.option("--loud", is_flag=True, help="Say more.")
    def program(loud):
        pass

    @program.command(help="Run one.\n\nprogram run --cores 2")
    @click.argument("study")
    @click.option("--cores", type=int, default=1, show_default=True, help="How <many> *.")
    def run(study, cores):
        pass

    @program.command(hidden=True)
    def secret():
        pass

    written = commands.page(commands.from_click(program, "longwatt"))
    assert written.endswith(
        "Do things.\n\n- `--loud`: Say more.\n\n## Commands\n\n### longwatt run\n\n"
        "    longwatt run [OPTIONS] STUDY\n\nRun one.\n\nProgram run --cores 2.\n\n"
        "- `STUDY`\n- `--cores INTEGER`: How \\<many> \\*. [default: 1]\n"
    )
    assert "secret" not in written


def test_a_command_that_is_added_to_the_program_appears():
    app = typer.Typer()

    @app.command()
    def status(study: str):
        """Say what runs."""

    @app.command(rich_help_panel="Else")
    def other():
        """Do something else."""

    described = commands.from_click(get_command(app), "longwatt")
    assert [one.name for one in described.below] == ["longwatt status", "longwatt other"]
    assert [one.about for one in described.below] == ["Say what runs.", "Do something else."]
    assert "## Else\n\n### longwatt other" in commands.page(described)


def test_a_parser_of_argparse_is_described_with_its_verbs():
    parser = argparse.ArgumentParser(prog="python -m x", description="Meter things.")
    verbs = parser.add_subparsers(required=True)
    record = verbs.add_parser("record", help="run a command")
    record.add_argument("file", nargs="+", help="what to read")
    record.add_argument("--out", required=True, metavar="F", help="the log")
    record.add_argument("--json", action="store_true")
    record.add_argument("--kind", choices=["a", "b"], default="a", help="one (%(default)s)")
    below = commands.from_argparse(parser, "longwatt x").below
    assert [one.name for one in below] == ["longwatt x record"]
    assert below[0].about == "run a command"
    assert below[0].usage.startswith("longwatt x record --out F [--json] [--kind {a,b}] file")
    rows = {"file": "what to read", "--out F": "the log", "--json": "", "--kind {a,b}": "one (a)"}
    assert dict(below[0].rows) == rows


def test_a_usage_line_breaks_between_options():
    options = " ".join(f"[--option-{number} VALUE]" for number in range(9))
    lines = commands._usage(f"longwatt {options}").splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= 100
    assert all(line.endswith("]") for line in lines)
