"""Write docs/reference/longwatt.md, every command with its options, from the program itself.

`make docs` runs `python -m website.commands`, and a test compares its page with the committed file.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import TextWrapper, fill, wrap
from types import MappingProxyType
from typing import Any

from longwatt import command_line

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "longwatt.md"
PROGRAM = "longwatt"
HELP = "--help"  # every command has it, so no list names it
WIDTH = 100
PART = re.compile(r"\[[^\[\]]*(?:\[[^\]]*\])?[^\[\]]*\]|\([^)]*\)|--\S+ [^-\[\s]\S*")
KEPT = "\0"  # stands for a space that no line may end at
UNWRAPPED = 10_000  # columns of a usage line that argparse leaves whole
BEGINNING = """\
<!-- Made by `make docs` from the program's own help: change that instead. -->

# longwatt, command by command

This page lists every command of the program `longwatt` with its arguments and options, as `--help`
shows them. [Commands](commands.md) has those of make and Snakemake too.
"""


@dataclass(frozen=True)
class Described:
    """A command as the page shows it.

    Attributes:
        name: all words before its arguments, such as "longwatt energy record".
        about: paragraphs on what it does.
        usage: its usage line.
        rows: its arguments and options, each with its help.
        below: the commands below it.
        panel: the heading that it stands under in the program's help, or an empty text.
    """

    name: str
    about: str
    usage: str
    rows: tuple[tuple[str, str], ...]
    below: tuple[Described, ...] = ()
    panel: str = ""


def from_click(
    command: Any, name: str, parsers: Mapping[str, argparse.ArgumentParser] = MappingProxyType({})
) -> Described:
    """Describe a command of Click or of Typer, and those below it.

    Args:
        command: a `click.Command`, or Typer's own, which has the same methods but another parent.
        name: all words that call it.
        parsers: parsers of commands below it that read their own arguments, by name.
    """
    context = command.context_class(command, info_name=name)
    told = [one for one in command.get_params(context) if HELP not in one.opts]
    rows = [row for one in told if (row := one.get_help_record(context))]
    below = []
    for verb in command.list_commands(context) if hasattr(command, "list_commands") else ():
        one, called = command.get_command(context, verb), f"{name} {verb}"
        if verb in parsers:
            below.append(from_argparse(parsers[verb], called, one.help or "", _panel(one)))
        elif not one.hidden:
            below.append(from_click(one, called))
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    return Described(name, command.help or "", usage, tuple(rows), tuple(below), _panel(command))


def _panel(command: Any) -> str:
    return str(getattr(command, "rich_help_panel", None) or "")


def from_argparse(
    parser: argparse.ArgumentParser, name: str, about: str = "", panel: str = ""
) -> Described:
    """Describe a parser of argparse, and those below it."""
    parser.prog = name
    wide: Any = partial(argparse.HelpFormatter, width=UNWRAPPED)
    parser.formatter_class = wide
    usage = parser.format_usage().partition(": ")[2].strip().replace(" [-h]", "")
    rows, below = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {one.dest: one.help or "" for one in action._get_subactions()}
            below += [
                from_argparse(one, f"{name} {verb}", told.get(verb, ""))
                for verb, one in action.choices.items()
            ]
        elif not isinstance(action, argparse._HelpAction):
            rows.append((_names(action), (action.help or "") % {**vars(action), "prog": name}))
    said = parser.description or about
    return Described(name, said, usage, tuple(rows), tuple(below), panel)


def _names(action: argparse.Action) -> str:
    """Return an option's names with its value, or an argument's name."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}"
        if action.choices
        else action.dest.upper() if action.option_strings else action.dest
    )  # fmt: skip
    shown = value if isinstance(value, str) else " ".join(value)
    takes = [shown] if action.nargs != 0 else []
    return " ".join([", ".join(action.option_strings), *takes]).strip()


def page(described: Described) -> str:
    """Return the page of a program: its own options, then its commands by their panels."""
    blocks = [BEGINNING.strip(), *_body(described)]
    panels = dict.fromkeys(one.panel for one in described.below)
    for panel in panels:
        blocks.append(f"## {panel or 'Commands'}")
        for one in described.below:
            blocks += _blocks(one, 3) if one.panel == panel else []
    return "\n\n".join(blocks) + "\n"


def _blocks(described: Described, level: int) -> Iterator[str]:
    yield f"{'#' * level} {described.name}"
    yield from _body(described)
    for one in described.below:
        yield from _blocks(one, level + 1)


def _body(described: Described) -> Iterator[str]:
    if not described.below or described.rows:
        yield _usage(described.usage)
    yield from _paragraphs(described.about)
    if described.rows:
        yield "\n".join(_row(names, told) for names, told in described.rows)


def _usage(line: str) -> str:
    """Wrap a usage line between its parts, never between an option and its value."""
    whole = PART.sub(lambda part: part[0].replace(" ", KEPT), line)
    lines = wrap(whole, WIDTH - 4, subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(f"    {one}" for one in lines).replace(KEPT, " ")


def _paragraphs(text: str) -> Iterable[str]:
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        line = " ".join(paragraph.split())
        if re.match(rf"({PROGRAM}|python -m) ", line):
            yield f"    {line}"
        elif line:
            first = line[0].upper() + line[1:]
            yield fill(_plain(first if first.endswith((".", ":")) else f"{first}."), WIDTH)


def _row(names: str, told: str) -> str:
    text = f"- `{names}`" + (f": {_plain(' '.join(told.split()))}" if told else "")
    return TextWrapper(WIDTH, subsequent_indent="  ", break_on_hyphens=False).fill(text)


def _plain(text: str) -> str:
    """Keep Markdown from reading marks of a help text as its own."""
    return re.sub(r"([<*\\])", r"\\\1", text)


def text() -> str:
    """Return the page of the program as it is installed here."""
    from typer.main import get_command

    from longwatt.commands.app import make_app
    from longwatt.commands.passed_on import ARGPARSE_COMMANDS

    parsers = {name: one.parser() for name, one in ARGPARSE_COMMANDS.items()}
    return page(from_click(get_command(make_app()), PROGRAM, parsers))


def main() -> int:
    """Write the page and return the exit status."""
    PAGE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
