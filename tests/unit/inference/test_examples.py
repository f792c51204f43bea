"""Examples of a cell with prompts: whole prompts, answers with their end, lengths of both."""

import pytest

from longwatt.inference.examples import CellExamples, layout_of, say_unasked, stops_of
from longwatt.inference.predictor import prediction_options
from longwatt.tokens.prompts import Prompt
from longwatt.tokens.special_tokens import load_split
from tests.prompted_data import CHATML, byte_level, stored

TEXT = "The code is 17 of 42, and many ships are in town. "
ROWS = (
    {"query": "What is the code?", "document": TEXT * 9, "answers": ["17 of 42", "17"]},
    {"query": "", "document": TEXT, "answers": ["a report of ships and towns, " * 3]},
)
PROMPT = {"template": "{query}\n\n{input}\n\nAnswer:\n", "chat": False}
TRAINING = {
    "seq_len": 80, "prompt": PROMPT, "training": {"max_target_tokens": 6},
    "generation": {"max_new_tokens": 20}, "protocol": "generated",
}  # fmt: skip
INFERENCE = {**TRAINING, "max_target_tokens": 6, "training": None}
INFERENCE.pop("training")


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level(CHATML, bos=True)


@pytest.fixture(scope="module")
def rows(tokenizer, tmp_path_factory):
    return load_split(stored(tmp_path_factory.mktemp("rows"), tokenizer, ROWS), "train", None)


def test_training_has_a_prompt_and_an_answer_for_every_reference(rows, tokenizer):
    examples = CellExamples(rows, layout_of(TRAINING, tokenizer), every_reference=True)
    first, second, third = examples
    answers = [tokenizer(text, add_special_tokens=False).input_ids for text in ("17 of 42", "17")]
    assert [first.labels, second.labels] == [[*ids[:5], 1] for ids in answers]
    assert first.input_ids == second.input_ids and len(first.input_ids) == 80 - 20
    asked, unasked = (tokenizer.decode(one.input_ids) for one in (first, third))
    assert asked.startswith("<s>What is the code?\n\nThe code is 17")
    assert unasked == f"<s>{TEXT}\n\nAnswer:\n" and asked.endswith("\n\nAnswer:\n")
    assert len(third.labels) == 6 and third.labels[-1] == 1
    assert third.second_start is None and first.references == ("17 of 42", "17")
    assert examples.target_tokens == [len(one.labels) for one in examples]
    assert examples.lengths == [len(one.input_ids) + len(one.labels) for one in examples]


def test_inference_has_the_prompts_of_training(rows, tokenizer):
    trained = CellExamples(rows, layout_of(TRAINING, tokenizer), every_reference=False)
    predicted = CellExamples(rows, layout_of(INFERENCE, tokenizer), every_reference=False)
    assert list(trained) == list(predicted) and trained.lengths == predicted.lengths


def test_the_larger_of_target_and_answer_is_kept_free(rows, tokenizer):
    for targets, most, room in ((6, 20, 20), (20, 6, 20), (7, 7, 7)):
        settings = {**INFERENCE, "max_target_tokens": targets}
        settings["generation"] = {"max_new_tokens": most}
        made = CellExamples(rows, layout_of(settings, tokenizer), every_reference=False)
        assert len(made[0].input_ids) == 80 - room
        assert made.layout.max_target_tokens == targets


def test_generation_is_told_where_answers_end(rows, tokenizer):
    chat = {**TRAINING, "prompt": {"template": "{input}", "chat": True}}
    examples = CellExamples(rows, layout_of(chat, tokenizer), every_reference=False)
    assert stops_of(examples) == {"stops": [3, 1]} and examples[0].labels[-1] == 3
    assert {*prediction_options(chat, {}), *stops_of(examples)} == {
        "protocol",
        "generation",
        "stops",
    }


def test_a_prompt_that_leaves_queries_out_is_told(rows, tokenizer, capsys):
    for template in ("{input}", "{query}{input}"):
        chosen = {**TRAINING, "prompt": {"template": template, "chat": False}}
        examples = CellExamples(rows, layout_of(chosen, tokenizer), every_reference=True)
        say_unasked(examples, "train")
    (said,) = capsys.readouterr().out.splitlines()
    assert "1 of 2 examples of train have a query, which the prompt leaves out" in said


def test_cells_without_prompts_are_as_they_were(rows, tokenizer):
    settings = {key: value for key, value in TRAINING.items() if key != "prompt"}
    layout = layout_of(settings, tokenizer)
    examples = CellExamples(rows, layout, every_reference=True)
    assert not isinstance(layout, Prompt) and stops_of(examples) == {}
    say_unasked(examples, "train")
    first, *_ = examples
    assert first.input_ids == [0, *rows.ids("input_ids", 0)][:80]
    assert first.labels == [0, *rows.ids_of_part("labels", 0, 0)][:6]
    assert examples.lengths == [len(one.input_ids) for one in examples]
    assert examples.target_tokens == [len(one.labels) for one in examples]
