"""Documents are drawn whole, and all scores of the same examples see the same draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatt.metrics.classification import MACRO_F1, classify_examples, labels_sample
from longwatt.metrics.document_samples import (
    DocumentSample,
    documents_of,
    drawn_alike,
    paired_draws,
    part_of,
    with_documents,
)
from longwatt.metrics.resampling import BOOTSTRAP, WILSON, Resampling, Sample, Scores
from longwatt.metrics.score_intervals import over_examples, paired_difference

HOW = Resampling(resamples=200)


def sample(values, documents=None, ids=None) -> Sample:
    names = ids or [f"e{n:03}" for n in range(len(values))]
    own = Sample.of(names, np.asarray(values, float)[:, None])
    return with_documents(own, documents and dict(zip(names, documents, strict=True)))


def scores(values, documents=None, ids=None) -> Scores:
    return Scores([sample(values, documents, ids)], HOW)


def test_examples_of_documents_of_their_own_are_drawn_as_ever():
    plain = sample([1, 2, 3])
    assert with_documents(plain, None) is plain and with_documents(plain, {}) is plain
    own = sample([1, 2, 3], ["x", "y", "z"])
    assert documents_of(own) is None and np.array_equal(own.draws(50, 0), plain.draws(50, 0))


def test_documents_that_repeat_their_examples_say_no_more_than_one_would():
    source = np.random.default_rng(0)
    values = source.uniform(0, 90, 40)
    three, documents = np.repeat(values, 3), [f"d{n // 3}" for n in range(120)]
    assert np.allclose(sample(three, documents).draws(100, 3), sample(values).draws(100, 3))
    apart, together = over_examples(scores(three)), over_examples(scores(three, documents))
    alone = over_examples(scores(values))
    assert together.ends == pytest.approx(alone.ends) and together.method == (
        "percentile bootstrap over 40 documents"
    )
    assert apart.high - apart.low < 0.65 * (alone.high - alone.low)


def test_a_proportion_of_answers_on_shared_documents_is_no_proportion():
    right = np.repeat([0.0, 100.0, 100.0, 0.0] * 5, 4)
    documents = [n // 4 for n in range(80)]
    assert over_examples(scores(right)).method == WILSON
    found = over_examples(scores(right, documents))
    assert found.method == BOOTSTRAP.replace("examples", "20 documents")
    assert found.high - found.low > 1.5 * (over_examples(scores(right)).high - 50)


def test_documents_that_are_nearly_all_alike_leave_as_much_open_as_their_number_does():
    documents = [n // 4 for n in range(80)]
    right = scores([100.0] * 80, documents)
    low, high, _ = over_examples(right)
    assert high == 100 and low == pytest.approx(100 * 20 / 23.8415, abs=1e-2)  # Wilson's of 0 of 20
    found = paired_difference(right, scores([99.0] * 80, documents), same_seeds=True)
    assert found.low < -14 and found.high > 14


def test_one_document_says_little_of_others_and_says_so():
    """Wilson's interval of 0 documents of 1 that are unlike it reaches to 79 %."""
    values = np.linspace(0, 60, 30)
    found, plain = over_examples(scores(values, ["d"] * 30)), over_examples(scores(values))
    assert found.high - found.low > 79 > 14 > plain.high - plain.low
    assert "of one document, so that nothing is known of others" in found.method


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=25), st.integers(0, 9), st.data())
def test_order_and_names_of_documents_do_not_matter(documents, seed, data):
    ids = [f"e{n:03}" for n in range(len(documents))]
    values = np.arange(len(ids)) * 1.5
    order = data.draw(st.permutations(range(len(ids))))
    one = sample(values, documents, ids)
    turned = [list(part) for part in ([f"x{documents[n]}" for n in order], [ids[n] for n in order])]
    other = sample(values[order], *turned)
    assert documents_of(one) == documents_of(other)
    assert np.allclose(one.draws(20, seed), other.draws(20, seed))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=25), st.floats(-5, 5))
def test_all_points_see_the_same_draws(documents, gain):
    """What is a constant apart on every example is so in every resample."""
    values = np.linspace(20, 70, len(documents)) + np.sin(range(len(documents)))
    many = [scores(values + gain * n, documents) for n in range(3)]
    drawn = paired_draws(many)
    assert drawn.shape == (200, 3)
    assert np.allclose(drawn - drawn[:, :1], gain * np.arange(3))


def test_scores_without_recorded_documents_take_the_other_s():
    values, documents = np.linspace(0, 60, 12), [n // 3 for n in range(12)]
    old, new = scores(values), scores(values, documents)
    for both in ([old, new], [new, old]):
        alike = drawn_alike(both)
        assert [documents_of(one.samples[0]) for one in alike] == [tuple(documents)] * 2
        drawn = paired_draws(both)
        assert np.array_equal(drawn[:, 0], drawn[:, 1])
    coarse = scores(values, [n // 6 for n in range(12)])
    assert documents_of(drawn_alike([new, coarse])[0].samples[0]) == tuple(
        n // 6 for n in range(12)
    )
    with pytest.raises(ValueError, match="same examples"):
        paired_draws([old, scores(values, ids=[f"x{n}" for n in range(12)])])


def test_a_part_of_the_examples_keeps_their_documents():
    whole = sample(range(8), [0, 0, 1, 1, 2, 2, 3, 3])
    part = part_of(whole, ["e005", "e001", "e000"])
    assert part.ids == ("e000", "e001", "e005") and part.value == 2
    assert isinstance(part, DocumentSample) and part.documents == (0, 0, 1)
    single = part_of(whole, ["e000", "e002"])
    assert documents_of(single) is None and single.ids == ("e000", "e002")


def test_a_part_of_labels_is_scored_by_classes():
    gold = {f"e{n:03}": "ab"[n % 2] for n in range(20)}
    said = {id_: "a" for id_ in gold}
    whole = labels_sample(classify_examples(said, gold), MACRO_F1)
    ids = list(gold)[:5]
    wanted = classify_examples({i: said[i] for i in ids}, {i: gold[i] for i in ids})
    assert part_of(whole, ids).value == pytest.approx(labels_sample(wanted, MACRO_F1).value)
