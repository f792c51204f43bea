"""Build the documentation's site, and refuse a broken link or anchor.

python -m website [--out site]
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from longwatt import command_line
from website import navigation, sources

HERE = Path(__file__).parent
ROOT = HERE.parent
SEARCH = "search/search_index.js"  # a site has it, and hardly another folder
PROJECT = ("project/contributing.md", "project/agents.md", "project/changelog.md")
# Copied beside the pages. The theme asks for them by these addresses (website/mkdocs.yml).
ASSETS = {
    "site.css": "assets/site.css",
    "favicon.svg": "assets/favicon.svg",
    "vendored/iframe-worker/shim.js": "assets/iframe-worker/shim.js",
    "vendored/iframe-worker/LICENSE": "assets/iframe-worker/LICENSE.txt",
}


def build(out: Path, root: Path = ROOT) -> None:
    """Build the site of a project's pages.

    Args:
        out: the folder of the site, made anew.
        root: the project's folder.

    Raises:
        mkdocs.exceptions.Abort: a link or an anchor leads nowhere; the log has named it.
    """
    # The theme warns of the coming MkDocs 2, which the pins exclude.
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands import build as command
    from mkdocs.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder)
        sources.gather(root, pages)
        for name, place in ASSETS.items():
            (pages / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / name, pages / place)
        config = load_config(
            str(HERE / "mkdocs.yml"), docs_dir=folder, site_dir=str(out), nav=tree(root)
        )
        command.build(config)


def tree(root: Path = ROOT) -> navigation.Navigation:
    """Return the site's navigation: the way in, the four kinds of pages, the project."""
    found = navigation.kinds(root / "docs" / "README.md")
    home = ["index.md", *found.pop("Home"), {"All pages": "all_pages.md"}]
    kinds = [{kind: pages} for kind, pages in found.items()]
    return [{"Home": home}, *kinds, {"Project": list(PROJECT)}]


def refusal(out: Path) -> str | None:
    """Return why a site cannot be built into a folder, or None if it can.

    The generator empties the folder first, so it must hold a site or nothing.
    """
    if find_spec("mkdocs") is None:
        return "mkdocs-material is not installed; run: make docs"
    if out.is_dir() and any(out.iterdir()) and not (out / SEARCH).is_file():
        return f"{out} holds other files than a site, which would be removed; name another folder"
    if out.exists() and not out.is_dir():
        return f"{out} is a file; name a folder"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site, name what is wrong with it, and return the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m website", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder to build into")
    out = parser.parse_args(arguments).out.absolute()
    if problem := refusal(out):
        print(f"website: {problem}", file=sys.stderr)
        return 2
    build(out)
    print(f"The site is {out / 'index.html'}: open it in a browser, it needs no server")
    return 0


if __name__ == "__main__":
    command_line.run_command(main)
