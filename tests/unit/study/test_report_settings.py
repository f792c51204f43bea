"""What reports call things, and what is known of them beforehand."""

from longwatt.config.expansion import VARIANT_OF
from longwatt.study.cells import Cell
from longwatt.study.reported.report_settings import claimed, headings, titles

SEARCHED = {"title": "BERT, 2 exits", VARIANT_OF: "bert", "search_title": "BERT"}
STUDY = {
    "budgets": {"cpu": {}},
    "datasets": {"news": {"title": "News\n  of the day"}},
    "models": {"bert-1": SEARCHED, "own": {}},
}


def cell(model: str) -> Cell:
    return Cell("news", model, 32, "cpu", "classified", 7)


def test_claims_call_what_a_search_made_by_the_entry_that_it_was_made_from():
    assert [claimed(STUDY, cell(name)) for name in ("bert-1", "own")] == ["bert", "own"]


def test_titles_are_in_one_line_and_names_stand_for_those_that_are_missing():
    assert titles(STUDY) == {
        "cpu": "cpu",
        "news": "News of the day",
        "bert-1": "BERT, 2 exits",
        "own": "own",
        "bert": "BERT",
    }


def test_a_heading_calls_a_cell_by_titles():
    found = headings(STUDY, {"one": cell("bert-1")})
    expected = "News of the day, BERT, 2 exits, 32 tokens (cpu, classified, seed 7)"
    assert found == {"one": expected}
