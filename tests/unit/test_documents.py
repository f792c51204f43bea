"""Documents: width, links, commands and beginnings of all that people read."""

import re
from importlib.util import find_spec

import pytest

from tests.conftest import ROOT

WIDEST = 100
WRITTEN = (
    "*.md", "docs/**/*.md", "resources/*.md", "results/*.md", "logs/*.md", "workflow/report/*.rst",
    "workflow/rules/*.smk", "Snakefile", "workflow/Snakefile", "config/README.md",
    "Makefile", ".ci/run", "pyproject.toml", "config.yaml",
    "studies/*.yaml", "profiles/*/config.yaml", "envs/*", "tests/fixtures/*.yaml",
    "website/*.yml", "website/*.css",
)  # fmt: skip
DOCUMENTS = sorted({path for pattern in WRITTEN for path in ROOT.glob(pattern) if path.is_file()})
PAGES = [path for path in DOCUMENTS if path.suffix == ".md"]
READ = [path for path in PAGES if path.is_relative_to(ROOT / "docs")] + [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md", "config/README.md")
]
CODE = [
    path
    for folder in ("workflow", "bench", "tests", "studies", "profiles", "envs", "website")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".rst", ".smk", ".yaml", ".txt"}
]
FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")


def named(path):
    return str(path.relative_to(ROOT))


def anchors(text):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def links(page):
    """Relative links of a page: the file that each leads to, and the anchor or an empty text."""
    for target, anchor in LINK.findall(FENCED.sub("", page.read_text())):
        if not target.startswith(("http:", "https:")):
            yield (page.parent / target).resolve() if target else page, anchor


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_no_line_is_wider_than_a_screen(path):
    lines = enumerate(path.read_text().splitlines(), start=1)
    wide = [n for n, line in lines if len(line) > WIDEST and not re.match(r"\S*\s*http\S+$", line)]
    assert wide == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_begins_with_a_title_and_a_sentence(page):
    text = re.sub(r"\A<!--.*?-->\n+", "", page.read_text())  # a page that is made says so
    title, _, rest = text.partition("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    assert re.match(r"[^.#|]{15,}\.", rest), "no sentence below the title"


@pytest.mark.parametrize("page", READ, ids=named)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path.read_text()), f"{named(path)}#{anchor}"


def test_the_start_page_leads_to_every_page():
    found = {path for path, _ in links(ROOT / "docs/README.md")}
    rest = [path for path in PAGES if path.is_relative_to(ROOT / "docs") and path not in found]
    assert [named(path) for path in rest] == ["docs/README.md"]


def test_pages_that_code_and_captions_name_exist():
    texts = [path.read_text() for path in CODE if path.name != "test_documents.py"]
    found = {name for text in texts for name in re.findall(r"docs/[\w/-]+\.md", text)}
    assert found and [name for name in sorted(found) if not (ROOT / name).exists()] == []


def test_modules_and_targets_that_documents_name_exist():
    text = "\n".join(page.read_text() for page in READ)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = set(re.findall(r"(?:^    |`)make ([a-z][\w-]+)", text, flags=re.MULTILINE))
    assert asked and asked <= targets
    modules = set(re.findall(r"python -m ((?:longwatt|bench|website)\.\w+)", text))
    assert modules and [name for name in sorted(modules) if find_spec(name) is None] == []


def test_studies_that_documents_name_exist():
    text = "\n".join(page.read_text() for page in READ)
    written = {"mine", "coded", "lora_or_full"}  # by readers of tutorials and how-to pages
    asked = set(re.findall(r"study=([a-z_]+)(?![\w/])", text)) - written
    assert asked and asked <= {path.stem for path in (ROOT / "studies").glob("*.yaml")}


def test_files_that_contributing_names_are_there():
    """A newcomer follows these paths, and modules move."""
    named = set(
        re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    )
    assert len(named) > 20
    homes = (ROOT, ROOT / "workflow/lib/longwatt")
    assert [path for path in named if not any((home / path).is_file() for home in homes)] == []


def test_paths_that_agents_are_told_exist():
    """An agent takes the guide at its word; capitals stand for names of its own."""
    text = (ROOT / "AGENTS.md").read_text()
    assert len(text.splitlines()) <= 120
    quoted = set(re.findall(r"`([\w./-]+)`", text)) | set(re.findall(r" (tests/\S+)", text))
    paths = {name for name in quoted if "/" in name and not re.search(r"[A-Z]{4}", name)}
    made = {"results/", "resources/", "logs/", ".snakemake/"}
    assert len(paths) > 20
    assert [name for name in sorted(paths - made) if not (ROOT / name).exists()] == []
    makefile = (ROOT / "Makefile").read_text()
    stamps = re.findall(r"make (\.venv/\S+)", text)
    assert stamps and all(f"\n{stamp}:" in makefile for stamp in stamps)


def test_pictures_are_small_and_shown():
    """The pages are read over slow lines too; a picture that no page shows is left over."""
    shown = {path for page in READ for path, _ in links(page) if path.suffix == ".png"}
    images = set((ROOT / "docs" / "images").iterdir())
    assert images == shown
    assert [named(path) for path in images if path.stat().st_size > 150_000] == []
    assert sum(path.stat().st_size for path in images) < 1_000_000
