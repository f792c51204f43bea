"""A study's text is words in every language that carries it."""

import csv
import html
import io
import re

import pandas as pd
import pytest
from snakemake.io import WILDCARD_REGEX

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.layout.escaping import (
    Undisclosed,
    in_csv,
    in_markdown,
    in_markdown_cell,
    in_report_label,
    mended,
    unusable_text,
)
from longwatt.layout.pages import Labelled, Picture, Section, Table, as_html, markdown
from longwatt.layout.table_files import write
from longwatt.provenance.stamps import digest
from longwatt.study.reported.report_items import figures
from tests.spacing import single_spaced

SCRIPT = "</script><script>document.title='x'</script><img src=x onerror=\"document.title='y'\">"
ODD = [
    SCRIPT, "<!-- <script>", "a|b", "`code`", "**bold** _it_ ~~gone~~", "[a](javascript:alert(1))",
    "[a]: b", "$x$", "# no heading", "1. one", "- item", "> said", "back\\slash \\", "&lt; &#60;",
    "two\nlines", "a #", "---", "{name}",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_pages_show_a_text_and_no_markup_of_its_own(text):
    said = [text, Labelled(text, text), Picture("f.svg", text), Table([{"c": text}], ["c"])]
    sections = [Section(text, said)]
    page = as_html(text, sections)
    assert "<script" not in page and "<img src=x" not in page and "<!--" not in page
    assert page.count(html.escape(text)) >= 5
    lines = single_spaced(markdown(text, sections)).splitlines()
    assert [line for line in lines if line.startswith("#")] == [lines[0], lines[2]]
    assert not re.search(r"(?<!\\)(<[a-zA-Z/!]|`|\*(?!\*)(?<!\*\*)|\]\((?!f\.svg))", lines[4])
    (cells,) = (
        line for line in lines if line.startswith("| ") and ":-" not in line and line != "| c |"
    )
    assert len(re.findall(r"(?<!\\)\|", cells)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train_steps_energy_kwh above -1.5, 3 < 4 & 5 x 6: in results/demo [short]", None),
        ("a * b", r"a \* b"),
        ("_a_ and b_c", r"\_a\_ and b_c"),
        ("2. two", r"2\. two"),
        ("costs $5 and $6", r"costs \$5 and \$6"),
    ],
)
def test_ordinary_sentences_stay_readable_in_markdown(text, said):
    assert in_markdown(text) == (said or text)


def test_a_bar_is_escaped_in_cells_alone():
    assert (in_markdown("a|b"), in_markdown_cell("a|b")) == ("a|b", r"a\|b")


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-x", '=HYPERLINK("x")']
)
def test_no_spreadsheet_takes_a_text_for_a_formula(text, tmp_path):
    write(tmp_path, "t", pd.DataFrame([{text: "1", "number": "-1.5", "model": f"{text}, b"}]))
    ((first, *_), (_, number, model)) = csv.reader(io.StringIO((tmp_path / "t.csv").read_text()))
    assert (first, number, model) == (f"'{text}", "-1.5", f"'{text}, b")


@pytest.mark.parametrize("text", ["-1.5", "+0.3 (-1 to 2)", "-", "", "NA", "12.3", "a=b"])
def test_numbers_stay_as_they_are(text):
    assert in_csv(text) == text


def test_tables_cut_no_text_off_and_run_none(tmp_path):
    write(tmp_path, "t", pd.DataFrame([{"model": SCRIPT + "x" * 100, SCRIPT: "1"}]))
    page = (tmp_path / "t.html").read_text()
    assert "x" * 100 in page and "<script" not in page and "<img" not in page
    assert "<script" not in (tmp_path / "t.md").read_text().replace("\\<script", "")


@pytest.mark.parametrize("text", [*ODD, "{name,regex}", "{ name }", "{", "<"])
def test_a_label_is_neither_a_wildcard_nor_the_end_of_a_script(text):
    label = in_report_label(text)
    assert not WILDCARD_REGEX.search(label)
    assert not re.search(r"<[a-zA-Z/!]", label)
    assert label.replace("\u2060", "") == " ".join(text.split())


def test_the_report_s_labels_hold_a_figure_s_title():
    drawn = figures({"figures": [{"name": "a", "title": SCRIPT}]}).values()
    (shown,) = [figure for figure in drawn if figure.label == SCRIPT]
    assert "</script" not in in_report_label(shown.label)


def test_settings_print_as_the_digest_that_their_artefact_carries():
    settings = Undisclosed({"title": SCRIPT})
    assert f"settings={settings}" == f"settings=sha256 {digest({'title': SCRIPT})}"
    assert repr(settings) == repr({"title": SCRIPT}), "by this Snakemake tells changes"
    assert isinstance(settings, dict)


def test_a_character_written_as_two_halves_is_one():
    assert mended({"a": ["\ud83e\udd17", "x"], "b": 1}) == {"a": ["\U0001f917", "x"], "b": 1}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"title": "a\tb\n"}, None),
        ({"a": {"separator": "\x07"}}, None),
        (
            {"models": {"m": {"title": "a\x1b[31mb"}}},
            "models.m.title: U+001B (place 2) cannot be shown",
        ),
        ({"a": ["x", {"source": "\x00"}]}, "a[1].source: U+0000 (place 1) cannot be shown"),
        ({"path": "\ud800"}, "path: U+D800 (place 1) is half of a character"),
        ({"a": {"\ud800": 1}}, "a: U+D800 (place 1) is half of a character"),
    ],
)
def test_what_no_file_can_hold_and_no_page_can_show_is_named(document, problem):
    found = unusable_text(document)
    assert found == problem if problem is None else found is not None and found.startswith(problem)


def test_a_study_with_such_a_text_is_refused_with_its_key(tmp_path, tiny_study_text, study_schema):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        tiny_study_text.replace("    family: led", '    title: "a\\x07"\n    family: led')
    )
    with pytest.raises(
        StudyError, match=r"tiny\.yaml: models\.led\.title: U\+0007 \(place 2\) cannot be shown"
    ):
        read_study(path, study_schema)
    path.write_text(
        tiny_study_text.replace("    family: led", '    title: "\\ud83e\\udd17"\n    family: led')
    )
    assert read_study(path, study_schema)["models"]["led"]["title"] == "\U0001f917"
