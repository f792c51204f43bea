"""Measurements that anyone can repeat."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter


def command_line(about: str | None) -> ArgumentParser:
    """Return a parser whose help shows a module's docstring as it is written."""
    return ArgumentParser(description=about, formatter_class=RawDescriptionHelpFormatter)
