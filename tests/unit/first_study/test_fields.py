"""Roles of fields, guessed from names and contents as people have them."""

import pytest

from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.fields import Asked, guess_fields, texts_of, turns_of, value_of

LONG = "The river rose in the night and the town was asleep. " * 5


def roles(rows, **asked):
    found = guess_fields(rows, Asked(**asked))
    return found.input, found.output, found.query


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"input": LONG, "output": "b"}, ("input", "output", None)),
        ({"document": LONG, "summary": "It rose."}, ("document", "summary", None)),
        ({"article": LONG, "highlights": "It rose.", "id": "x1"}, ("article", "highlights", None)),
        (
            {"question": "Who?", "context": LONG, "answers": ["Anna", "Ann"]},
            ("context", "answers", "question"),
        ),
        (
            {"context": LONG, "question": "Who?", "answers": {"text": ["A"], "answer_start": [3]}},
            ("context", "answers.text", "question"),
        ),
        ({"instruction": "Sum up.", "input": LONG, "output": "b"},
         ("input", "output", "instruction")),
        ({"articleText": LONG, "targetSummary": "b"}, ("articleText", "targetSummary", None)),
        ({"sentence": "good film", "label": 1}, ("sentence", "label", None)),
        ({"текст": LONG, "ответ": "да"}, ("текст", "ответ", None)),
        ({"Frage": "Wer kam?", "Dokument": LONG, "Antwort": "Anna"},
         ("Dokument", "Antwort", "Frage")),
        ({"prompt": "Say hello", "completion": "hello"}, ("prompt", "completion", None)),
        ({"a": LONG, "b": "yes"}, ("a", "b", None)),
        ({"meta": {"lang": "en"}, "doc": {"body": LONG}, "label": "x"},
         ("doc.body", "label", None)),
    ],
)  # fmt: skip
def test_roles_are_told_by_names_then_by_content(row, expected):
    assert roles([row] * 4) == expected


def test_what_the_user_names_stands_above_every_guess():
    rows = [{"text": LONG, "summary": "s", "title": "t", "note": "n"}]
    assert roles(rows, input="note", output="title") == ("note", "title", None)
    assert roles([{**rows[0], "question": "Who?"}], query="none")[2] is None


def test_a_misspelt_field_is_named_with_the_nearest():
    with pytest.raises(FirstStudyError, match=r"--output sumary: no row .*did you mean 'summary'"):
        guess_fields([{"text": LONG, "summary": "s"}], Asked(output="sumary"))


@pytest.mark.parametrize("rows", [[{"text": LONG}], [{}], [{"n": 3}], [{"id": 1, "text": LONG}]])
def test_rows_without_two_parts_are_refused_with_what_to_do(rows):
    with pytest.raises(FirstStudyError, match=r"name it: --(in|out)put FIELD"):
        guess_fields(rows, Asked())


def test_a_field_that_most_rows_lack_is_not_taken():
    rows = [{"text": LONG, "answer": "a"}] * 9 + [{"text": LONG, "answer": "b", "summary": "s"}]
    assert roles(rows) == ("text", "answer", None)


def test_reasons_say_how_each_role_was_found():
    found = guess_fields([{"a": LONG, "label": "x"}], Asked())
    assert found.reasons == ("output: label, by its name", "input: a, the longest texts")


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who came?"},
    {"role": "assistant", "content": "Anna."},
]


def test_a_conversation_is_split_at_its_last_answer():
    found = guess_fields([{"messages": CHAT}], Asked())
    assert (found.chat, found.query, found.nested) == ("messages", "query", True)
    assert turns_of(CHAT) == type(turns_of(CHAT))("Be brief.", "Who came?", "Anna.")
    longer = [*CHAT[1:], {"role": "user", "content": "And?"}, {"role": "assistant", "content": "B"}]
    told = turns_of(longer)
    assert told.output == "B"
    assert told.input == "user: Who came?\n\nassistant: Anna.\n\nuser: And?"


def test_other_spellings_of_conversations_are_read():
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert turns_of(turns).output == "Hello"
    for odd in ([], "text", [1], [{"role": "user", "content": "x"}], [{"role": 1, "content": "x"}]):
        assert turns_of(odd) is None


def test_values_are_found_in_objects_and_fields_with_dots():
    assert value_of({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert value_of({"a": {"b": {"c": 3}}}, "a.b.c") == 3
    assert value_of({"a": 1}, "a.b") is None
    assert texts_of(["x", " ", None, 2, True]) == ["x", "2", "true"]
