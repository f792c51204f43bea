"""The page judges as `longwatt choose` does, on results that longwatt did not make."""

import csv
import random

import pytest

from longwatt.answer.choice import Limits, choose_cell
from longwatt.answer.command import main
from longwatt.answer.imported import read_imported
from longwatt.metrics.resampling import Resampling
from tests.chromium import browsing

READY = "document.body && document.body.dataset.ready === 'yes'"
METHODS, REQUESTS = 24, 1_000_000


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A CSV of methods with scores of ten thousand examples, costs drawn at random."""
    draw, path = random.Random(3), tmp_path_factory.mktemp("imported") / "methods.csv"
    with path.open("w", newline="") as stream:
        rows = csv.DictWriter(stream, [
            "model", "score", "n_examples", "train_kwh", "joules_per_request", "ms_per_request",
            "memory_gib", "energy",
        ])  # fmt: skip
        rows.writeheader()
        for number in range(METHODS):
            rows.writerow({
                "model": f"method {number}", "score": round(draw.uniform(30, 60), 2),
                "n_examples": 1_000_000, "train_kwh": round(draw.uniform(0.1, 4), 3),
                "joules_per_request": round(draw.uniform(1, 20), 3) if number else "NA",
                "ms_per_request": round(draw.uniform(5, 80), 2),
                "memory_gib": round(draw.uniform(4, 40), 2) if number > 1 else "NA",
                "energy": "measured",
            })  # fmt: skip
    return path


@pytest.fixture(scope="module")
def page(results):
    path = results.with_suffix(".html")
    assert main(["--csv", str(results), "--page", str(path)]) == 0
    return path


def on_page(tab, limits: Limits) -> str:
    """The id that the page chooses within limits."""
    known = {
        "requests": limits.requests, "score": limits.min_score, "energy": limits.max_kwh,
        "time": limits.max_ms, "memory": limits.max_gib,
    }  # fmt: skip
    given = "&".join(f"{name}={value}" for name, value in known.items() if value is not None)
    tab.evaluate(f"history.replaceState(null, '', '#{given}')")
    tab.evaluate("recall(); update()")
    return str(tab.evaluate("$('choice').dataset.chosen || choice(inDataset()).nearest.id"))


def test_the_page_chooses_what_the_command_chooses(results, page):
    points, how, draw = read_imported(results), Resampling(), random.Random(5)
    drawn = [
        Limits(
            min_score=draw.choice([None, round(draw.uniform(28, 58), 1)]),
            max_kwh=draw.choice([None, round(draw.uniform(0.5, 6), 2)]),
            max_ms=draw.choice([None, round(draw.uniform(5, 80), 1)]),
            max_gib=draw.choice([None, round(draw.uniform(4, 40), 1)]),
            requests=draw.choice([0, 1_000, REQUESTS, 10**8]),
        )
        for _ in range(60)
    ]
    nothing = 0
    with browsing() as tab:
        tab.open(page, READY)
        for limits in drawn:
            found = choose_cell(points, limits, how)
            one = found.chosen or found.nearest
            assert one is not None
            nothing += found.chosen is None
            assert on_page(tab, limits) == one.id, limits
        assert 3 < nothing < 40
        assert "imported" in tab.text("#cells") and "NA" in tab.text("#cells")
        assert "Its energy" not in tab.text("#choice") and tab.errors == []


def test_the_command_says_where_the_page_is(results, tmp_path, capsys):
    assert main(["--csv", str(results), "--page", str(tmp_path / "p.html"), "--json"]) == 0
    assert f"the page is {tmp_path / 'p.html'}" in capsys.readouterr().err
    assert "Take method" in (tmp_path / "p.html").read_text()


def test_neither_the_page_nor_the_command_is_sure_of_unknown_spreads(tmp_path, capsys):
    path = tmp_path / "bare.csv"
    path.write_text("model,score,train_kwh,joules_per_request\na,50,1,1\nb,60,2,2\n")
    page = path.with_suffix(".html")
    assert main(["--csv", str(path), "--page", str(page)]) == 0
    assert "How sure the choice is, is not known" in capsys.readouterr().out
    with browsing() as tab:
        tab.open(page, READY)
        assert tab.evaluate("choice(inDataset()).sure") is None
        shares = "[...fronts(inDataset(), 'memory', 0).values()].map(one => one.share)"
        assert tab.evaluate(f"{shares}.join()") == ","
