"""What `bench.attention` counts, and that it measures both paths of attention alike."""

import json
import sys

import pytest
import torch
from bench import attention
from bench.attention_cases import CASES, ENCODER, LED, TINY, bigbird_pairs, led_pairs
from torch import nn
from torch.nn.attention.flex_attention import create_mask

from longwatt.models.attention import flex

CPU = torch.device("cpu")


@pytest.mark.parametrize(("length", "reach"), [(40, 8), (9, 8), (8, 8), (5, 8), (1, 8), (130, 1)])
def test_pairs_of_led_are_those_of_its_pattern(length, reach):
    mask = flex.band_mask((length,), reach, CPU)
    seen = create_mask(mask.mask_mod, 1, 1, length, length, device="cpu")[0, 0]
    seen[0] = True  # the global row
    assert led_pairs(length, reach) == int(seen.sum())


@pytest.mark.parametrize("random", [0, 1, 3])
def test_pairs_of_bigbird_are_those_of_its_pattern(random):
    blocks, size = 20, 16
    drawn = torch.zeros(1, blocks - 2, random, dtype=torch.long)
    counts = flex.SparseCounts.of(drawn, size).counts
    assert bigbird_pairs(blocks * size, size, random) == int(counts.sum()) * size**2


def weights(layers, without: tuple[str, ...] = ()) -> int:
    """Numbers in the linear maps of layers."""
    return sum(
        module.weight.numel()
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear) and not any(part in name for part in without)
    )


@pytest.mark.parametrize("name", ["led_tiny", "bigbird_tiny"])
def test_products_of_weights_are_those_of_the_model(name):
    case, model = TINY[name], attention.build(TINY[name])
    encoder, decoder = model.get_encoder(), model.get_decoder()
    documents, tokens = case.batch, case.batch * case.length
    products = tokens * weights(encoder.layers, without=("_global",))
    if case.family == LED:  # one query, one mixed key and one mixed value for each document
        products += documents * 3 * case.width**2
    crossing = weights(decoder.layers, without=("self_attn", "fc", "q_proj", "out_proj"))
    products += tokens * crossing
    products += documents * case.targets * (weights(decoder.layers) - crossing)
    products += documents * case.targets * case.width * case.vocabulary
    own = case.targets * (case.targets + 1) // 2
    pairs = documents * (case.pairs + own + case.targets * case.length)
    # A pair is a product of a head's query and key, and a share of its value.
    assert case.forward_flop == 2 * products + 4 * pairs * case.width
    assert case.flop == 3 * case.forward_flop


def test_an_encoder_takes_no_backward_pass_and_no_random_blocks():
    step, encoder = CASES["bigbird_d256_4096"], CASES["bigbird_d256_4096_encoder"]
    assert encoder.flop == encoder.forward_flop < step.forward_flop
    assert step.pairs - encoder.pairs == 62 * 3 * 64**2


def test_every_shape_fills_its_blocks():
    for name, case in {**CASES, **TINY}.items():
        assert case.length % case.span == 0 or case.length < case.span, name
        assert case.family == LED or case.length > (5 + 2 * case.random) * case.span, name


def test_a_cpu_leaves_published_shapes_to_those_who_ask():
    assert "led_base_published_2048" not in attention.chosen_shapes(attention.arguments([]))
    asked = attention.arguments(["--published"])
    assert attention.chosen_shapes(asked) == list(CASES)
    one = attention.arguments(["--shapes", "led_demo_256"])
    assert attention.chosen_shapes(one) == ["led_demo_256"]


def test_a_ratio_is_the_median_over_pairs():
    seconds = {"stock": [2.0, 9.0, 4.0], "fast": [1.0, 1.0, 1.0]}
    assert attention.pair_ratios(seconds) == {"ratio": 4.0, "least": 2.0, "most": 9.0}


def test_paths_take_turns_and_each_is_first_in_every_other_pair():
    done = []
    arms = {path: lambda path=path: done.append(path) for path in attention.PATHS}
    times = attention.in_turns(arms, 2, CPU)
    assert done == ["fast", "stock", "stock", "fast", "fast", "stock"]
    assert len(times.wall["stock"]) == len(times.cpu["fast"]) == 2


def test_a_difference_is_relative_to_the_whole():
    one, other = [torch.tensor([3.0, 0.0])], [torch.tensor([0.0, 4.0])]
    assert attention.relative(one, other) == pytest.approx(5 / 4)
    assert attention.relative(other, other) == 0


@pytest.mark.parametrize(
    ("name", "precision", "rated"),
    [
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA H100 PCIe", "bf16", None),  # another speed than the board that is listed
        ("", "fp32", None),
    ],
)
def test_an_unknown_device_has_no_rated_speed(name, precision, rated):
    assert attention.rated_speed(name, precision) == rated


@pytest.mark.parametrize("name", sorted(TINY))
def test_both_paths_do_the_same(name):
    found = attention.Work(TINY[name], CPU).differences()
    if "equal_tokens" in found:
        assert found == {"equal_tokens": True}
    else:
        wanted = {"output"} if TINY[name].work == ENCODER else {"loss", "output", "gradient"}
        assert set(found) == {f"{part}_difference" for part in wanted}
        assert max(found.values()) < 1e-5


def test_stock_is_the_librarys_own(monkeypatch):
    work = attention.Work(TINY["led_tiny_generate"], CPU)
    assert work.path.model is work.model
    own, calls = type(work.model).forward, []

    def watched(*args, **kwargs):
        calls.append(1)
        return own(*args, **kwargs)

    monkeypatch.setattr(type(work.model), "forward", watched)
    attached = work.model.forward
    work.do("stock")
    assert len(calls) == TINY["led_tiny_generate"].targets
    assert work.model.forward is attached


def test_a_part_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "longwatt.models.attention.led", None)
    monkeypatch.setattr(attention, "best_square", lambda device, precision: 1e9)
    found = attention.measure_all(["led_tiny"], attention.arguments([]))
    assert found["rows"] == []
    assert "has no longwatt.models.attention.led" in found["left_out"]["led_tiny"]
    assert "left out: led_tiny: longwatt here has no" in attention.report(found)


def test_a_row_says_na_for_what_was_not_measured(capsys, tmp_path):
    words = ["--shapes", "led_tiny_encoder", "--repeats", "1", "--no-memory"]
    attention.main([*words, "--json", str(tmp_path / "found.json")])
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["gflop"] == TINY["led_tiny_encoder"].flop / 1e9
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.count("|") == len(attention.HEAD) + 1
    assert line.count("NA / NA") == 5  # memory and all of energy
    assert row["fast_gflop_per_s"] == pytest.approx(row["gflop"] / row["fast_wall_s"])


def test_energy_without_a_counter_is_na_and_speed_is_not():
    work = attention.Work(TINY["led_tiny_encoder"], CPU)
    facts = {"energy_j": None, "mean_power_w": None, "energy_source": "NA", "duration_s": 4.0}
    found = attention._per_sample("fast", 8, facts, work)
    assert found["fast_joules_per_sample"] is None and found["fast_mfu"] is None
    assert found["fast_samples_per_second"] == 2.0
    known = attention._per_sample("fast", 8, {**facts, "energy_j": 16.0}, work)
    assert known["fast_joules_per_sample"] == 2.0


@pytest.mark.long
def test_memory_is_measured_in_a_process_of_its_own():
    given = attention.arguments(["--shapes", "led_demo_512"])
    peaks = [attention.peak_apart("led_demo_512", path, "fp32", given) for path in attention.PATHS]
    assert 1 < peaks[1] < peaks[0] < 4000
