"""Every control of the answer's page is used in Chromium, and the text it must change is read."""

import base64
import json
import re
import time
from pathlib import Path
from statistics import NormalDist, stdev

import numpy as np
import pytest

from longwatt.answer.page import write_answer_page
from longwatt.results.frontier import on_front
from tests.answer_facts import REQUESTS, synthetic_facts
from tests.chromium import Tab, browsing

READY = "document.body && document.body.dataset.ready === 'yes'"
AFRESH = """(async () => { history.replaceState(null, "", location.pathname); recall();
  makeFilters(); await update(); plot.look(""); await plot.whole(); scrollTo(0, 0); })()"""
ATTACK = "</script><script>document.title='ran'</script><img src=x onerror=document.title='ran'>'\""
FACTS = synthetic_facts()
BY_ID = {point["id"]: point for point in FACTS["points"]}
NEEDLE = [point for point in FACTS["points"] if point["dataset"] == "needle"]
BEST = FACTS["recommendations"]["needle"]["chosen"]


@pytest.fixture(scope="module")
def browser():
    with browsing() as tab:
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("answer") / "answer.html"
    write_answer_page(FACTS, path)
    return path


@pytest.fixture
def tab(browser, page):
    """Give the page as it opens; opening it anew for each test would take ten seconds in all."""
    browser.requests.clear()
    browser.errors.clear()
    if browser.evaluate("location.pathname") == str(page):
        browser.resize(1440)
        browser.evaluate(AFRESH)
    else:
        browser.open(page, READY)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []


def chosen(tab: Tab) -> str:
    return str(tab.evaluate("document.querySelector('#choice').dataset.chosen"))


def set_to(tab: Tab, control: str, value: float | str, event: str = "input") -> None:
    tab.evaluate(
        f"(() => {{ const it = document.getElementById('{control}'); it.value = {value!r}; "
        f"it.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def press_button(tab: Tab, selector: str) -> None:
    tab.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def shown_rows(tab: Tab) -> list[str]:
    return list(
        tab.evaluate("[...document.querySelectorAll('#cells tbody tr')].filter(r => !r.hidden)"
                     ".map(r => r.dataset.id)")
    )  # fmt: skip


def column(tab: Tab, name: str) -> list[str]:
    cells = f"#cells tbody tr:not([hidden]) [data-column={name}]"
    return list(tab.evaluate(f"[...document.querySelectorAll('{cells}')].map(c => c.textContent)"))


def domain(tab: Tab, axis: str = "x") -> list[float]:
    return list(tab.evaluate(f"plot.view.signal('{axis}dom')"))


def dots(tab: Tab) -> int:
    return int(
        tab.evaluate("document.querySelectorAll('#plot .mark-symbol.role-mark path').length")
    )


def place_of(tab: Tab, point: str) -> tuple[float, float]:
    x, y = tab.evaluate(
        f"(() => {{ $('plot').scrollIntoView({{block: 'center'}}); "
        f"const box = $('plot').getBoundingClientRect(); "
        f"const [x, y] = plot.spot(plot.rows.find(r => r.id === {point!r})); "
        "return [box.left + x, box.top + y]; })()"
    )
    return x, y


def kept(point: dict) -> float:
    """The score that as many other examples keep in 95 % of cases."""
    return point["score"] - 2**0.5 * NormalDist().inv_cdf(0.95) * stdev(point["resampled"])


def lifecycle(point: dict, requests: float = REQUESTS) -> float:
    return point["costs"]["train_energy"] + requests * point["joules_per_request"] / 3.6e6


def test_the_studys_own_recommendation_is_shown_first(tab):
    assert chosen(tab) == BEST
    words = tab.text("#choice")
    assert all(text in words for text in FACTS["recommendations"]["needle"]["words"])
    assert "93 % of the resamples" in words and "the study's own recommendation" in words
    assert column(tab, "choice").count("chosen") == 1


def test_the_plot_draws_every_point_of_the_dataset(tab):
    assert dots(tab) >= len(NEEDLE)
    assert f"{len(NEEDLE)} cells of Needle" in tab.text("#plot-text")
    assert tab.evaluate("plot.rows.length") == len(NEEDLE)


def test_another_dataset_brings_its_own_answer(tab):
    set_to(tab, "dataset", "govreport", "change")
    assert chosen(tab) == FACTS["recommendations"]["govreport"]["chosen"]
    assert "Govreport" in tab.text("#choice") and "ROUGE" in tab.text("#plot")
    assert {BY_ID[name]["dataset"] for name in shown_rows(tab)} == {"govreport"}


def test_the_other_datasets_recommendations_lead_to_them(tab):
    words = FACTS["recommendations"]["govreport"]["words"][0]
    assert f"Govreport (synthetic): {words}" in tab.text("#choice .others")
    press_button(tab, "#choice .others button")
    assert tab.evaluate("$('dataset').value") == tab.evaluate("DATASETS[1]")
    assert "Needle (synthetic): Take" in tab.text("#choice .others")


def test_a_diverged_cell_is_named_and_never_chosen(tab):
    set_to(tab, "dataset", "qmsum", "change")
    assert "diverged" in column(tab, "choice")
    for name in ("model", "budget"):
        for value in {p[name] for p in FACTS["points"]} - {"small", "one", "two"}:
            press_button(tab, f"[data-axis={name}][data-value='{value}']")
    assert BY_ID[chosen(tab)]["model"] == "small" and not BY_ID[chosen(tab)]["diverged"]
    assert "random weights" in tab.text("#choice")


@pytest.mark.parametrize("axis", ["model", "budget", "seq_len"])
def test_a_filter_takes_points_from_the_plot_the_table_and_the_choice(tab, axis):
    value = str(BY_ID[BEST][axis])
    press_button(tab, f"[data-axis={axis}][data-value='{value}']")
    left = {point["id"] for point in NEEDLE if str(point[axis]) != value}
    assert set(shown_rows(tab)) == left
    assert set(tab.evaluate("plot.rows.map(row => row.id)")) == left
    assert chosen(tab) in left and "Computed here" in tab.text("#choice")
    assert f"{len(left)} cells of 64" in tab.text("#row-count")
    press_button(tab, "#reset")
    assert chosen(tab) == BEST and len(shown_rows(tab)) == len(NEEDLE)


@pytest.mark.parametrize("cost", ["train_energy", "inference_time", "memory"])
def test_the_axis_shows_another_cost(tab, cost):
    set_to(tab, "cost", cost, "change")
    title = FACTS["costs"][cost]["title"]
    tab.wait(f"document.querySelector('#plot').textContent.includes('{title} (')")
    costs = [point["costs"][cost] for point in NEEDLE]
    low, high = domain(tab)
    assert low < min(costs) and high > max(costs)


def test_money_is_offered_only_where_some_is_known(tab):
    assert not tab.evaluate("[...$('cost').options].some(one => one.value === 'money')")


def test_the_axis_is_linear_on_request(tab):
    press_button(tab, "#log")
    tab.wait("plot.view.scale('x').type === 'linear'")
    press_button(tab, "#log")
    tab.wait("plot.view.scale('x').type === 'log'")


def test_a_least_score_lets_a_cheaper_cell_do(tab):
    scores = sorted(point["score"] for point in NEEDLE)
    set_to(tab, "min-score", 300)
    least = scores[0] + 0.3 * (scores[-1] - scores[0])
    able = [point for point in NEEDLE if kept(point) >= least]
    assert chosen(tab) == min(able, key=lifecycle)["id"]
    assert tab.text("#min-score-shown") == f"{least:.1f}"
    assert f"{len(able)} cells that keep {least:.1f} with a margin" in tab.text("#choice")
    assert {"score too low", "score not surely enough"} <= set(column(tab, "choice"))
    tab.wait("plot.view.data('limit_y').length === 1")
    assert tab.evaluate("plot.view.data('limit_y')[0].at") == pytest.approx(least)


@pytest.mark.parametrize(
    "slider, cost", [("energy", "lifecycle_energy"), ("time", "inference_time"), ("memory", None)]
)
def test_a_limit_on_a_cost_moves_the_choice(tab, slider, cost):
    cost = cost or slider
    before = BY_ID[chosen(tab)]["costs"][cost]
    set_to(tab, f"max-{slider}", 300)
    limit = tab.evaluate(f"STATE.need.{slider}")
    assert BY_ID[chosen(tab)]["costs"][cost] <= limit < before
    assert f"too much {slider}" in column(tab, "choice")
    assert f"within your {slider}." in tab.text("#choice")
    assert "no limit" not in tab.text(f"#max-{slider}-shown")
    set_to(tab, f"max-{slider}", 1000)
    assert tab.text(f"#max-{slider}-shown") == "no limit" and chosen(tab) == BEST


def test_nothing_qualifies_names_the_nearest(tab):
    set_to(tab, "min-score", 1000)
    set_to(tab, "max-energy", 0)
    words = tab.text("#choice")
    assert "Nothing qualifies." in words and "The nearest is" in words and ", not " in words
    assert chosen(tab) == "" and "chosen" not in column(tab, "choice")


def test_more_requests_make_life_cycles_dearer(tab):
    set_to(tab, "min-score", 1)
    set_to(tab, "requests", 0)
    assert tab.text("#requests-shown") == "0"
    able = [point for point in NEEDLE if kept(point) >= tab.evaluate("STATE.need.score")]
    assert chosen(tab) == min(able, key=lambda point: lifecycle(point, 0))["id"]
    set_to(tab, "requests", tab.evaluate("AMOUNTS.length - 1"))
    many = tab.evaluate("STATE.need.requests")
    assert many >= 1e9 and f"{many:,}" in tab.text("#choice")
    assert chosen(tab) == min(able, key=lambda point: lifecycle(point, many))["id"]
    cell = f"#cells tr[data-id='{BEST}'] [data-column=lifecycle_energy]"
    shown = float(tab.evaluate(f'document.querySelector("{cell}").dataset.value'))
    assert shown == pytest.approx(lifecycle(BY_ID[BEST], many))


def test_certainty_is_the_share_of_resamples_that_choose_the_same(tab):
    set_to(tab, "min-score", 700)
    least, mine = tab.evaluate("STATE.need.score"), chosen(tab)
    same = 0
    for number in range(len(NEEDLE[0]["resampled"])):
        able = [
            point
            for point in NEEDLE
            if point["resampled"][number] + kept(point) - point["score"] >= least
        ]
        same += bool(able) and min(able, key=lifecycle)["id"] == mine
    share = same / len(NEEDLE[0]["resampled"])
    assert 0 < share < 1
    assert f"Sure: {round(100 * share)} %" in tab.text("#choice")


def test_a_click_compares_a_point_with_the_choice(tab):
    other = next(point for point in NEEDLE if point["id"] != BEST)
    tab.click(*place_of(tab, other["id"]))
    tab.wait("!$('compared').hidden")
    words = tab.text("#compared")
    assert other["model_title"] in words and "paired" in words
    ratio = lifecycle(other) / lifecycle(BY_ID[BEST])
    found = re.search(r"([\d.]+) times as much", words)
    assert found is not None and float(found[1]) == pytest.approx(ratio, rel=0.01)
    assert other["model_title"] in tab.text("#looked")


def test_a_point_says_which_dominate_it(tab):
    beaten = next(p for p in NEEDLE if p["frontier"]["lifecycle_energy"]["by"])
    above = BY_ID[beaten["frontier"]["lifecycle_energy"]["by"][0]]
    tab.evaluate(f"plot.look({beaten['id']!r})")
    title = f"{above['model_title']}, {above['seq_len']} tokens, {above['budget_title']}"
    assert f"dominated by {title}" in tab.text("#looked")
    assert "on the front in 50 % of resamples" in tab.text("#looked"), "as the facts say"


def test_break_even_is_where_both_take_the_same(tab):
    mine = BY_ID[BEST]
    crossing = {}
    for other in NEEDLE:
        once = mine["costs"]["train_energy"] - other["costs"]["train_energy"]
        each = (other["joules_per_request"] - mine["joules_per_request"]) / 3.6e6
        crossing[other["id"]] = once / each if each else -1
    crosses, never = (next(n for n, at in crossing.items() if (at > 0) is way and n != BEST)
                      for way in (True, False))  # fmt: skip
    press_button(tab, f"tr[data-id='{crosses}'] .name")
    assert f"{round(crossing[crosses]):,} requests" in tab.text("#compared")
    press_button(tab, f"tr[data-id='{never}'] .name")
    assert "Break-even: none" in tab.text("#compared")


def test_hovering_says_what_a_point_is(tab):
    point = NEEDLE[3]
    tab.mouse("mouseMoved", *place_of(tab, point["id"]))
    assert f"score {point['score']:.1f}" in tab.text("#plot .tip")


def test_the_plot_is_zoomed_by_button_key_and_wheel_and_moved_by_dragging(tab):
    def width() -> float:
        low, high = domain(tab)
        return high / low

    whole = width()
    press_button(tab, "#zoom-in")
    assert width() < whole
    press_button(tab, "#zoom-out")
    assert width() == pytest.approx(whole)
    x, y = place_of(tab, BEST)
    tab.mouse("mouseWheel", x - 30, y + 60, deltaX=0, deltaY=-200, modifiers=2)
    tab.wait(f"plot.view.signal('xdom')[1] / plot.view.signal('xdom')[0] < {whole}")
    before = domain(tab)
    tab.mouse("mousePressed", x - 90, y + 90, button="left", buttons=1, clickCount=1)
    tab.mouse("mouseMoved", x - 40, y + 90, button="left", buttons=1)
    tab.wait(f"plot.view.signal('xdom')[0] < {before[0]}")
    tab.mouse("mouseReleased", x - 40, y + 90, button="left", clickCount=1)
    assert tab.evaluate("$('compared').hidden"), "dragging is no click"
    press_button(tab, "#zoom-all")
    tab.wait(
        f"Math.abs(plot.view.signal('xdom')[1] / plot.view.signal('xdom')[0] - {whole}) < 1e-6"
    )


def test_points_are_reached_and_compared_by_keys_alone(tab):
    tab.evaluate("$('log').focus()")
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "plot"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("ArrowRight")
    assert BY_ID[BEST]["model_title"] in tab.text("#looked"), "the first is the choice"
    tab.press("ArrowLeft")
    at = tab.evaluate("plot.looked")
    by_cost = sorted(NEEDLE, key=lambda point: point["costs"]["lifecycle_energy"])
    assert by_cost[by_cost.index(BY_ID[BEST]) - 1]["id"] == at
    tab.press("Enter")
    assert BY_ID[at]["model_title"] in tab.text("#compared")
    tab.press("+")
    zoomed = domain(tab)
    tab.press("0")
    tab.wait(f"plot.view.signal('xdom')[0] < {zoomed[0]}")
    tab.press("Escape")
    assert tab.evaluate("$('compared').hidden")


def test_every_control_takes_the_focus_and_has_a_name(tab):
    nameless = tab.evaluate("""[...document.querySelectorAll('button, select, input, [tabindex]')]
      .filter(one => one.tabIndex < 0 || !(one.labels?.length || one.textContent.trim()
        || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby')))
      .map(one => one.outerHTML)""")
    assert nameless == []
    tab.evaluate("$('min-score').focus()")
    tab.press("End")
    top = max(point["score"] for point in NEEDLE)
    assert tab.evaluate("$('min-score').getAttribute('aria-valuetext')") == f"{top:.1f}"


@pytest.mark.parametrize(
    "name", ["cell", "score", "lifecycle_energy", "seq_len", "choice", "front", "budget"]
)
def test_the_table_is_sorted_by_any_column(tab, name):
    head = f"#cells thead [data-column={name}]"
    key = (
        "[...document.querySelectorAll('#cells tbody tr:not([hidden])')].map(r => "
        f"cellIn(r, '{name}')).map(c => c.classList.contains('n') ? Number(c.dataset.value) "
        ": c.dataset.value)"
    )
    tab.evaluate(f"document.querySelector('{head} button').focus()")
    tab.press("Enter")
    assert tab.evaluate(f"document.querySelector('{head}').ariaSort") == "ascending"
    rising = [value for value in tab.evaluate(key) if value != ""]
    assert rising == sorted(rising, key=lambda v: v if isinstance(v, float | int) else v.lower())
    tab.press("Enter")
    assert tab.evaluate(f"document.querySelector('{head}').ariaSort") == "descending"
    assert [value for value in tab.evaluate(key) if value != ""] == rising[::-1] or len(
        set(rising)
    ) < len(rising)


def test_rows_of_all_datasets_on_request(tab):
    press_button(tab, "#every-dataset")
    assert len(shown_rows(tab)) == len(FACTS["points"])
    assert tab.evaluate(
        "getComputedStyle(document.querySelector('td[data-column=dataset]')).display"
    ) == "table-cell"  # fmt: skip
    assert column(tab, "choice").count("chosen") == 3
    elsewhere = FACTS["recommendations"]["govreport"]["chosen"]
    press_button(tab, f"tr[data-id='{elsewhere}'] .name")
    assert chosen(tab) == elsewhere and tab.evaluate("$('dataset').value") == "govreport"


def test_rows_are_written_as_csv(tab):
    press_button(tab, "[data-axis=model][data-value=led]")
    lines = tab.evaluate("tableAsCsv()").splitlines()
    left = [point for point in NEEDLE if point["model"] != "led"]
    assert len(lines) == 1 + len(left)
    assert lines[0].startswith("id,Model,Dataset,Choice") and "kWh" in lines[0]
    assert tab.evaluate("inCsv('=1+1')") == "'=1+1" and tab.evaluate("inCsv('-1.5')") == "-1.5"
    assert tab.evaluate("inCsv('a, \"b\"')") == '"a, ""b"""'


def test_the_download_button_gives_a_file(tab, tmp_path):
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    press_button(tab, "#download")
    target, end = tmp_path / "synthetic_cells.csv", time.monotonic() + 20
    while not target.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert target.read_text().startswith("id,Model")


def test_the_address_holds_the_choice(tab, page):
    set_to(tab, "dataset", "qmsum", "change")
    set_to(tab, "cost", "memory", "change")
    set_to(tab, "min-score", 400)
    set_to(tab, "requests", 3)
    press_button(tab, "#log")
    press_button(tab, "[data-axis=model][data-value=t5]")
    press_button(tab, "#cells thead [data-column=score] button")
    press_button(tab, "#cells tbody tr:not([hidden]) .name")
    words, address = tab.text("main"), tab.evaluate("location.hash")
    tab.open(page, READY, after=address)
    assert tab.text("main") == words
    assert tab.evaluate("location.hash") == address


def test_a_strange_address_means_nothing(tab, page):
    tab.open(page, READY, after="#dataset=x&axis=constructor&score=abc&requests=-4&sort=%3Cb%3E")
    assert chosen(tab) == BEST and tab.evaluate("plot.rows.length") == len(NEEDLE)


@pytest.mark.parametrize("width", [390, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_telephone_and_a_screen(tab, page, width, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    tab.call("Emulation.setEmulatedMedia", features=[feature])
    tab.open(page, READY, width)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (
        tab.evaluate("document.querySelector('#plot svg').getBoundingClientRect().right") <= width
    )
    # Contrast of the text against the page, as WCAG 2 computes it.
    contrast = tab.evaluate("""(() => {
      const lum = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((s, v, n) => s + v * [.2126, .7152, .0722][n], 0);
      const ground = lum(getComputedStyle(document.body).backgroundColor);
      return Math.min(...[...document.querySelectorAll('p, td, th, .name, small, output')]
        .map(e => lum(getComputedStyle(e).color))
        .map(l => (Math.max(l, ground) + .05) / (Math.min(l, ground) + .05))); })()""")
    assert contrast >= 4.5
    tab.call("Emulation.setEmulatedMedia", features=[])


def test_paper_gets_the_answer_and_the_table_but_no_controls(tab, tmp_path):
    tab.call("Emulation.setEmulatedMedia", media="print")
    seen = "[...document.querySelectorAll({})].filter(e => e.getClientRects().length).length"
    assert tab.evaluate(seen.format("'form, input, select, thead button, #download'")) == 0
    assert tab.evaluate(seen.format("'#cells tbody tr'")) == len(NEEDLE)
    assert tab.evaluate("$('choice').innerText").count("Take ")
    around = "document.querySelector('#cells').parentElement"
    assert tab.evaluate(f"{around}.scrollHeight <= {around}.clientHeight + 1"), "nothing is cut off"
    tab.call("Emulation.setEmulatedMedia", media="")
    tab.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_a_choice_that_cannot_be_drawn_has_no_ring(browser, tmp_path):
    facts = synthetic_facts(6, energy=False)
    for point in facts["points"]:
        point["costs"] = dict.fromkeys(point["costs"])
    write_answer_page(facts, tmp_path / "answer.html")
    browser.open(tmp_path / "answer.html", READY)
    assert chosen(browser) and "ring" not in browser.text("#plot-text")


def test_no_energy_known_shows_time_and_says_why(browser, tmp_path):
    facts = synthetic_facts(energy=False)
    write_answer_page(facts, tmp_path / "answer.html")
    browser.open(tmp_path / "answer.html", READY)
    assert browser.text("#axis-reason") == (
        "No energy of 1,000,000 requests is known, so the axis shows time per request."
    )
    assert browser.evaluate("$('cost').value") == "inference_time"
    assert browser.text("#max-energy-shown") == "not known"
    assert browser.evaluate("$('max-energy').disabled")
    set_to(browser, "min-score", 500)
    assert "least time per request (no energy is known)" in browser.text("#choice")
    assert "Its energy is not known." in browser.text("#choice")
    set_to(browser, "cost", "lifecycle_energy", "change")
    assert "24 cells cannot be drawn" in browser.text("#plot-text")
    assert set(column(browser, "lifecycle_energy")) == {"NA"}


def test_unknown_numbers_and_a_cost_of_nothing_are_shown_as_such(browser, tmp_path):
    facts = synthetic_facts(4)
    first, second = facts["points"][:2]
    first |= {"resampled": None, "score_low": None, "score_high": None, "seq_len": None}
    second["costs"] = {**second["costs"], "train_energy": 0.0, "memory": None}
    second["joules_per_request"] = None
    facts["recommendations"] = {}
    write_answer_page(facts, tmp_path / "answer.html")
    browser.open(tmp_path / "answer.html", READY, after="#axis=train_energy&score=1")
    assert "How sure this is, is not known" in browser.text("#choice")
    assert "1 cell with a cost of 0 stands at the left edge" in browser.text("#plot-text")
    assert "NA" in column(browser, "memory") and "NA" in column(browser, "seq_len")
    set_to(browser, "requests", 5)
    assert "NA" in column(browser, "lifecycle_energy")


def test_points_on_the_front_say_how_they_answer_where_that_differs(browser, tmp_path):
    """Colour and shape tell models apart, but not two ways to run one of them."""
    facts = synthetic_facts(4)
    one, other = facts["points"][:2]
    other |= {**one, "id": other["id"], "inference": "beam"}
    one |= {"inference": "greedy"}
    other["costs"] = {name: value and 2 * value for name, value in one["costs"].items()}
    other["score"] = one["score"] + 5
    write_answer_page(facts, tmp_path / "answer.html")
    browser.open(tmp_path / "answer.html", READY)
    labels = set(browser.evaluate("plot.rows.map(row => row.label)"))
    assert {f"{one['seq_len']} greedy", f"{one['seq_len']} beam"} <= labels
    for point in facts["points"]:
        point["inference"] = "greedy"
    write_answer_page(facts, tmp_path / "alike.html")
    browser.open(tmp_path / "alike.html", READY)
    assert all(label.isdigit() for label in browser.evaluate("plot.rows.map(row => row.label)"))


def test_the_page_works_within_a_report(browser, page, tmp_path):
    """Snakemake's report shows pages in a frame, as data: there they have no address."""
    data = base64.b64encode(page.read_bytes()).decode()
    kind = "data:text/html;charset=utf8;filename=answer.html;base64"
    report = tmp_path / "report.html"
    report.write_text(f"<!doctype html><title>report</title><iframe src='{kind},{data}'></iframe>")
    browser.errors.clear()
    browser.open(report, "document.readyState === 'complete'")
    frame = max(browser.contexts)
    while not browser.evaluate(READY, frame):
        time.sleep(0.02)
    drawn = "document.querySelectorAll('#plot svg path').length"
    assert browser.evaluate(drawn, frame) > len(NEEDLE)
    moved = "$('min-score').value = 300; $('min-score').dispatchEvent(new Event('input'))"
    browser.evaluate(moved, frame)
    assert "Computed here" in browser.evaluate("$('choice').innerText", frame)
    assert browser.errors == []


def test_a_study_without_points_says_so(browser, tmp_path):
    facts = {**synthetic_facts(0), "datasets": {}, "claims": []}
    write_answer_page(facts, tmp_path / "answer.html")
    browser.errors.clear()
    browser.open(tmp_path / "answer.html", READY)
    assert "No cell can be recommended" in browser.text("main")
    assert browser.evaluate("$('play').hidden") and browser.errors == []


def test_points_of_another_split_are_in_the_table_alone(browser, tmp_path):
    facts = synthetic_facts(12)
    facts["recommendations"] = {}
    for point in facts["points"][:3]:
        point["split"] = "validation"
    write_answer_page(facts, tmp_path / "answer.html")
    browser.open(tmp_path / "answer.html", READY)
    assert browser.evaluate("plot.rows.length") == 9 and len(shown_rows(browser)) == 12
    assert column(browser, "choice").count("other examples or metric") == 3


def test_no_text_of_a_study_runs(browser, tmp_path):
    facts = json.loads(json.dumps(FACTS).replace("LED base", "TITLE").replace("greedy", "POINT"))
    facts["title"] = ATTACK
    text = json.dumps(ATTACK)[1:-1]
    facts = json.loads(json.dumps(facts).replace("TITLE", text).replace("POINT", text))
    for claim in facts["claims"]:
        claim |= {"statement": ATTACK, "notes": [ATTACK]}
    facts["energy"]["words"] = [ATTACK]
    facts["datasets"]["needle"] |= {"title": ATTACK, "score_name": ATTACK}
    write_answer_page(facts, tmp_path / "answer.html")
    browser.errors.clear()
    browser.open(tmp_path / "answer.html", READY)
    press_button(browser, "#cells tbody tr:not(.chosen) .name")
    browser.evaluate("plot.step('x', 1)")
    set_to(browser, "min-score", 500)
    assert ATTACK in browser.text("h1") and ATTACK in browser.text("#choice")
    assert ATTACK in browser.text("#claims") and ATTACK in browser.text("#looked")
    assert browser.evaluate("document.title") == "Which cell to take: synthetic"
    assert browser.errors == []


def test_the_page_asks_for_nothing(page: Path):
    """Its policy would refuse it too."""
    text = page.read_text()
    assert not re.search(r"(?:src|href|action|poster|data)=['\"]?(?:https?:)?//", text)
    assert not re.search(r"<link|@import|url\(|<base|<iframe", text)
    assert "default-src 'none'" in text


def test_the_table_stays_sorted_when_the_choice_moves(tab):
    press_button(tab, "#cells thead [data-column=lifecycle_energy] button")
    set_to(tab, "requests", 2)
    shown = [float(text) for text in column(tab, "lifecycle_energy")]
    assert shown == sorted(shown) and len(shown) == len(NEEDLE)


def test_fronts_on_the_page_are_those_of_the_summary(tab):
    """The same points by the same rule, but for fewer resamples (`longwatt.results.frontier`)."""
    costs = np.array([point["costs"]["inference_time"] for point in NEEDLE])
    draws = np.array([point["resampled"] for point in NEEDLE])
    share = np.mean([on_front(drawn, costs) for drawn in draws.T], axis=0)
    line = on_front(np.array([point["score"] for point in NEEDLE]), costs)
    found = tab.evaluate(
        "[...fronts(inDataset(), 'inference_time', FACTS.requests)].map(([p, f]) => [p.id, f])"
    )
    by_id = dict(found)
    for point, one, on in zip(NEEDLE, share, line, strict=True):
        assert by_id[point["id"]]["share"] == pytest.approx(float(one))
        assert by_id[point["id"]]["line"] == bool(on)
    assert {one["status"] for one in by_id.values()} >= {"on", "dominated"}


def test_what_is_said_of_a_point_follows_axis_filter_and_dataset(tab):
    tab.evaluate("$('plot').focus()")
    tab.press("ArrowRight")
    assert "life-cycle energy" in tab.text("#looked")
    set_to(tab, "cost", "memory", "change")
    assert "peak memory" in tab.text("#looked")
    model = BY_ID[BEST]["model"]
    press_button(tab, f"[data-axis=model][data-value={model}]")
    assert tab.text("#looked") == ""
    press_button(tab, f"[data-axis=model][data-value={model}]")
    tab.press("ArrowRight")
    set_to(tab, "dataset", "qmsum", "change")
    assert tab.text("#looked") == ""


@pytest.mark.parametrize(
    "address",
    ["#requests=&score=&energy=", "#energy=-5&time=0", "#requests=0.5", "#requests=1e300",
     "#axis=money", "#no_model=x&compared=x", "#requests=-1"],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_dropped_from_the_address(tab, address):
    tab.evaluate(f"location.hash = {address!r}")
    tab.wait("location.hash === ''")
    assert chosen(tab) == BEST and tab.evaluate("$('cost').value") == "lifecycle_energy"
    tab.evaluate("new Promise(done => setTimeout(done, 0))")
    assert tab.evaluate("Number($('requests').max) === AMOUNTS.length - 1")


def test_one_request_is_said_as_one(tab):
    set_to(tab, "requests", 1)
    assert "For 1 request it takes" in tab.text("#choice")


def test_keys_with_alt_are_the_browsers(tab):
    held = """(key => { const event = new KeyboardEvent("keydown",
      {key, altKey: true, cancelable: true}); $("plot").dispatchEvent(event);
      return event.defaultPrevented; })("ArrowLeft")"""
    assert tab.evaluate(held) is False and tab.evaluate("plot.looked") == ""


@pytest.mark.parametrize(
    ("text", "safe"),
    [("-2+3+cmd|' /C calc'!A0", False), ("=1", False), ("+a", False), ("-", True),
     ("-2.5 (-3.0 to -1.0)", True), ("-1.5e-05", True)],
)  # fmt: skip
def test_no_text_becomes_a_formula(tab, text, safe):
    assert (tab.evaluate(f"inCsv({json.dumps(text)})") == text) is safe


def test_names_in_the_table_show_the_focus(tab):
    tab.evaluate("document.querySelector('#cells tbody .name').focus({focusVisible: true})")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_one_cell_is_said_in_the_singular(tab):
    words = tab.evaluate("choiceWords(choose(inDataset().slice(0, 1), STATE.need), STATE.need, "
                         "STATE.dataset).join(' ')")  # fmt: skip
    assert "of 1 cell that cannot be told from the best score" in words
    assert "), or is at most 1 point below it" in words
