"""Numbers of an energy log: sums, sources, waste, and the problems of a log that is not whole."""

import gzip
import json
import math
import subprocess
import sys

import pytest

from longwatt.energy.log import LogError, publish
from longwatt.energy.reduction.reduce import power_over_time, summarize_log
from longwatt.energy.reduction.segments import read_log
from tests.energy_logs import end, header, mark, ns, samples, write
from tests.nvml import uuid


@pytest.fixture
def log(tmp_path):
    def make(*lines, tail="", name="energy.jsonl"):
        return write(tmp_path / name, *lines, tail=tail)

    return make


@pytest.fixture
def reduced(log):
    return lambda *lines, watts=None: summarize_log([log(*lines)], watts)


def marks(*marked, number=None, **more):
    """Marks of an attempt (or of none): second, phase and, if it has one, step."""
    told = {} if number is None else {"attempt": number}
    return [
        mark(t, phase, **told, **({"step": s[0]} if s else {}), **more) for t, phase, *s in marked
    ]


def test_phases_of_a_steady_gpu_add_up_by_counter_and_by_integral(reduced):
    found = reduced(
        header(), samples(0, 60, 300, util_pct=80, memory_mib=2048, throttle=4), end(60),
        marks((0, "idle_before"), (10, "train"), (40, "validation"), (50, "idle_after")),
    )  # fmt: skip
    assert (found["energy_source"], found["measured"]) == ("nvml_counter", True)
    assert found["problems"] == []
    assert found["energy_j"] == pytest.approx(12_000) and found["duration_s"] == 40
    assert {name: round(p["energy_j"]) for name, p in found["phases"].items()} == {
        "idle_before": 3000, "train": 9000, "validation": 3000, "idle_after": 3000,
    }  # fmt: skip
    assert found["energy_kwh"] == pytest.approx(12_000 / 3.6e6)
    assert found["energy_kwh"] == pytest.approx(found["energy_kwh_paper"])
    assert found["crosscheck_pct"] == pytest.approx(0, abs=0.01) and found["flags"] == []
    assert (found["mean_gpu_utilization_pct"], found["peak_gpu_memory_gib"]) == (80, 2)
    assert (found["throttled_pct"], found["throttle_reasons_pct"]) == (100, {"power_cap": 100})
    assert found["idle_power_w"] == 300 and found["net_energy_j"] == pytest.approx(0, abs=1)


def test_net_energy_is_above_the_lower_of_both_idle_powers(reduced):
    def watts(t):
        return 70 if t < 10 else 350 if t < 30 else 60

    marked = marks((0, "idle_before"), (10, "train"), (30, "idle_after"))
    found = reduced(header(), samples(0, 40, watts), marked, end(40))
    assert found["idle_power_w"] == 60
    assert found["net_energy_j"] == pytest.approx((350 - 60) * 20, rel=0.02)


@pytest.mark.parametrize(
    "before_s, after_s, idle_w", [(2.2, 2, 50), (1.2, 2, 60), (0, 2, 60), (2.2, 0, 50)]
)
def test_idle_power_comes_from_stretches_that_are_long_enough(reduced, before_s, after_s, idle_w):
    def watts(t):
        return 50 if t < before_s else 350 if t <= before_s + 20 else 60

    stop = before_s + 20 + after_s
    marked = marks((0, "idle_before"), (before_s, "train"), (before_s + 20, "idle_after"))
    found = reduced(header(), samples(0, stop, watts), marked, end(stop))
    assert found["idle_power_w"] == idle_w
    assert found["net_energy_j"] == pytest.approx((350 - idle_w) * 20, rel=0.02)


def test_without_idle_that_is_long_enough_net_energy_is_unknown(reduced):
    marked = marks((0, "idle_before"), (1.2, "train"), (21.2, "idle_after"))
    found = reduced(header(), samples(0, 22.2, 300), marked, end(22.2))
    assert found["energy_j"] == pytest.approx(6000) and found["flags"] == []
    assert (found["idle_power_w"], found["net_energy_j"], found["net_energy_kwh"]) == (None,) * 3


def test_a_row_per_gpu_and_their_sum(reduced):
    lines = samples(0, 20, 100, gpus=3, util_pct=50)
    found = reduced(header(gpus=3), lines, mark(0, "train"), end(20))
    assert list(found["gpus"]) == [uuid(n) for n in range(3)]
    assert [g["energy_j"] for g in found["gpus"].values()] == pytest.approx([2000] * 3)
    assert found["energy_j"] == pytest.approx(6000) and found["mean_power_w"] == pytest.approx(300)
    assert found["mean_gpu_utilization_pct"] == 50
    assert found["gpus"][uuid(1)]["phases"]["train"]["energy_j"] == pytest.approx(2000)


def test_one_gpu_of_several_unknown_leaves_the_sum_unknown(reduced):
    lines = samples(0, 20, 100, gpus=2)
    for line in lines:
        line["instant_mw"][1] = None
        if "counter_mj" in line:
            line["counter_mj"][1] = None
    found = reduced(header(gpus=2), lines, mark(0, "train"), end(20))
    assert (found["energy_j"], found["energy_source"], found["measured"]) == (None, "none", False)
    assert found["gpus"][uuid(0)]["energy_j"] == pytest.approx(2000)
    assert found["gpus"][uuid(1)]["energy_j"] is None


def test_without_a_counter_the_integral_is_the_source(reduced):
    found = reduced(header(), samples(0, 20, 100, counter=False), mark(0, "train"), end(20))
    assert (found["energy_source"], found["measured"]) == ("nvml_power_integral", True)
    assert found["energy_j"] == pytest.approx(2000) and found["crosscheck_pct"] is None


def test_without_power_samples_the_counter_at_the_marks_is_enough(reduced):
    marked = [
        mark(t, phase, counter_mj={uuid(0): mj})
        for t, phase, mj in ((0, "train", 0), (30, "validation", 5e6), (50, "idle_after", 6e6))
    ]
    found = reduced(header(), marked, end(50))
    assert (found["energy_j"], found["energy_source"]) == (6000, "nvml_counter")
    assert found["phases"]["validation"]["energy_j"] == 1000
    assert found["energy_j_integral"] is None and "gap" in found["flags"]


def test_nothing_readable_is_na_and_watts_per_core_say_nothing_of_a_gpu(reduced):
    lines = samples(0, 20, 0, counter=False, power=False)
    for second, line in enumerate(lines[::10]):
        line["cpu_s"] = 2.0 * second
    found = reduced(header(), lines, mark(0, "train"), end(20), watts=10.0)
    assert (found["energy_j"], found["energy_kwh"], found["energy_source"]) == (None, None, "none")


def cpu(rapl=None, seconds=21):
    lines = [{"t": ns(t), "cpu_s": 2.0 * t} for t in range(seconds)]
    return [{**line, "rapl_uj": rapl(t)} for t, line in enumerate(lines)] if rapl else lines


def test_a_processor_without_a_meter_is_estimated_only_if_watts_are_declared(log):
    path = log(header(gpus=0), cpu(), mark(5, "train"), end(20))
    assert (
        summarize_log([path])["energy_source"] == "none"
        and summarize_log([path])["energy_j"] is None
    )
    found = summarize_log([path], 10.0)
    assert (found["energy_j"], found["energy_source"]) == (300.0, "estimate")
    assert found["measured"] is False
    assert found["mean_power_w"] == 20.0 and found["phases"]["train"]["energy_source"] == "estimate"


def test_rapl_is_summed_over_zones_and_through_the_wrap_of_a_counter(reduced):
    rapl = {"zones": ["package-0", "package-1"], "ranges_uj": [100_000_000, 10**12], "reason": None}

    def counters(t):
        return [(95_000_000 + 10_000_000 * t) % 100_000_000, 40_000_000 * t]

    found = reduced(header(gpus=0, rapl=rapl), cpu(counters), mark(5, "train"), end(20), watts=10.0)
    assert (found["energy_source"], found["measured"]) == ("rapl", True)
    assert found["energy_j"] == pytest.approx(15 * 50)


@pytest.mark.parametrize("said", [(), {"t": ns(7), "rapl_shared": True}])
@pytest.mark.parametrize("watts", [None, 10.0])
def test_rapl_that_others_shared_is_no_job_s_energy_and_says_so(reduced, said, watts):
    rapl = {"zones": ["package-0"], "ranges_uj": [10**12], "reason": None}
    ended = end(20, rapl_shared=not said)  # said at the end, or at once by a recorder that died
    lines = [*cpu(lambda t: [t * 10**7]), *([said] if said else []), mark(5, "train"), ended]
    found = reduced(header(gpus=0, rapl=rapl), lines, watts=watts)
    assert "other metered jobs ran on this node meanwhile" in found["problems"][0]
    expected = (None, "none") if watts is None else (300.0, "estimate")
    assert (found["energy_j"], found["energy_source"]) == expected and not found["measured"]


def test_a_reset_counter_is_bridged_by_the_integral_and_said(reduced):
    lines = samples(0, 30, 200)
    for line in lines:
        if "counter_mj" in line and line["t"] >= ns(15):
            line["counter_mj"] = [line["counter_mj"][0] - 1_003_000_000]
    found = reduced(header(), lines, mark(0, "train"), end(30))
    assert found["energy_j"] == pytest.approx(6000, rel=0.01) and found["counter_resets"] == 1
    assert found["energy_source"] == "nvml_counter" and found["flags"] == ["counter_reset"]


def test_a_counter_that_stands_still_gives_way_to_the_integral(reduced):
    lines = samples(0, 60, 200)
    later = [line for line in lines if line["t"] >= ns(20) and "counter_mj" in line]
    for line in later:
        line["counter_mj"] = later[0]["counter_mj"]
    found = reduced(header(), lines, mark(0, "train"), end(60))
    assert found["energy_source"] == "nvml_power_integral"
    assert found["energy_j"] == pytest.approx(12_000, rel=0.01)
    assert {"counter_stale", "crosscheck"} <= set(found["flags"])


def test_a_counter_and_an_integral_that_disagree_are_flagged(reduced):
    lines = samples(0, 60, 200)
    for line in lines:
        line["instant_mw"] = [220_000]
    found = reduced(header(), lines, mark(0, "train"), end(60))
    assert found["crosscheck_pct"] == pytest.approx(10) and found["flags"] == ["crosscheck"]
    assert found["energy_j"] == pytest.approx(12_000), "the counter comes first"


def test_a_gap_is_measured_and_too_large_a_one_leaves_no_integral(reduced):
    small = reduced(header(), samples(0, 60, 200, skip=[(20, 22)]), mark(0, "train"), end(60))
    assert small["largest_gap_s"] == pytest.approx(2, abs=0.11)
    assert small["coverage_pct"] == pytest.approx(96.7, abs=0.3)
    assert small["energy_j_integral"] == pytest.approx(12_000, rel=0.001)
    assert small["flags"] == ["gap"]
    large = reduced(header(), samples(0, 60, 200, skip=[(20, 40)]), mark(0, "train"), end(60))
    assert large["energy_j_integral"] is None and large["energy_j"] == pytest.approx(12_000)


def test_short_phases_are_flagged(reduced):
    marked = marks((0, "train"), (10, "validation"))
    found = reduced(header(), samples(0, 14, 200), marked, end(14))
    assert found["phases"]["validation"]["flags"] == ["short"] and found["flags"] == []


def test_work_that_a_crash_threw_away_and_starting_again_are_wasted(log):
    first = [*marks((0, "idle_before"), (1, "load")), *marks(
        (2, "load", 0), (5, "train", 0), (15, "checkpoint", 10), (16, "train", 10),
        (35, "validation", 18), number=1,
    )]  # fmt: skip
    second = [*marks((100, "idle_before"), (127, "idle_after")), *marks(
        (104, "load", 10), (110, "train", 10), (125, "finish", 20), number=2,
    )]  # fmt: skip
    one = log(header(), samples(0, 40, 100), first, name="1.jsonl")
    two = log(header(100), samples(100, 130, 100), second, end(130), name="2.jsonl")
    found = summarize_log([one, two])
    assert found["attempts"] == 2 and found["job_s"] == 70
    assert found["duration_s"] == 10 + 1 + 15 and found["energy_j"] == pytest.approx(2600)
    # Past the checkpoint to the last sign of life, and the second attempt's idle and load.
    assert found["wasted"]["duration_s"] == pytest.approx(24 + 10)
    assert found["wasted"]["energy_j"] == pytest.approx(3400, rel=0.01)
    assert found["phases"]["train"]["energy_j"] == pytest.approx(2500)
    assert any("segment 1 has no end" in problem for problem in found["problems"])
    assert sum(i["end_s"] - i["start_s"] for i in found["timeline"]) == pytest.approx(70)


def test_an_inference_that_was_killed_is_wasted_whole(log):
    first = marks((0, "load", 0), (5, "generate", 0), number=1)
    second = marks((50, "load", 0), (52, "generate", 0), (70, "finish", 7), number=2)
    one = log(header(), samples(0, 20, 100), first, name="1.jsonl")
    two = log(header(50), samples(50, 70, 100), second, end(70), name="2.jsonl")
    found = summarize_log([one, two])
    assert (found["duration_s"], found["wasted"]["duration_s"]) == (18, 15 + 2)


def test_an_attempt_that_fell_back_further_throws_away_more(reduced):
    first = marks(
        (0, "load", 0), (1, "train", 0), (10, "checkpoint", 10), (11, "train", 10),
        (20, "checkpoint", 20), (21, "train", 20), number=1,
    )  # fmt: skip
    second = marks((100, "load", 20), number=2)
    third = marks((200, "load", 10), (201, "train", 10), (211, "finish", 20), number=3)
    found = reduced(header(), first, header(100), second, header(200), third, end(211))
    assert found["duration_s"] == 9 + 1 + 10


def test_a_job_that_went_on_with_another_gpu_is_one_job(log):
    def run(start, gpu, number, step, watts):
        lines = marks(
            (start, "idle_before", 0), (start + 5, "load", step), (start + 6, "train", step),
            (start + 26, "checkpoint", step + 10), (start + 27, "finish", step + 10), number=number,
        )  # fmt: skip
        lines += samples(start, start + 28, lambda t: 50 if t < start + 5 else watts)
        given = (header(start, gpus=[uuid(gpu)]), lines, end(start + 28))
        return log(*given, name=f"{number}.jsonl")

    found = summarize_log([run(0, 0, 1, 0, 100), run(100, 5, 2, 10, 300)])
    assert found["duration_s"] == 42 and found["energy_j"] == pytest.approx(21 * 400)
    assert found["mean_power_w"] == pytest.approx(200) and found["idle_power_w"] == 50
    assert found["net_energy_j"] == pytest.approx(21 * 400 - 42 * 50)
    assert [g["duration_s"] for g in found["gpus"].values()] == [21, 21]
    assert found["gpu_s"] == found["job_s"] == 56, "one GPU at a time"
    # Idle and load of the second run, and what the first did after its last checkpoint.
    assert found["wasted"]["energy_j"] == pytest.approx(5 * 50 + 300 + 100, rel=0.05)


def test_several_runs_into_one_log_are_added(reduced):
    first = [header(), *samples(0, 10, 100), mark(0, "run"), end(10)]
    run = mark(50, "run", boot="boot-b")
    found = reduced(first, header(50, boot="boot-b"), samples(50, 70, 200), run, end(70))
    assert found["energy_j"] == pytest.approx(1000 + 4000) and found["attempts"] == 2
    (problem,) = found["problems"]
    assert problem.startswith("the segments come from 2 boots; times are compared within a segment")
    assert problem.endswith("only, so all of them count")


def test_a_clock_that_is_set_back_changes_nothing(reduced):
    lines = [mark(0, "train", wall_time_s=2e9), mark(15, "idle_after", wall_time_s=1e9), end(20)]
    found = reduced(header(wall_time_s=2e9), samples(0, 20, 100), lines)
    assert found["energy_j"] == pytest.approx(1500)


# Problems of a log: they are said, and the rest still counts.


def test_a_torn_last_line(log):
    path = log(header(), samples(0, 20, 100), mark(0, "train"), tail='{"t":10000')
    found = summarize_log([path])
    torn = "the last line is torn (its writer was killed); all lines before it count"
    assert f"{path}: {torn}" in found["problems"]
    assert found["energy_j"] == pytest.approx(2000)


def test_a_torn_line_within(log, tmp_path):
    path = log(header(), samples(0, 20, 100), mark(0, "train"), end(20))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:50], '{"t": 12\n', *lines[50:]]))
    found = summarize_log([path])
    assert found["problems"] == ["1 lines within the log are torn or damaged, and left out"]
    assert found["energy_j"] == pytest.approx(2000)


def test_marks_of_another_boot(reduced):
    marked = [mark(0, "train"), mark(5, "lies", boot="boot-z")]
    found = reduced(header(), samples(0, 20, 100), marked, end(20))
    assert found["problems"] == ["segment 1: 1 marks were made under another boot and are left out"]
    assert list(found["phases"]) == ["train"] and found["energy_j"] == pytest.approx(2000)


def test_a_segment_without_an_end(reduced):
    found = reduced(header(), samples(0, 20, 100), mark(0, "train"), mark(15, "validation"))
    ended = "segment 1 has no end: its recorder or its machine stopped 20.0 s after it began"
    assert ended in found["problems"][0]
    assert found["phases"]["validation"]["energy_j"] == pytest.approx(500)


def test_marks_out_of_order(log):
    path = log(header(), samples(0, 20, 100), end(20))
    with path.open("a") as stream:
        stream.writelines(json.dumps(one) + "\n" for one in marks((10, "validation"), (0, "train")))
    found = summarize_log([path])
    (problem,) = found["problems"]
    assert problem.startswith("segment 1: marks stand out of order; they are taken in the order of")
    assert found["phases"]["train"]["duration_s"] == 10


def test_overlapping_segments_are_not_counted_twice(log):
    first = [header(), *samples(0, 20, 100), mark(0, "run"), end(20)]
    second = [header(15), *samples(15, 40, 100), mark(15, "run"), end(40)]
    found = summarize_log([log(first, name="a.jsonl"), log(second, name="b.jsonl")])
    (problem,) = found["problems"]
    assert problem.startswith("segments 1 and 2 overlap by 5.0 s on the same meter; that time is ")
    assert problem.endswith("counted once, in segment 2")
    assert found["energy_j"] == pytest.approx(4000) and found["gpu_s"] == 40
    other = [header(15, gpus=[uuid(9)]), *samples(15, 40, 100), mark(15, "run"), end(40)]
    packed = summarize_log([log(first, name="a.jsonl"), log(other, name="c.jsonl")])
    assert packed["problems"] == [], "two runs on two GPUs may run at one time"
    assert [g["energy_j"] for g in packed["gpus"].values()] == pytest.approx([2000, 2500])
    assert packed["energy_j"] == pytest.approx(4500)
    assert packed["mean_power_w"] == pytest.approx(100)


def test_a_dead_run_s_recorder_that_lived_on_takes_nothing_from_the_run_that_made_the_result(log):
    first = marks((0, "load", 0), (2, "train", 0), number=1)
    second = marks((19.5, "load", 0), (25, "train", 0), (60, "finish", 9), number=2)
    one = log(header(), samples(0, 20, 100), first, name="1.jsonl")
    two = log(header(19.5), samples(19.5, 60, 300), second, end(60), name="2.jsonl")
    found = summarize_log([one, two])
    assert found["energy_j"] == pytest.approx(300 * 35)
    assert found["wasted"]["duration_s"] == pytest.approx(17.5 + 5.5)
    assert found["gpu_s"] == pytest.approx(19.5 + 40.5)


def test_estimates_of_two_jobs_on_one_node_are_both_counted(log):
    def run(start):
        lines = [{"t": ns(start + t), "cpu_s": 2.0 * t} for t in range(21)]
        return [header(start, gpus=0), *lines, mark(start, "run"), end(start + 20)]

    found = summarize_log([log(run(0), name="a.jsonl"), log(run(10), name="b.jsonl")], 10.0)
    assert found["energy_j"] == pytest.approx(800) and found["problems"] == []


def test_many_short_windows_are_short_however_long_together(reduced):
    marked = [mark(t, "checkpoint" if t % 3 == 2 else "train") for t in range(60)]
    found = reduced(header(), samples(0, 60, 100), marked, end(60))
    assert found["phases"]["checkpoint"]["duration_s"] == 20
    assert found["phases"]["checkpoint"]["flags"] == ["short"]
    assert found["flags"] == [], "the whole is one window"


@pytest.mark.parametrize("seconds", [7.1, 13.3, 29.9, 33.3, 61.7])
def test_a_log_without_a_gap_is_not_flagged(reduced, seconds):
    found = reduced(header(), samples(0, seconds, 100), mark(0, "train"), end(seconds))
    assert "gap" not in found["flags"]


def test_a_counter_that_was_read_late_is_no_reset(reduced):
    lines = samples(0, 60, 300)
    late = next(line for line in lines if line["t"] >= ns(30) and "counter_mj" in line)
    late["counter_mj"] = [late["counter_mj"][0] + 600_000]  # what it says two seconds later
    found = reduced(header(), lines, mark(0, "train"), mark(45, "validation"), end(60))
    assert found["counter_resets"] == 0 and found["energy_j"] == pytest.approx(18_000)
    assert found["phases"]["train"]["energy_j"] == pytest.approx(13_500)


def test_a_recorder_that_died_between_two_readings_loses_at_most_what_flowed_since(reduced):
    all_lines = samples(0, 20.7, 100)
    lines = [line for line in all_lines if line["t"] <= ns(20) or "counter_mj" not in line]
    found = reduced(header(), lines, mark(0, "train"))
    assert found["energy_source"] == "nvml_counter"
    assert found["energy_j"] == pytest.approx(2050, abs=2)
    bare = [{k: v for k, v in line.items() if k != "instant_mw"} for line in lines]
    found = reduced(header(), bare, mark(0, "train"))
    assert found["energy_source"] == "nvml_counter"
    assert found["energy_j"] == pytest.approx(2000, abs=2)


def test_a_run_without_a_header_is_never_added_to_the_one_before(log, tmp_path):
    first = log(header(), samples(0, 20, 100), mark(0, "run"), end(20), name="1.jsonl")
    second = log(samples(100, 120, 100, gpus=2), mark(100, "run"), end(120), name="2.jsonl")
    publish([first, second], tmp_path / "energy.jsonl.gz", {})
    for paths in ([first, second], [tmp_path / "energy.jsonl.gz"]):
        found = summarize_log(paths)
        assert found["energy_j"] == pytest.approx(2000) and found["attempts"] == 1
        early = "203 lines come before the header of their log and are left out"
        assert found["problems"] == [early]


def test_a_job_of_which_no_log_could_be_written_says_so(tmp_path):
    problem = "no energy log of this job could be written"
    publish([], tmp_path / "energy.jsonl.gz", header(problem=problem))
    found = summarize_log([tmp_path / "energy.jsonl.gz"])
    assert found["energy_source"] == "none"
    assert problem in found["problems"][1]


def test_lines_that_are_json_and_no_lines_of_a_log(log):
    path = log(header(), samples(0, 20, 100), mark(0, "train"), end(20))
    odd = ['{"a":1}', "[1]", "3", '{"t":null}', '{"t":1000000000000,"instant_mw":[1,2,3]}']
    odd.append('{"mark":"x"}')
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:40], *odd, *lines[40:]]) + "\n")
    found = summarize_log([path])
    assert found["energy_j"] == pytest.approx(2000)
    assert found["problems"][0].endswith("lines within the log are torn or damaged, and left out")


def test_no_log_and_no_header(tmp_path):
    with pytest.raises(LogError, match="there is no energy log"):
        summarize_log([tmp_path / "none.jsonl"])
    (tmp_path / "odd.jsonl").write_text('{"t": 1}\nnonsense\n')
    message = "holds no header of an energy log; nothing can be established"
    with pytest.raises(LogError, match=message):
        summarize_log([tmp_path / "odd.jsonl"])


def test_a_damaged_gzip_gives_what_stands_before_the_damage(log, tmp_path):
    lines = samples(0, 600, lambda t: 100 + 10 * math.sin(t))
    whole = log(header(), lines, mark(0, "train"), end(600))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(whole.read_bytes())[:-4000])
    found = summarize_log([tmp_path / "cut.jsonl.gz"])
    assert any("is damaged" in problem for problem in found["problems"])
    assert 0 < found["duration_s"] < 600


def test_parts_and_zipped_parts_are_one_log(log, tmp_path):
    path = log(header(), samples(0, 20, 100), mark(0, "train"), end(20))
    whole = summarize_log([path])
    lines = path.read_text().splitlines(keepends=True)
    (tmp_path / "energy.jsonl.1.gz").write_bytes(gzip.compress("".join(lines[:60]).encode()))
    (tmp_path / "energy.jsonl.2").write_text("".join([lines[0], *lines[60:120]]))
    path.write_text("".join([lines[0], *lines[120:]]))
    assert summarize_log([path]) == whole


def test_the_curve_is_as_long_as_all_runs_together(log):
    lines = [header(), *samples(0, 10, 100), mark(0, "run"), end(10)]
    lines += [header(50), *samples(50, 60, 300), mark(50, "run"), end(60)]
    rows = power_over_time(read_log([log(lines)]).segments, 20)
    assert len(rows) == 20 and rows[0]["mean_w"] == 100 and rows[-1]["mean_w"] == 300
    assert [row["seconds"] for row in rows] == pytest.approx([0.5 + second for second in range(20)])


def test_days_of_samples_are_read_within_memory(tmp_path):
    """A day of eight GPUs at 10 Hz, a tenth of it here, takes below 100 bytes for each sample."""
    path = tmp_path / "day.jsonl"
    with path.open("w") as stream:
        stream.write(json.dumps(header(gpus=8)) + "\n" + json.dumps(mark(0, "train")) + "\n")
        for number in range(86_400):
            line = {"t": ns(number / 10), "instant_mw": [300_000] * 8, "average_mw": [300_000] * 8}
            if number % 10 == 0:
                line |= {"counter_ns": [ns(number / 10)] * 8, "counter_mj": [number * 30_000] * 8}
            stream.write(json.dumps(line) + "\n")
        stream.write(json.dumps(end(8640)) + "\n")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from longwatt.energy.reduction.reduce import summarize_log\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = summarize_log([Path(sys.argv[1])])\n"
        "print(found['energy_j'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    joules, kib = subprocess.check_output([sys.executable, "-c", code, str(path)]).split()
    assert float(joules) == pytest.approx(8 * 300 * 8640, rel=0.001)
    assert int(kib) * 1024 / (86_400 * 8 * 2) < 100


# Inferences whose log says which batches they kept.


Windows = list[tuple[float, float]]


def kept(*parts: tuple[int, int, Windows], processes: int = 1, boot: str = "boot-a") -> dict:
    """A line of kept batches: (attempt, process, windows in seconds)."""
    said = []
    for number, process, windows in parts:
        moments = [[ns(a), ns(b)] for a, b in windows]
        place = {"boot_id": boot, "attempt": number, "process": process}
        said.append({**place, "windows": moments})
    return {"kept": said, "processes": processes, "t": ns(999)}


def batches(start: float, count: int, seconds: float, pause: float) -> Windows:
    starts = [start + n * (seconds + pause) for n in range(count)]
    return [(begin, begin + seconds) for begin in starts]


def generating(load: float, generate: float, finish: float, number: int = 1, step: int = 0) -> list:
    marked = ((load, "load", step), (generate, "generate", step), (finish, "finish"))
    return marks(*marked, number=number)


def test_thousands_of_short_batches_are_billed_at_the_mean_power_of_their_stretch(reduced):
    windows = batches(5, 10_000, 0.001, 0.0005)
    marked = generating(4, 5, 21)
    found = reduced(header(), samples(0, 30, 80), marked, kept((1, 0, windows)), end(30))
    assert found["duration_s"] == pytest.approx(10) and found["energy_j"] == pytest.approx(800)
    assert found["windows"] == 1 and found["flags"] == ["interleaved"]
    assert found["phases"]["between_batches"]["duration_s"] == pytest.approx(6)


def test_a_long_pause_is_nobodys_and_its_power_in_no_batch(reduced):
    power = lambda t: 20.0 if 15 <= t < 25 else 100.0  # noqa: E731
    marked = generating(4, 5, 35)
    windows = [*batches(5, 100, 0.1, 0), *batches(25, 100, 0.1, 0)]
    found = reduced(header(), samples(0, 40, power), marked, kept((1, 0, windows)), end(40))
    assert found["energy_j"] == pytest.approx(2000, rel=0.01) and found["flags"] == []
    assert found["phases"]["between_batches"]["energy_j"] == pytest.approx(200, rel=0.05)


def test_each_gpu_is_billed_for_its_own_process(reduced):
    marked = generating(4, 5, 25)
    line = kept((1, 0, batches(5, 10, 1, 0)), (1, 1, batches(5, 20, 1, 0)), processes=2)
    found = reduced(header(gpus=2), samples(0, 30, 100, gpus=2), marked, line, end(30))
    assert [gpu["duration_s"] for gpu in found["gpus"].values()] == [10, 20]
    assert found["energy_j"] == pytest.approx(3000) and found["duration_s"] == 20
    waited = found["phases"]["between_batches"]["energy_j"]
    assert waited == pytest.approx(1000), "the first waited for the second"


def test_each_process_stands_for_its_share_of_the_processors(reduced):
    marked = generating(4, 5, 25)
    line = kept((1, 0, batches(5, 10, 1, 0)), (1, 1, batches(5, 20, 1, 0)), processes=2)
    found = reduced(header(gpus=0), cpu(seconds=31), marked, line, end(30), watts=10.0)
    assert found["energy_j"] == pytest.approx(20 * 15) and found["duration_s"] == 20


def test_a_recorder_that_was_killed_leaves_what_the_marks_counted(reduced):
    marked = [
        mark(t, phase, attempt=1, step=0, counter_mj={uuid(0): t * 100_000})
        for t, phase in ((1, "load"), *((t, "generate") for t in (5, 15, 25)), (32, "finish"))
    ]
    found = reduced(header(), marked, kept((1, 0, batches(5.01, 269, 0.1, 0))))
    # A reading within 0.1 s of an edge is taken for the edge's.
    assert found["energy_j"] == pytest.approx(2690, abs=20)
    assert found["energy_source"] == "nvml_counter"


def test_batches_of_a_run_whose_log_is_lost_leave_the_energy_unknown(reduced):
    marked = generating(100, 105, 125, number=2, step=3)
    line = kept((1, 0, batches(5, 20, 1, 0)), (2, 0, batches(105, 20, 1, 0)))
    found = reduced(header(100), samples(100, 130, 100), marked, line, end(130))
    assert found["energy_j"] is None and found["energy_source"] == "none" and not found["measured"]
    assert found["duration_s"] == 40
    lost = "20 s of the batches that are kept (50 % of their time) were not metered"
    assert any(lost in problem for problem in found["problems"])


def test_two_inferences_read_together_are_added_and_one_said_twice_is_not(log):
    def run(start: float, name: str, *lines):
        marked = generating(start, start + 5, start + 16)
        given = (samples(start, start + 30, 100), marked, *lines, end(start + 30))
        return log(header(start), *given, name=name)

    line = kept((1, 0, batches(5, 10, 1, 0)))
    first = run(0, "a.jsonl", line, line)
    second = run(100, "b.jsonl", kept((1, 0, batches(105, 6, 1, 0))))
    assert summarize_log([first])["energy_j"] == pytest.approx(1000)
    both = summarize_log([first, second])
    assert both["energy_j"] == pytest.approx(1600) and both["duration_s"] == 16


def test_a_torn_line_of_kept_batches_leaves_the_marks(log):
    lines = [*generating(4, 5, 25), end(30)]
    torn = '{"kept":[{"boot_id":"boot-a","att'
    path = log(header(), samples(0, 30, 100), lines, tail=torn)
    assert summarize_log([path])["energy_j"] == pytest.approx(2000)


def killed_and_resumed(log, gpus: int = 1) -> dict:
    """Reduce the log of an inference that was resumed under a boot whose clock stood earlier."""
    went = marks((4, "load", 0), (5, "generate", 0), number=1)
    resumed = ((6, "load", 10), (8, "generate", 10), (18, "finish", 10))
    on = marks(*resumed, number=2, boot="boot-b")
    first = kept((1, 0, batches(5, 10, 1, 0)))
    second = kept((2, 0, batches(8, 10, 1, 0)), boot="boot-b")
    both = {**second, "kept": [*first["kept"], *second["kept"]]}
    powers = samples(3, 30, 300, gpus=gpus) if gpus else cpu(seconds=31)[3:]
    paths = [
        log(header(), samples(0, 17, 100), went, name="1.jsonl"),
        log(header(3, boot="boot-b", gpus=gpus), powers, on, both, end(30), name="2.jsonl"),
    ]
    return summarize_log(paths, 10.0)


def test_batches_of_two_boots_are_each_billed_by_their_own_log(log):
    found = killed_and_resumed(log)
    assert found["energy_j"] == pytest.approx(10 * 100 + 10 * 300, rel=0.01)
    assert found["duration_s"] == 20
    assert found["wasted"]["duration_s"] == pytest.approx(4) and found["flags"] == []


def test_energy_is_unknown_where_one_of_several_runs_had_no_gpu(log):
    found = killed_and_resumed(log, gpus=0)
    assert (found["energy_j"], found["energy_source"], found["measured"]) == (None, "none", False)
    assert found["duration_s"] == 20 and found["mean_power_w"] is None
