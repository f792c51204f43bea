"""The cores of each cell on the CPU, and how many cells run at once."""

from dataclasses import replace

import pytest
from bench import cells_at_once

from longwatt import processes
from longwatt.config.studies import read_study
from longwatt.plan import cell_cores as rule
from longwatt.plan.cell_cores import CellWork, cell_cores
from longwatt.plan.model_shapes import Shape, shape_of
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT
from tests.unit.plan.test_plan import grid

SMALL = CellWork(rule.SMALL_WORK, 1.0, 1)
LARGE = replace(SMALL, size=2 * rule.SMALL_WORK)
MEMORY = 64.0


@pytest.fixture(autouse=True)
def no_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CGROUPS", tmp_path / "cgroup")


def demo_stages(**machine):
    demo = read_study(ROOT / "studies/demo.yaml", ROOT / "workflow/schemas/study.schema.json")
    return checked_stages("demo", demo, machine)


def share(wanted, cores, *works, memory=MEMORY, metered=False):
    named = {f"cell {number}": work for number, work in enumerate(works)}
    return cell_cores(wanted, cores, named, memory, metered)


@pytest.mark.parametrize(
    ("works", "cores", "expected"),
    [
        ([SMALL], 1, (1, 1)),
        ([SMALL], 2, (1, 2)),
        ([SMALL], rule.FEW_CORES, (1, rule.FEW_CORES)),
        ([SMALL], rule.FEW_CORES + 1, (1, rule.FEW_CORES)),  # from here on one stays free
        ([SMALL], 16, (1, 15)),
        ([SMALL, LARGE], 16, (16, 1)),  # alike for all
        ([LARGE], 2, (2, 1)),
        ([], 8, (1, 7)),
    ],
)
def test_small_cells_have_one_core_and_large_ones_all(works, cores, expected):
    found = share("auto", cores, *works)
    assert (found.each, found.at_once) == expected


def test_a_study_that_goes_on_with_more_cells_keeps_its_threads():
    assert share("auto", 8, SMALL).each == share("auto", 8, *[SMALL] * 50).each


def test_cells_that_would_have_one_core_alone_are_named():
    found = share("auto", 4, SMALL, LARGE, LARGE)
    assert found.differing == ("cell 0",)
    assert found.described() == (
        "cells on the CPU have 4 cores each, one at a time: cell 1 and 1 more are large"
    )
    assert share("auto", 4, SMALL).differing == () == share("all", 4, SMALL, LARGE).differing


@pytest.mark.parametrize(
    ("memory", "expected"), [(15.0, (1, 15)), (5.9, (3, 5)), (1.0, (15, 1)), (0.5, (15, 1))]
)
def test_no_more_cells_run_at_once_than_fit_the_memory(memory, expected):
    found = share("auto", 16, SMALL, replace(SMALL, least_gib=0.1), memory=memory)
    assert (found.each, found.at_once) == expected
    assert ("memory" in found.reason) == found.limited == (found.each > 1)


@pytest.mark.parametrize(
    ("wanted", "memory", "expected", "why"),
    [
        ("all", MEMORY, (8, 1), ""),
        (1, MEMORY, (1, 8), ""),
        (3, MEMORY, (3, 2), ""),
        (8, 0.5, (8, 1), ""),
        (9, MEMORY, (8, 1), ", but no more than 8 may be used"),
        (1, 2.0, (1, 2), "; the memory of 2 GiB holds no more at once"),
        (1, 0.5, (1, 1), "; the memory of 0.5 GiB holds no more at once"),
    ],
)
def test_a_number_is_kept_as_far_as_cores_and_memory_go(wanted, memory, expected, why):
    found = share(wanted, 8, LARGE, memory=memory, metered=True)
    assert (found.each, found.at_once) == expected
    assert found.reason == f"cores_per_cell is {wanted}{why}" and found.limited is bool(why)


def test_a_node_whose_processors_are_metered_has_one_cell_at_a_time():
    found = share("auto", 8, SMALL, metered=True)
    assert (found.each, found.at_once) == (8, 1) and "energy is measured" in found.reason


def test_every_process_has_a_core_and_no_cell_more_than_there_are():
    found = share("auto", 9, SMALL, replace(SMALL, processes=2))
    assert found.at_once == 4
    assert [found.of(n) for n in (1, 2, 16)] == [1, 2, 9]
    assert [found.threads(n) for n in (1, 2, 16)] == [1, 1, 1]
    assert share("all", 9, SMALL).threads(2) == 4
    three = share(3, 9, SMALL, replace(SMALL, processes=2))
    assert [three.threads(n) for n in (1, 2)] == [3, 1], "a cell's processes split its cores"


def test_work_follows_from_the_study_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where nothing is downloaded
    stages = demo_stages()
    works = rule.works_of(stages)
    assert {name: work.size for name, work in works.items()} == {
        name: 32 * cell.seq_len * 64**2 for name, cell in stages.cells.items()
    }
    # One job was measured: its worker 0.42 GiB, its Snakemake 0.12, its recorder 0.04.
    assert all(0.55 < work.least_gib < 0.65 for work in works.values())
    assert set(rule.threads_of(stages, share("all", 6, SMALL)).values()) == {6}
    assert rule.of_study(stages, 2, metered=False).at_once == 2, "the demo gains"


@pytest.mark.parametrize(
    ("version", "quota", "expected"),
    [
        (2, "400000 100000", 4),
        (1, "400000 100000", 4),
        (2, "250000 100000", 2),
        (2, "50000 100000", 1),
        (2, "max 100000", 64),
        (1, "-1 100000", 64),
        (2, "6400000 100000", 64),
    ],
)
def test_a_container_has_the_cores_that_its_quota_is_worth(monkeypatch, version, quota, expected):
    monkeypatch.setattr(rule, "machine_memory_gib", lambda: 1000.0)
    (processes.CGROUPS / "cpu").mkdir(parents=True)
    names = ["cpu.max"] if version == 2 else processes.QUOTAS[1]
    for name, text in zip(names, [quota] if version == 2 else quota.split(), strict=True):
        (processes.CGROUPS / name).write_text(f"{text}\n")
    found = rule.of_study(demo_stages(cores_per_cell=1), 64, metered=False)
    assert (found.cores, found.at_once, found.limited) == (expected, expected, expected < 64)
    assert ("; a quota gives" in found.reason) == (expected < 64)
    if quota.startswith("25"):
        assert found.reason.endswith("; a quota gives 2.5 of 64 cores in time")
    assert rule.of_study(demo_stages(cores_per_cell="all"), 64, metered=False).each == expected


def test_cells_on_gpus_have_no_share():
    stages = checked_stages("s", grid(), {})
    assert rule.works_of(stages) == {} == rule.threads_of(stages, share("all", 6, SMALL))


def test_checkpoints_of_activations_keep_less_and_processes_more():
    chosen = {
        "budget": {"gpus": 0, "per_device_batch_size": "largest"},
        "training": {"activation_checkpointing": False},
        "seq_len": 100,
    }
    shape = Shape(d_model=10, encoder_ffn=40, decoder_ffn=40, vocabulary=0)
    plain = rule.work_of(chosen, shape)
    assert plain.size == 8 * 100 * 10**2 and plain.processes == 1
    kept = 4 * 800 * 12 * (12 * 10 + 2 * 40) + 16 * shape.parameters
    assert plain.least_gib == pytest.approx(0.16 + 0.4 + kept / 2**30)
    less = rule.work_of(chosen | {"training": {"activation_checkpointing": True}}, shape)
    assert less.least_gib < plain.least_gib
    both = rule.work_of({**chosen, "budget": {**chosen["budget"], "processes": 2}}, shape)
    assert both.least_gib == pytest.approx(2 * plain.least_gib - 0.16), "one job around both"
    assert both.size == plain.size


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("text", "gib"), [("max\n", None), (f"{2**30}\n", 1.0), (None, None)])
def test_a_container_s_limit_is_its_memory(tmp_path, monkeypatch, version, text, gib):
    limits = [tmp_path / "memory.max", tmp_path / "limit_in_bytes"]
    monkeypatch.setattr(rule, "MEMORY_LIMITS", limits)
    limit, whole = limits[version], rule.machine_memory_gib()
    if text:
        limit.write_text(text)
    assert rule.machine_memory_gib() == (gib or whole) and whole > 1


def test_the_parameters_of_a_shape_are_nearly_those_of_the_model():
    # LED-base: 162 million, of which its 16,384 positions and BART's are 13.
    base = Shape(768, 6, 6, 3072, 3072, 50265)
    assert base.parameters == pytest.approx(162e6, rel=0.2)


def test_the_measurement_knows_the_work_that_the_rule_goes_by():
    demo, wide = (cells_at_once.MODELS[name] for name in ("led_tiny", "d256"))
    for sizes in (demo, wide):
        shape = shape_of("led", sizes.config)
        chosen = {
            "budget": {"gpus": 0, "per_device_batch_size": sizes.examples},
            "training": {"activation_checkpointing": False},
            "seq_len": sizes.length,
        }
        assert rule.work_of(chosen, shape).size == sizes.work
    assert demo.work < wide.work <= rule.SMALL_WORK
    assert cells_at_once.shares(6) == [1, 2, 3, 6]


@pytest.mark.parametrize(
    ("small", "large", "met"), [(1.2, 1.1, True), (0.9, 1.1, False), (1.2, 0.9, False)]
)
def test_the_rule_is_right_if_it_chose_the_faster_way_of_each_model(small, large, met):
    found = {}
    for model, ratio in (("led_tiny", small), ("d256", large)):
        found[model, "quiet", 1] = [[10.0], [20.0], [5.0]]
        found[model, "quiet", 2] = [[6 * ratio, 4 * ratio], [10 * ratio] * 2, [50.0, 50.0]]
        found[model, "busy", 1] = found[model, "busy", 2] = [[1.0]]
    assert cells_at_once.met(found, 2) is met
    table = cells_at_once.report(found, 2)
    row = f"| led_tiny | 3.4e+07 | quiet | 2 x 1 | {1 / (20 * small):.4f} | {small:.3f} | 1.000 |"
    assert row in table
    assert "| d256 | 5.4e+08 | busy | 1 x 2 | 1.0000 | 1.000 | 1.000 |" in table
