"""What is asked of a model, how it is scored and how long texts are, from rows alone."""

import pytest

from longwatt.first_study.fields import Asked, guess_fields
from longwatt.first_study.texts_seen import at_share, estimated_tokens, look_at_rows

LONG = "The river rose in the night and the town was asleep. "


def seen(rows, task=None, metric=None, count=None):
    return look_at_rows(rows, guess_fields(rows, Asked()), task, metric, count)


def labelled(labels, count=30):
    return [{"text": f"{LONG}{n}", "label": labels[n % len(labels)]} for n in range(count)]


@pytest.mark.parametrize("labels", [["good", "bad"], [0, 1, 2], [True, False], [1.0, 2.0]])
def test_few_values_that_come_again_are_labels(labels):
    found = seen(labelled(labels))
    assert (found.task, found.metric) == ("classification", "accuracy")
    assert len(found.labels) == len(labels) and sum(found.labels.values()) == 30


def test_rare_labels_make_each_class_count_alike():
    rows = labelled(["a"], 27) + labelled(["b"], 3)
    assert seen(rows).metric == "macro_f1"


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": f"{LONG}{n}", "label": f"label {n}"} for n in range(30)],  # each its own
        [{"text": LONG, "label": "a"}] * 30,  # one alone tells nothing apart
        labelled([LONG, LONG * 2]),  # whole sentences
        [{**row, "question": f"Who is {n}?"} for n, row in enumerate(labelled(["a", "b"]))],
        labelled(["a", "b"], 4),  # too few to tell
    ],
)
def test_all_else_is_text(rows):
    assert seen(rows).task == "text"


@pytest.mark.parametrize(
    ("output", "metric"),
    [
        ("Anna came", "f1"),
        ("Anna", "f1"),
        (LONG * 3, "rouge"),
        ("安娜来了", "f1_unicode"),
        ("Анна пришла вчера " * 10, "rouge_unicode"),
        ("Die Äpfel fielen früh vom Baum und lagen dort. " * 3, "rouge_unicode"),
        (["Anna", "Ann"], "f1"),
        (17, "f1"),
    ],
)
def test_the_metric_follows_length_and_script(output, metric):
    rows = [{"text": f"{LONG}{n}", "answer": output} for n in range(5)]
    found = seen(rows, task="text")
    assert found.metric == metric
    assert metric.split("_")[0] in found.metric_reason or "words" in found.metric_reason


def test_several_references_and_numbers_are_counted():
    several = seen([{"text": LONG, "answers": ["a", "b"]}] * 3)
    assert several.several == 3 and not several.odd_outputs
    assert seen([{"text": LONG, "answer": 7}] * 3, task="text").odd_outputs


def test_rows_without_texts_give_nothing():
    rows = [{"text": "", "answer": None}, {"text": LONG, "answer": ""}]
    fields = guess_fields([{"text": LONG, "answer": "a"}], Asked())
    assert look_at_rows(rows, fields, None, None, None) is None


def test_lengths_are_estimated_and_say_so_unless_a_tokenizer_counts():
    rows = [{"text": "one two three four five", "answer": "six"}] * 3
    assert seen(rows).input_tokens == [7, 7, 7]
    assert seen(rows).counted_by.startswith("estimated: 1.4")
    counted = seen(rows, count=len)
    assert counted.input_tokens == [23, 23, 23] and "tokenizer" in counted.counted_by


def test_texts_without_spaces_are_counted_by_their_characters():
    assert estimated_tokens("洪" * 100) >= 100
    assert estimated_tokens("a" * 400) >= 100
    assert estimated_tokens("") == 1


def test_a_share_of_sizes_is_held_whole():
    assert at_share(list(range(1, 101)), 0.95) == 95
    assert at_share([7], 0.5) == 7
