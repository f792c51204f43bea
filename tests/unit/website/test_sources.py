"""The site shows every page as GitHub does, and its links go to the site's own addresses."""

import re
from collections import Counter

import pytest
from markdown_it import MarkdownIt
from website import navigation, sources
from website.__main__ import tree

from tests.conftest import ROOT

DOCS = "mkdocs-material is not here (envs/requirements-docs.txt)"
markdown = pytest.importorskip("markdown", reason=DOCS)
load_config = pytest.importorskip("mkdocs.config", reason=DOCS).load_config

PAGES = [name for name in [*sources.OUTSIDE, *sources._below_docs(ROOT)] if name.endswith(".md")]
# Elements that a page is made of. Paragraphs are left out: in a list their number is a matter of
# spacing.
ELEMENTS = ("h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "td", "pre", "img", "strong", "em")


@pytest.fixture(scope="module")
def site_reader():
    """Python-Markdown as the site has it."""
    config = load_config(str(ROOT / "website/mkdocs.yml"), docs_dir=str(ROOT / "docs"))
    return markdown.Markdown(
        extensions=config.markdown_extensions, extension_configs=config.mdx_configs
    )


def elements(html):
    """How many of each element a page has."""
    found = Counter(re.findall(r"<(\w+)", html))
    return {name: found[name] for name in ELEMENTS}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_parts_that_github_shows(name, site_reader):
    text = (ROOT / name).read_text()
    github = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    site = site_reader.reset().convert(sources.as_site(text, name, ROOT))
    assert elements(site) == elements(github)


def test_lists_and_fences_are_indented_as_the_site_reads_them():
    text = (
        "- one\n  more\n\n  ```yaml\n  - a:\n    b: 1\n  ```\n\n  last\n- two\n  - deep\n"
        "1. first\n\n       code\n\nafter\n\n    - code\n\n```yaml\n- a:\n  b: 1\n```"
    )
    assert sources.indent_by_four(text) == (
        "- one\n    more\n\n    ```yaml\n    - a:\n      b: 1\n    ```\n\n    last\n\n- two\n"
        "    - deep\n1. first\n\n        code\n\nafter\n\n    - code\n\n```yaml\n- a:\n  b: 1\n```"
    )


def test_links_go_to_the_places_of_the_site(tmp_path):
    for name in ("docs/how-to/run.md", "CONTRIBUTING.md", "Makefile", "bench/dag.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    text = (
        "[a](../../CONTRIBUTING.md#check) [b](plan.md) [c](../../bench/dag.py) [d](#here)\n"
        "[e](https://semver.org) [f](run.md#x)\n```\n[g](../../Makefile)\n```\n"
    )
    assert sources.as_site(text, "docs/how-to/run.md", tmp_path) == (
        "[a](../project/contributing.md#check) [b](plan.md) [c](../source/bench/dag.py.md) "
        "[d](#here)\n[e](https://semver.org) [f](run.md#x)\n```\n[g](../../Makefile)\n```\n"
    )
    assert sources.as_site("[a](docs/how-to/run.md)", "CONTRIBUTING.md", tmp_path) == (
        "[a](../how-to/run.md)\n"
    )


def test_a_fence_that_names_a_file_shows_the_name():
    assert sources.as_site("```python data/make.py\nx = 1\n```", "docs/README.md", ROOT) == (
        '```python title="data/make.py"\nx = 1\n```\n'
    )


def test_a_file_that_a_page_links_to_becomes_a_page(tmp_path):
    for name in sources.OUTSIDE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Title\n")
    (tmp_path / "Snakefile").write_text("rule all:\n```` odd\n")
    (tmp_path / "README.md").write_text("# Title\n\n[the entry](Snakefile)\n")
    out = tmp_path / "out"
    sources.gather(tmp_path, out)
    assert "[the entry](source/Snakefile.md)" in (out / "index.md").read_text()
    assert "`````text\nrule all:\n```` odd\n\n`````" in (out / "source/Snakefile.md").read_text()


def test_the_navigation_has_every_page_once():
    listed = list(navigation.pages_of(tree(ROOT)))
    placed = [sources.place(name) for name in PAGES]
    assert sorted(listed) == sorted(placed)


def test_the_navigation_has_the_four_kinds():
    """The folder of a page is its kind, and so is the heading that the start page has it under."""
    kinds = navigation.kinds(ROOT / "docs/README.md")
    assert list(kinds) == ["Home", "Tutorials", "How-to", "Reference", "Explanation"]
    for kind, pages in list(kinds.items())[1:]:
        folder = kind.lower().removesuffix("s")
        assert {page.split("/")[0] for page in navigation.pages_of(pages)} == {folder}
