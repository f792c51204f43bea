"""Groups of cells that cascades can join, and the page of their cascades."""

from dataclasses import replace

import numpy as np

from longwatt.cascades.figures import cascade_drawings
from longwatt.cascades.points import groups_of
from longwatt.cascades.report import (
    NO_CASCADE,
    cascade_lines,
    cascade_sections,
    curve_table,
    group_facts,
    unjoined_lines,
)
from longwatt.layout.drawing import save
from longwatt.layout.pages import markdown
from longwatt.metrics.document_samples import with_documents
from longwatt.study.summary_columns import ENVIRONMENT
from tests.unit.cascades.made import CHEAP, DEAR, MIDDLE, answers, point

KNOWS = np.arange(60) % 3 != 0
SURE = np.where(KNOWS, -0.1, -3.0).tolist()
SETTINGS = {
    "scoring": {"bootstrap_resamples": 100, "confidence": 0.95, "seed": 0},
    "keep_score": 0.99,
    "titles": {"d": "Data"},
}
NAMES = {CHEAP: "64 tokens", MIDDLE: "128 tokens", DEAR: "256 tokens"}


def points(splits=("validation", "test"), joules=(1.0, 3.0, 9.0), sure=SURE):
    cells = zip((CHEAP, MIDDLE, DEAR), joules, strict=True)
    return [
        point(cell, answers(100 * (KNOWS | (cell == DEAR)), sure), cost, split=split)
        for cell, cost in cells
        for split in splits
    ]


def test_two_splits_part_fitting_from_stating_and_one_is_halved():
    (both,) = groups_of(points(("test", "validation", "train")))
    assert both.splits == ("validation", "test") and not both.halved
    assert [one.point.cell for one in both.members] == [CHEAP, MIDDLE, DEAR]
    (half,) = groups_of(points(("test",)))
    assert half.halved and half.splits == ("test", "test")
    fitted, stated = (set(one.sample.ids) for one in (half.members[0].fitted,
                                                      half.members[0].stated))  # fmt: skip
    assert fitted & stated == set() and len(fitted | stated) == 60 and min(map(len, (
        fitted, stated))) > 15  # fmt: skip
    again = groups_of(points(("test",)))[0].members[2]
    assert set(again.fitted.sample.ids) == fitted, "all cells have the same halves"


def test_an_unknown_energy_makes_all_costs_milliseconds_and_one_cell_no_group():
    (group,) = groups_of(points(joules=(1.0, None, 9.0)))
    assert group.unit == "ms"
    assert groups_of(points()[:2]) == []


def test_a_cell_of_other_examples_is_left_out_and_two_such_make_no_group():
    odd = point(MIDDLE, answers([50.0] * 40, SURE[:40]), 3.0)
    (group,) = groups_of([*points(("test",))[::2], odd])
    assert [one.point.cell for one in group.members] == [CHEAP, DEAR]
    assert group_facts(group, SETTINGS)["agreements"] == []
    assert groups_of([points(("test",))[0], odd]) == []


def test_one_example_cannot_be_halved():
    assert groups_of([point(cell, answers([50.0], [0.0]), 1.0) for cell in (CHEAP, DEAR)]) == []


def test_costs_of_unlike_machines_say_so():
    own = answers(100 * KNOWS, SURE)
    one = {name: "a" for name in ENVIRONMENT}
    machines = (one, {**one, "device": "b"})
    found = [point(cell, own, 1.0, machine=machine)
             for cell, machine in zip((CHEAP, DEAR), machines, strict=True)]  # fmt: skip
    (group,) = groups_of(found)
    assert group.across == "other devices"
    page = markdown("Cascades", cascade_sections({"k": group_facts(group, SETTINGS)}, NAMES,
                                                 SETTINGS))  # fmt: skip
    assert "Some were measured on other devices than the rest" in page
    assert groups_of(points())[0].across is None


def test_a_cascade_of_another_kind_than_its_cells_is_named():
    whole = answers(100 * KNOWS, SURE)
    ran = point(DEAR, whole, 3.0, inference="both", cascade={"first": CHEAP})
    other = replace(ran, known={**ran.known, "kind": "other batch size"})
    for run, said in ((ran, 0), (other, 1)):
        found = [*points(), run]
        assert len(unjoined_lines(found, groups_of(found))) == said
    assert unjoined_lines([other], [])[0].startswith(f"{DEAR}, both: it ran as a cascade")


def test_the_page_has_the_audit_the_tables_and_the_figure(tmp_path):
    groups = dict(zip(["d-seed1-k"], groups_of(points()), strict=True))
    facts = {key: group_facts(group, SETTINGS) for key, group in groups.items()}
    (lines,) = cascade_lines(facts, NAMES, SETTINGS)
    assert lines.startswith("Data, seed 1: cascade: 64 tokens, then 256 tokens. It asks")
    page = markdown("Cascades", cascade_sections(facts, NAMES, SETTINGS))
    assert "Thresholds are fitted on the split validation" in page
    assert "| 64 tokens, then 256 tokens " in page and "do not cascade" in page
    assert "64 tokens and 128 tokens, then 256 tokens" in page
    curve = curve_table(groups)
    ends = curve[(curve["kind"] == "cascade") & (curve["last"] == DEAR)]
    assert set(ends["first"]) == {CHEAP, MIDDLE}
    assert ends.groupby("first")["cost"].max().to_dict() == {CHEAP: 10.0, MIDDLE: 12.0}
    (draw,) = cascade_drawings(facts, curve, NAMES, SETTINGS["titles"]).values()
    assert all(path.stat().st_size for path in save(draw(), tmp_path / "figure"))


def test_predictions_without_confidence_say_what_to_do():
    found = points()
    for one in found:
        for facts in one.answered.facts:
            facts.clear()
    groups = dict(zip(["k"], groups_of(found), strict=True))
    facts = {key: group_facts(group, SETTINGS) for key, group in groups.items()}
    (line,) = cascade_lines(facts, NAMES, SETTINGS)
    assert "older than its recording" in line and "predict again" in line
    assert cascade_lines({}, NAMES, SETTINGS) == [NO_CASCADE]


def test_halves_keep_documents_whole_in_cells_that_know_of_none_too():
    one, *others = points(("test",))
    ids = one.answered.sample.ids
    documents = {id_: f"m{place // 5}" for place, id_ in enumerate(ids)}
    known = replace(one.answered, sample=with_documents(one.answered.sample, documents))
    (half,) = groups_of([replace(one, answered=known), *others])
    parts = [[{documents[id_] for id_ in part.sample.ids} for part in (own.fitted, own.stated)]
             for own in half.members]  # fmt: skip
    assert all(fitted & stated == set() for fitted, stated in parts)
    assert parts[0] == parts[1] == parts[2] and all(parts[0])
