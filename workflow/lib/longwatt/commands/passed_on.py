"""Commands that read their own command line, by argparse, below the program `longwatt`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer
from typer.core import CompletionItem  # type: ignore[attr-defined]  # of the Click inside it

from longwatt import command_line
from longwatt.commands.ending import EndingCommand


@dataclass(frozen=True)
class PassedOn:
    """A command whose module has `parser` and `main`, loaded only when it runs.

    Attributes:
        module: the module.
        help: a line on what the command does.
    """

    module: str
    help: str

    def parser(self) -> argparse.ArgumentParser:
        """Make the command's parser."""
        made: argparse.ArgumentParser = importlib.import_module(self.module).parser()
        return made

    def run(self, context: typer.Context) -> None:
        """Hand the command its arguments, and end as it ends."""
        main: Callable[[list[str]], int] = importlib.import_module(self.module).main
        command_line.run_command(partial(main, list(context.args)))


# Command -> what runs it.
ARGPARSE_COMMANDS = {
    "choose": PassedOn("longwatt.answer.command", "Name the cell to take, within your limits."),
    "energy": PassedOn("longwatt.energy.__main__", "Meter any command, and read its energy log."),
    "metrics": PassedOn("longwatt.metrics.__main__", "Score predictions of any program."),
    "gpus": PassedOn("longwatt.gpus.__main__", "List this machine's GPUs, or lease some."),
    "exits": PassedOn("longwatt.exits.__main__", "Choose the threshold of an early-exit model."),
    "models": PassedOn("longwatt.models.__main__", "Merge a cell's adapters into their base."),
    "results": PassedOn("longwatt.results.__main__", "Check results against study and code."),
}


class PassedOnCommand(EndingCommand):
    """A command whose options a shell completes as its own parser has them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave every word to the command's own parser, `--` too."""
        ctx.args = list(args)
        return list(args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """List the words that begin with what is typed so far."""
        parser = ARGPARSE_COMMANDS[str(ctx.info_name)].parser()
        known = completions(parser, list(ctx.args))
        return [CompletionItem(word) for word in known if word.startswith(incomplete)]


def completions(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """List the options and the subcommands that may come after some words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            chosen = next((word for word in words if word in action.choices), None)
            if chosen is not None:
                return completions(action.choices[chosen], words[words.index(chosen) + 1 :])
    return sorted({word for action in parser._actions for word in _words(action)})


def _words(action: argparse.Action) -> Iterator[str]:
    yield from (option for option in action.option_strings if option.startswith("--"))
    if not action.option_strings and action.choices is not None:
        yield from map(str, action.choices)
