"""Threads sleep while they wait, unless the user decided, and the effect is measured."""

import pytest
from bench import threads

from longwatt.jobs.waiting import DECIDED_BY, described, thread_environment


def test_threads_sleep_unless_the_user_decided():
    assert thread_environment({"OMP_NUM_THREADS": "2"}) == {"GOMP_SPINCOUNT": "10000"}
    assert not any(thread_environment({name: "x"}) for name in DECIDED_BY)


def test_how_threads_wait_is_told_by_what_decides_it():
    assert described({"OMP_NUM_THREADS": "2"}) == "default"
    both = {"GOMP_SPINCOUNT": "10000", "OMP_WAIT_POLICY": "ACTIVE"}
    assert described(both) == "OMP_WAIT_POLICY=active GOMP_SPINCOUNT=10000"


def test_every_job_inherits_it_from_the_workflow(root):
    text = (root / "workflow/rules/common.smk").read_text()
    assert "os.environ.update(waiting.thread_environment(os.environ))" in text


def test_a_measurement_has_the_policy_that_it_is_to_have(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    for policy, decided in (
        ("DEFAULT", {}),
        ("PASSIVE", {"OMP_WAIT_POLICY": "PASSIVE"}),
        ("SPIN=1000", {"GOMP_SPINCOUNT": "1000"}),
    ):
        found = threads.environment(policy, 2).items()
        assert {name: value for name, value in found if name in DECIDED_BY} == decided
    assert threads.environment("DEFAULT", 2)["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("quiet", "busy", "met"), [(0.98, 3.0, True), (0.96, 3.0, False), (1.0, 0.9, False)]
)
def test_the_target_is_of_the_median_ratio_within_rounds(quiet, busy, met):
    found = {
        ("quiet", "DEFAULT"): [10.0, 20.0, 5.0],
        ("quiet", threads.OURS): [10.0 * quiet, 20.0 * quiet, 50.0],
        ("busy", "DEFAULT"): [1.0, 1.0, 1.0],
        ("busy", threads.OURS): [busy, busy, busy],
    }
    assert threads.met(found) is met
    assert f"| quiet | {threads.OURS} | {20 * quiet:.3f} |" in threads.report(found, 2)
