"""Titles in figures are words, in fonts that have their characters, and within the picture."""

import shutil
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest
from matplotlib.lines import Line2D

from longwatt.compare.figures import QUANTITIES, panels_against
from longwatt.layout import glyphs
from longwatt.layout.drawing import legend, panels, save
from longwatt.layout.figure_texts import beside_an_axis, make_texts_fit
from longwatt.report.figures import COST_AXES, accuracy_against, own_figure
from tests.unit.report.test_figures import as_file, row, table

TIME = COST_AXES["training_time"]
UNKNOWN = "\U0001fae8"  # SHAKING FACE, of 2022
ODD = ["costs $5 and $6", "$", "a $\\frac{$ b", "_hidden", "__", "x^2_i", "100 % & #1"]
ODD += [r"C:\new\text", "{x} {{y}}", "<b>", "~"]


@pytest.mark.parametrize("title", ODD)
def test_titles_are_drawn_as_they_stand(title, tmp_path):
    titles = {"led": title, "needle": title}
    figure = accuracy_against(table(row(), row(seq_len=128, train_runtime_s=20.0)), TIME, titles)
    save(figure, tmp_path / "figure")
    assert figure.axes[0].get_title() == title
    shown = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert shown[0] == f"{title}, from random weights"
    assert f"<!-- {title.replace('&', '&amp;').replace('<', '&lt;')}" in (
        tmp_path / "figure.svg"
    ).read_text() or (title[0] in "<_{" or "&" in title)


def test_axes_of_a_comparison_have_plain_numbers():
    """Without formulas, matplotlib's own labels of a logarithmic axis would show their source."""
    columns = {"inference_samples_per_second": 3.0, "score": 1.0, "score_ci_low": 0.5}
    columns["score_ci_high"] = 1.5
    one = {"dataset": "d", "model": "m", "budget": "b", "seq_len": 64, "protocol": "generated",
           "initialisation": "random", "score_name": "f1", **columns}  # fmt: skip
    rows = [{f"{name}_{side}": value for name, value in one.items() for side in "ab"}]
    rows.append({**rows[0], "seq_len_a": 128, "inference_samples_per_second_a": 900.0})
    figure = panels_against(table_of(rows), ("x", "y"), QUANTITIES["inference_speed"], {})
    figure.canvas.draw()
    labels = [
        text.get_text()
        for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)
        for text in axis.get_ticklabels()
    ]
    plt.close(figure)
    assert labels and not any("$" in label or "math" in label for label in labels)


def table_of(rows):
    return table().__class__(rows)


def test_a_legend_shows_names_that_begin_with_an_underscore():
    figure, _ = panels(1, 2)
    shown = legend(figure, [Line2D([], [], label=name) for name in ("_a", "b", "__")])
    assert [text.get_text() for text in shown.get_texts()] == ["_a", "b", "__"]
    plt.close(figure)


def test_a_user_s_matplotlibrc_changes_no_figure(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    code = "import longwatt.layout.drawing; from matplotlib import rcParams as r; "
    code += "print(r['text.usetex'], r['font.size'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "10.0"]


@pytest.mark.parametrize("length", [20, 90, 400])
@pytest.mark.parametrize("word", ["long ", "unbroken", "模型"])
def test_long_titles_lie_within_the_picture(word, length):
    title = (word * length)[:length].strip()
    if glyphs.spelled(title) != title:
        pytest.skip("no font here has these characters")
    given = {"name": "own", "title": title, "costs": ["training_time"], "datasets": ["needle"]}
    figure = own_figure(
        table(row(), row(seq_len=128, train_runtime_s=20.0)), given, {"led": title}, {}
    )
    make_texts_fit(figure)
    figure.canvas.draw()
    for text in (*figure.texts, figure.legends[0].get_texts()[0]):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()
        said = text.get_text().replace("\n", "").replace(" ", "")
        assert said.startswith(title[:20].replace(" ", ""))
    plt.close(figure)


def test_a_title_that_no_font_has_gives_way_to_its_name_and_the_log_says_so(capfd):
    shown = glyphs.drawable({"led": f"LED {UNKNOWN}", "bart": "BART", "needle": "Nadel: größer"})
    assert shown == {"led": "led", "bart": "BART", "needle": "Nadel: größer"}
    said = capfd.readouterr().out
    reason = "no font of this machine has U+1FAE8; install one"
    assert f'Figures call "LED {UNKNOWN}" by its name led, since {reason}' in said
    assert "bart" not in said


def test_other_texts_have_the_numbers_of_characters_that_no_font_has(tmp_path):
    figure, (axis,) = panels(1, 2)
    axis.set_title(f"a{UNKNOWN}b")
    save(figure, tmp_path / "figure")
    assert axis.get_title() == "a[U+1FAE8]b"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("bell\x07", "bell[U+0007]"),
        ("a\x0bb\x1cc\td", "a b c d"),
        ("\x1b[31mred", "[U+001B][31mred"),
        ("del\x7f", "del[U+007F]"),
        ("b\x85\ufffe", "b [U+FFFE]"),
    ],
)
def test_control_characters_of_a_label_leave_figures_that_can_be_opened(
    text, drawn, tmp_path, recwarn
):
    """Labels come from data files, which may hold anything; XML knows no such characters."""
    figure, (axis,) = panels(1, 2)
    axis.set_title(text)
    save(figure, tmp_path / "figure")
    assert axis.get_title() == drawn and beside_an_axis([text]) == [drawn]
    ElementTree.parse(tmp_path / "figure.svg")
    assert not recwarn.list


def test_characters_without_a_shape_are_no_hindrance():
    assert glyphs.drawable({"m": "❤\ufe0f a\u200db"}) == {"m": "❤\ufe0f a\u200db"}
    assert glyphs.spelled("a\ufe0fb") in ("ab", "a\ufe0fb")


@pytest.mark.parametrize("text", ["模型", "모델", "モデル"])
def test_a_font_of_the_machine_is_taken_where_the_first_lacks_a_character(text, tmp_path, recwarn):
    if glyphs.spelled(text) != text:
        pytest.skip("no font here has these characters")
    families = glyphs.font_families([text, "a"])
    assert families[0] == "DejaVu Sans" and len(families) > 1 and "Last Resort" not in families[1]
    figure = accuracy_against(table(row()), TIME, {"led": text})
    save(figure, tmp_path / "figure")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_font_that_is_not_this_machine_s_is_found_once_it_is_there(tmp_path, monkeypatch):
    """A font is chosen by what it has, whatever it is called."""
    entry = next(
        entry
        for entry in glyphs.fontManager.ttflist
        if entry.name == "STIXGeneral" and entry.weight == 400
    )
    shutil.copy(entry.fname, tmp_path / "font.ttf")
    for cached in (glyphs._upright, glyphs._families):
        cached.cache_clear()
    first = [font for font in glyphs.fontManager.ttflist if font.name == "DejaVu Sans"]
    plain = ("normal", "normal", 400, "normal", "scalable")
    other = type(entry)(str(tmp_path / "font.ttf"), 0, "Sans of my own", *plain)
    monkeypatch.setattr(glyphs.fontManager, "ttflist", [*first, other])
    only = next(
        chr(n)
        for n in range(0x1D400, 0x1D7FF)
        if glyphs._has(other, chr(n)) and not glyphs._has(first[0], chr(n))
    )
    try:
        assert glyphs.font_families([only]) == ["DejaVu Sans", "Sans of my own"]
        assert glyphs.drawable({"m": only}) == {"m": only}
        assert glyphs.drawable({"m": "模"}) == {"m": "m"}
    finally:
        for cached in (glyphs._upright, glyphs._families):
            cached.cache_clear()


def test_every_figure_of_a_study_is_drawn_with_any_title(tmp_path):
    from longwatt.report.figures import plot_all

    titles = {"needle": "$a$ \\$ %", "led": UNKNOWN, "cpu": "{b}"}
    own = {"name": "own", "title": "$x$ " + UNKNOWN, "costs": ["training_time"]}
    own = [{**own, "datasets": ["needle"]}]
    settings = {"titles": titles, "published": {}, "figures": own}
    plot_all(as_file(tmp_path, row(), row(seq_len=128)), tmp_path / "figures", settings, {})
    assert (tmp_path / "figures/own.png").stat().st_size > 5000
