"""The site is built without a warning, asks nobody for anything, and is searched from a disk."""

import re
import shutil

import pytest
from website import sources
from website.__main__ import build, main, refusal

from tests.chromium import browsing
from tests.conftest import ROOT

pytest.importorskip("mkdocs", reason="mkdocs-material is not here (envs/requirements-docs.txt)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


@pytest.mark.long
def test_no_page_takes_anything_from_another_host(site):
    asking = re.compile(r"""(?:src|<link[^>]*href)=["']?(?:https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert [page.name for page in pages if asking.search(page.read_text())] == []


@pytest.mark.long
def test_the_site_is_read_and_searched_from_a_disk(site):
    with browsing() as tab:
        tab.open(site / "index.html", "document.readyState == 'complete'")
        tab.evaluate(
            "document.querySelector('[data-md-component=search-query]').focus();"
            "document.querySelector('[data-md-component=search-query]').value = 'cascade';"
            "document.querySelector('[data-md-component=search-query]')"
            ".dispatchEvent(new Event('keyup', {bubbles: true})); 0"
        )
        tab.wait("document.querySelectorAll('.md-search-result__item').length > 3")
        assert "cascade" in tab.text(".md-search-result__list").lower()
        for page in ("reference/study.html", "gallery.html", "reference/results.html"):
            tab.open(site / page, "document.readyState == 'complete'", width=390)
            assert tab.evaluate("document.documentElement.scrollWidth") <= 390, page
        assert [
            url for url in tab.requests if not url.startswith(("file:", "data:", "about:"))
        ] == []
        assert tab.errors == []


def projects_pages(project):
    """Copy all that the site is built of."""
    shutil.copytree(ROOT / "docs", project / "docs")
    for name in sources.OUTSIDE:
        shutil.copyfile(ROOT / name, project / name)
    return project


WRONG = {
    "[x](nothing.md)": "'how-to/nothing.md'",
    "[x](plan.md#nothing)": "does not contain an anchor '#nothing'",
    "[x](#nothing)": "there is no such anchor on this page",
    "[x](/plan.md)": "an absolute link '/plan.md'",
    "[x](../../nothing.py)": "'../../nothing.py'",
}


def test_a_broken_link_and_a_page_without_a_place_are_refused(tmp_path, caplog):
    project = projects_pages(tmp_path / "project")
    page = project / "docs/how-to/run.md"
    page.write_text("\n".join([page.read_text(), *WRONG]))
    (page.parent / "new.md").write_text("# New\n")
    with pytest.raises(SystemExit):
        build(tmp_path / "site", project)
    assert [said for said in (*WRONG.values(), "how-to/new.md") if said not in caplog.text] == []


def test_a_folder_with_other_files_is_kept(tmp_path, capsys):
    """The generator would empty it."""
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    assert main(["--out", str(tmp_path)]) == 2
    assert main(["--out", str(mine)]) == 2
    assert mine.read_text() == "years of work"
    said = capsys.readouterr().err
    assert "name another folder" in said and "is a file" in said


def test_a_site_is_built_over_an_older_one(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search_index.js").write_text("")
    assert refusal(tmp_path) is None
