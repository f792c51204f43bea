"""Lengths of targets and answers that cannot be meant, refused when the study is read."""

import json
from pathlib import Path

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.study.checks import checked_stages
from longwatt.study.settings import GENERATION_DEFAULTS
from longwatt.study.stages import Stages
from longwatt.study.texts.generation_checks import check_lengths, special_tokens
from tests.conftest import TINY_STUDY

BPE = {"kind": "byte_level_bpe", "vocab_size": 600}
TARGETS = "training: {max_target_tokens: 8}"


@pytest.fixture
def read(tmp_path, study_schema):
    """Reads the tiny study, changed."""

    def reader(*changes: tuple[str, str]) -> Stages:
        text = TINY_STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "tiny.yaml").write_text(text)
        return checked_stages("tiny", read_study(tmp_path / "tiny.yaml", study_schema), {})

    return reader


POINT = "greedy: {split: validation, batch_size: 5"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (TARGETS, "training: {max_target_tokens: 2}",
         "training.max_target_tokens is 2, but the tokenizer puts 2"),
        (TARGETS, f"{TARGETS}\n    generation: {{min_new_tokens: 9}}",
         "generation.min_new_tokens is 9, but max_new"),
        (TARGETS, f"{TARGETS}\n    generation: {{min_new_tokens: 9, max_new_tokens: 20}}",
         "generation.min_new_tokens is 9, but no target of training is longer than its "
         "max_target_tokens of 8"),
        (TARGETS, f"{TARGETS}\n    generation: {{max_new_tokens: 1}}",
         "generation.max_new_tokens is 1, but the tok"),
        (POINT, f"{POINT}, generation: {{min_new_tokens: 6, max_new_tokens: 5}}",
         "inference.greedy.generation.min_new_tokens is 6, but max_new_tokens, .* is 5"),
        (POINT, f"{POINT}, generation: {{min_new_tokens: 12}}",
         "inference.greedy.generation.min_new_tokens is 12"),
        ("family: led", "family: led\n    generation: {min_new_tokens: 9}",
         "generation.min_new_tokens is 9"),
    ],
    ids=["targets", "least above most", "least above targets", "most", "point", "point above",
         "model"],
)  # fmt: skip
def test_what_leaves_no_room_or_contradicts_itself_is_refused_with_its_key(read, old, new, said):
    with pytest.raises(StudyError, match=rf"studies/tiny.yaml: cell needle/led/32/\S+: {said}"):
        read((old, new))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("max_new_tokens", 0, "0 is less than the minimum of 1"),
        ("num_beams", 0, "0 is less than the minimum of 1"),
        ("no_repeat_ngram_size", -1, "-1 is less than the minimum of 0"),
        ("min_new_tokens", -1, "-1 is less than the minimum of 0"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_too(read, key, value, said):
    with pytest.raises(StudyError, match=said):
        read((TARGETS, f"{TARGETS}\n    generation: {{{key}: {value}}}"))


def test_what_just_fits_is_taken(read):
    read((TARGETS, "training: {max_target_tokens: 3}"))
    read((TARGETS, f"{TARGETS}\n    generation: {{min_new_tokens: 8, max_new_tokens: 8}}"))


def test_no_most_of_its_own_means_the_trainings_at_a_point_too(read):
    found = read((POINT, f"{POINT}, generation: {{max_new_tokens: null}}"))
    name = next(iter(found.cells))
    assert found.predict(name, "greedy").settings["generation"]["max_new_tokens"] == 8


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (None, (0, 0)),
        ({"type": "RobertaProcessing"}, (1, 1)),
        ({"type": "ByteLevel"}, (0, 0)),
        ({"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"SpecialToken": {}}]},
         (0, 1)),
        (
            {"type": "Sequence", "processors": [{"type": "ByteLevel"},
             {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}, {"Sequence": {}}]}]},
            (1, 0),
        ),
    ],
)  # fmt: skip
def test_a_checkpoints_tokenizer_says_what_it_puts_around_a_text(tmp_path, processor, expected):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"post_processor": processor}))
    entry = {"kind": "checkpoint", "path": str(tmp_path)}
    assert special_tokens(entry) == expected
    generation = {"generation": {**GENERATION_DEFAULTS, "max_new_tokens": 8}}
    assert check_lengths(sum(expected) + 1, generation, entry) is None
    assert f"max_target_tokens is {sum(expected)}, but" in (
        check_lengths(sum(expected), generation, entry) or ""
    )


def test_our_own_tokenizers_put_as_many_tokens_around_a_text_as_is_reckoned(tmp_path):
    from longwatt.datasets.records import download
    from longwatt.tokens.special_tokens import SpecialTokens, load_tokenizer
    from longwatt.tokens.tokenizers import make_tokenizer

    options = {"words_per_document": 30, "train": 4, "validation": 2, "test": 2}
    download({"source": "needle", "options": options}, tmp_path, {})
    make_tokenizer({**BPE, "min_frequency": 1}, tmp_path / "records.jsonl", tmp_path / "bpe")
    special = SpecialTokens.of(load_tokenizer(tmp_path / "bpe"))
    assert special_tokens(BPE) == (len(special.prefix), len(special.suffix))
    there = {"kind": "checkpoint", "path": str(tmp_path / "bpe")}
    assert special_tokens(there) == special_tokens(BPE), "and of the same read from its file"


def test_what_is_not_here_yet_is_not_guessed():
    assert special_tokens(
        {"kind": "checkpoint", "repository": "some/led", "revision": "a" * 40}
    ) == (0, 0)
    assert special_tokens({"kind": "checkpoint", "path": str(Path("not/there"))}) == (0, 0)
