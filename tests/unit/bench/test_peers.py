"""What `bench.peers` counts, and that both trainers do the same work."""

import math
import mmap
from dataclasses import replace

import pytest
import torch
from bench import peer_cases, peers
from bench.peer_cases import CASES, WARM_UP_STEPS


def arm(seconds: float = 1.0, peak: int = 100, losses=(2.0, 1.0)) -> dict:
    return {"cpu_s": seconds, "wall_s": 9 * seconds, "peak_bytes": peak, "losses": list(losses)}


def pair(ours: dict, theirs: dict | None = None) -> dict:
    return {"longwatt": ours, "trainer": theirs or arm()}


def test_a_ratio_is_the_median_over_pairs_of_longwatts_value():
    pairs = [pair(arm(seconds)) for seconds in (1.5, 0.5, 0.75)]
    assert peers.ratios(pairs, "cpu_s") == {"ratio": 0.75, "least": 0.5, "most": 1.5}


def test_losses_are_compared_step_by_step_in_every_pair():
    pairs = [pair(arm()), pair(arm(losses=(2.0, 1.25)))]
    assert peers.loss_difference(pairs) == 0.25
    with pytest.raises(RuntimeError, match="size"):
        peers.loss_difference([pair(arm(losses=(2.0, 1.0, 1.0)))])


@pytest.mark.parametrize(
    ("case", "ours", "missed"),
    [
        ("led_demo", arm(1.034, 100), []),
        ("led_demo", arm(1.04, 100), ["time"]),
        ("led_demo", arm(1.0, 102), ["memory"]),
        ("led_demo", arm(losses=(2.0, 1.0001)), ["losses"]),
        ("led_demo_fast", arm(losses=(2.0, 1.0001)), []),
        ("led_demo_fast", arm(losses=(2.0, 1.01)), ["losses"]),
        ("causal_lora", arm(losses=(2.0, math.nan)), ["losses"]),
    ],
)
def test_each_target_that_is_missed_is_named(case, ours, missed):
    row = peers.judged(case, [pair(ours)], pair(ours), "cpu_s")
    assert row["missed"] == missed
    said = peers.describe(row)
    assert ("met" in said) == (not missed) and all(part in said for part in missed)
    assert said.count("|") == len(peers.HEAD) + 1


def test_memory_is_that_of_its_own_pair_and_a_gpu_counts_wall_seconds():
    row = peers.judged("led_demo", [pair(arm(peak=900))], pair(arm(peak=90)), "wall_s")
    assert row["memory"] == 0.9 and row["missed"] == []
    assert "9000.0 / 9000.0" in peers.describe(row)


def test_trainers_take_turns_to_be_first_and_memory_is_measured_apart(monkeypatch):
    done = []

    def note(name, folder, given, arm=None, more=None):
        done.append((arm, more is peers.GIVE_BACK))
        return {"arm": arm}

    monkeypatch.setattr(peers, "run_apart", note)
    pairs, memory = peers.measured("led_demo", peers.arguments(["led_demo", "--repeats", "2"]))
    order = ["longwatt", "trainer", "trainer", "longwatt"]
    assert done[:5] == [(None, False), *((one, False) for one in order)]
    assert done[5:] == [("longwatt", True), ("trainer", True)]
    assert len(pairs) == 2 and pairs[1]["trainer"] == memory["trainer"] == {"arm": "trainer"}


@pytest.mark.parametrize(("apart", "status"), [(1.0, 0), (1.5, 1)])
def test_the_exit_status_says_whether_targets_were_met(
    monkeypatch, tmp_path, capsys, apart, status
):
    one = pair(arm(losses=(2.0, apart)))
    monkeypatch.setattr(peers, "measured", lambda name, given: ([one], one))
    words = ["early_exit", "--json", str(tmp_path / "found.json")]
    assert peers.main(words) == status
    assert "early_exit" in capsys.readouterr().out and (tmp_path / "found.json").exists()


def test_an_unknown_case_is_refused(capsys):
    with pytest.raises(SystemExit):
        peers.arguments(["led_deom"])
    assert "there is no case 'led_deom'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["led_demo", "early_exit", pytest.param("causal_lora", marks=pytest.mark.long)]
)
def test_both_trainers_start_from_the_same_and_lose_the_same(name, tmp_path):
    case = replace(CASES[name], steps=1)
    peer_cases.prepare(case, tmp_path, {})
    found = {one: peers.measure_arm(one, case, tmp_path) for one in peers.ARMS}
    ours, theirs = found["longwatt"]["losses"], found["trainer"]["losses"]
    # The one that is timed, those before it, and one after it.
    assert len(ours) == WARM_UP_STEPS + 2 and len(set(ours)) == len(ours)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert all(one["cpu_s"] > 0 for one in found.values())


def test_the_peak_of_memory_is_what_was_taken_since_it_was_forgotten():
    # An allocator may hand out memory that it had before, which nobody sees: pages of the kernel's
    # own are always new.
    held = peers.memory_held()
    peers.forget_peak(torch.device("cpu"))
    with mmap.mmap(-1, 64 * peers.MIB) as taken:
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
    assert 0.8 < peers.peak_beyond(torch.device("cpu"), held) / (64 * peers.MIB) < 1.3


def test_the_other_trainer_is_the_librarys_own_with_its_defaults(tmp_path):
    case = replace(CASES["led_demo"], steps=1)
    peer_cases.prepare(case, tmp_path, {})
    trainer = peer_cases.plain_trainer(case, peer_cases.read_spec(tmp_path), tmp_path)
    assert type(trainer).__module__ == "transformers.trainer"
    assert type(trainer.model).forward is trainer.model.forward.__func__
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["global_attention_mask"].sum(1).tolist() == [1] * 32
    assert torch.equal(batch["attention_mask"].sum(1).max(), torch.tensor(256))
    other = peer_cases.longwatt_trainer(peer_cases.read_spec(tmp_path))
    held = trainer.model.state_dict()
    ours = other.model.state_dict()
    assert all(torch.equal(held[weight], ours[weight]) for weight in ours)
