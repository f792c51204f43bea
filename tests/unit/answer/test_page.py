import json
import math
import re

import pytest

from longwatt.answer import page as pages
from longwatt.answer.page import json_in_script, page_text, write_answer_page
from tests.answer_facts import synthetic_facts

MOST_BYTES = 1_500_000  # of the page of 64 cells


def test_a_page_of_64_cells_is_small_and_always_the_same(tmp_path):
    facts = synthetic_facts(64)
    assert len(facts["points"]) == 64
    for name in ("one", "other"):
        write_answer_page(facts, tmp_path / f"{name}.html")
    first = (tmp_path / "one.html").read_bytes()
    assert len(first) <= MOST_BYTES / 2, "half of what is allowed, so that larger studies fit too"
    assert first == (tmp_path / "other.html").read_bytes()


def test_words_table_and_claims_are_there_without_scripts():
    facts = synthetic_facts(12)
    html = re.sub(r"<script.*?</script>", "", page_text(facts), flags=re.DOTALL)
    for one in facts["recommendations"].values():
        assert all(words in html for words in one["words"])
    assert html.count("<tr data-id=") == 12
    assert "not decidable" in html and facts["energy"]["words"][0] in html


def test_a_page_needs_no_claims_and_no_recommendation():
    facts = {**synthetic_facts(3), "claims": [], "recommendations": {}}
    assert "claims-heading" not in page_text(facts)


@pytest.mark.parametrize("text", ["</script>", "<!--", "&lt;", "\u2028", '"'])
def test_json_in_a_script_ends_no_script_and_says_the_same(text):
    written = json_in_script({"a": [text, 1.5, None]})
    assert not set(written) & set("<>&\u2028")
    assert json.loads(written) == {"a": [text, 1.5, None]}


def test_what_is_no_number_is_unknown():
    assert json.loads(json_in_script([math.nan, math.inf, (1.0, -math.inf)])) == [
        None, None, [1.0, None]
    ]  # fmt: skip


def test_files_of_the_page_are_all_named():
    there = {path.name for path in pages.HERE.iterdir() if path.suffix not in {".py", ""}}
    assert there == {pages.TEMPLATE, pages.STYLE, *pages.PAGE_SCRIPTS}
    for name in there:
        lines = (pages.HERE / name).read_text().splitlines()
        assert [line for line in lines if len(line) > 100] == []
