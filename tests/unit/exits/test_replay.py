"""Exit rules from recorded logits: where each example leaves, and the curve over thresholds."""

import numpy as np
import pytest

from longwatt.exits.logits import ExitsError, read_logits
from longwatt.exits.replay import answers, curve, leave, rule_of, softmax
from tests.exit_results import answer, write_study

RULES = [
    None, {"oracle": True}, *({"threshold": t} for t in (0.01, 0.5, 0.7, 0.9, 0.99, 1.0)),
    *({"patience": k} for k in (1, 2, 3, 4, 9)),
]  # fmt: skip
LAYERS = [0, 2, 4, 11]


def made_up(exits: int = 4, examples: int = 400, classes: int = 3, seed: int = 0):
    source = np.random.default_rng(seed)
    gold = source.integers(0, classes, examples)
    signal = np.linspace(0.5, 3, exits)[:, None, None] * np.eye(classes)[gold]
    logits = (2 * (signal + source.normal(size=(exits, examples, classes)))).astype(np.float32)
    return logits, [2.1, 1.7, 1.2, 0.9][:exits], gold


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("exits", "classes"), [(4, 3), (4, 2), (1, 3)])
def test_every_rule_is_that_of_one_example_at_a_time(rule, exits, classes):
    logits, temperatures, gold = made_up(exits, classes=classes)
    taken, predicted, confidence = leave(logits, temperatures, rule, gold)
    for place, label in enumerate(gold):
        expected = answer(logits[:, place], temperatures, rule, int(label))
        assert (taken[place], predicted[place]) == expected[:2]
        assert confidence[place] == pytest.approx(expected[2], abs=1e-6)


def test_the_threshold_counts_as_reached_when_equal():
    logits = np.log(np.array([[[0.75, 0.25]], [[0.5, 0.5]]], np.float32))
    reached = softmax(logits, [1, 1])[0, 0].max()
    taken = [
        leave(logits, [1, 1], {"threshold": float(t)}, np.array([0]))[0][0]
        for t in (reached, reached + 1e-6)
    ]
    assert taken == [0, 1]


def test_a_confidence_that_rounds_to_1_does_not_reach_1():
    logits = np.array([[[900, 0]], [[2, 0]], [[0, 1]]], np.float32)
    assert answers(logits, [1, 1, 1])[1][0, 0] == 1
    found = [
        leave(logits, [1, 1, 1], {"threshold": t}, np.array([0]))[0][0] for t in (0.999999, 1.0)
    ]
    assert found == [0, 2]


def test_probabilities_are_torch_s():
    torch = pytest.importorskip("torch")
    logits, temperatures, _ = made_up(examples=2000)
    scaled = torch.tensor(logits) / torch.tensor(temperatures)[:, None, None]
    expected = torch.softmax(scaled, dim=-1).numpy()
    found = softmax(logits, temperatures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-7)
    for threshold in (0.5, 0.7, 0.9):
        unequal = (found.max(axis=-1) >= np.float32(threshold)) != (
            expected.max(axis=-1) >= np.float32(threshold)
        )
        assert unequal.mean() < 1e-3, "but for rounding"


def test_the_curve_holds_every_rule_and_agrees_with_leaving(tmp_path):
    cell = write_study(tmp_path)[0]["cell"]
    recorded = read_logits(tmp_path / cell / "exits/logits.jsonl")["test"]
    temperatures = [2.0, 2.0, 1.5, 1.5]
    rows = list(curve(recorded, temperatures, LAYERS, ["negative", "neutral", "positive"]))
    rules = ["threshold"] * 101 + ["patience"] * 4 + ["oracle", "last"]
    assert [row["rule"] for row in rows] == rules
    for row in rows:
        own = {row["rule"]: True if row["value"] is None else row["value"]}
        rule = None if row["rule"] == "last" else own
        taken, predicted, _ = leave(recorded.logits, temperatures, rule, recorded.gold)
        assert row["accuracy"] == pytest.approx(100 * (predicted == recorded.gold).mean())
        assert row["mean_layers"] == pytest.approx(np.mean([LAYERS[exit_] + 1 for exit_ in taken]))
        assert sum(row["exits_taken"]) == pytest.approx(1)
    thresholds = [row["mean_layers"] for row in rows[:101]]
    assert thresholds == sorted(thresholds) and thresholds[0] == 1, (
        "a higher threshold never leaves earlier"
    )
    oracle, last = rows[-2], rows[-1]
    assert oracle["accuracy"] == max(row["accuracy"] for row in rows)
    assert (last["mean_layers"], last["exits_taken"]) == (12, [0, 0, 0, 1])


def test_rules_have_names():
    rules = [None, {}, {"threshold": 1}, {"patience": 2}, {"oracle": True}]
    assert [rule_of(rule) for rule in rules] == [
        ("last", None), ("last", None), ("threshold", 1), ("patience", 2), ("oracle", None),
    ]  # fmt: skip


def test_other_numbers_of_temperatures_are_refused():
    logits, _, _ = made_up()
    with pytest.raises(ExitsError, match="temperatures has 3 numbers, but there are 4 exits"):
        answers(logits, [1, 1, 1])
