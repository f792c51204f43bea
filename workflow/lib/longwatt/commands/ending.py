"""End every command as a shell expects, whichever library read its command line."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from longwatt import command_line


class EndingCommand(TyperCommand):
    """A command that ends with 130 on Ctrl-C, and with 141 when its reader leaves.

    Typer itself would end with 1 in both cases.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command in this context, and end the process."""
        call = super().invoke

        def answer() -> int:
            call(ctx)
            return 0

        command_line.run_command(answer)
