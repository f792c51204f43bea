"""A cut of two texts equals the tokenizers' own truncation of a pair, segments included."""

import json
import random

import pytest
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from longwatt.datasets.records import download
from longwatt.tokens.special_tokens import SpecialTokens, TokenizerError, load_split, load_tokenizer
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer

SYLLABLES = [c + v for c in "bdfgklmnprst" for v in "aeiou"]


def sentences(count: int, most: int, seed: int = 0) -> list[str]:
    """Made-up words; 0 to `most` of them."""
    source = random.Random(seed)
    words = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(200)]
    return [" ".join(source.choices(words, k=source.randint(0, most))) for _ in range(count)]


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory):
    """A trained word piece vocabulary and a byte-level one, in the classes' own folder layout."""
    folder = tmp_path_factory.mktemp("vocabularies")
    pieces = BertWordPieceTokenizer()
    pieces.train_from_iterator(sentences(300, 20), vocab_size=220, show_progress=False)
    for kind in ("bert", "distilbert"):
        (folder / kind).mkdir()
        pieces.save_model(str(folder / kind))
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        sentences(300, 20), vocab_size=400, special_tokens=special, show_progress=False
    )
    (folder / "roberta").mkdir()
    bpe.save_model(str(folder / "roberta"))
    for kind, name in (("bert", "Bert"), ("distilbert", "DistilBert"), ("roberta", "Roberta")):
        (folder / kind / "config.json").write_text(json.dumps({"model_type": kind}))
        (folder / kind / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": f"{name}Tokenizer"})
        )
    return folder


@pytest.mark.parametrize(
    ("kind", "segments"), [("bert", True), ("distilbert", True), ("roberta", False)]
)
def test_a_cut_pair_equals_the_tokenizers_own_truncation(vocabularies, kind, segments):
    tokenizer = load_tokenizer(vocabularies / kind)
    special = SpecialTokens.of(tokenizer)
    assert special.pair is not None
    texts = [text or "ba" for text in sentences(80, 14, seed=1)]
    cuts = 0
    for first, second in zip(texts[::2], texts[1::2], strict=True):
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (first, second)]
        whole = sum(map(len, ids)) + special.pair.count
        for length in range(special.pair.count + 2, whole + 3):
            own = tokenizer(
                first, second, truncation=True, max_length=length, return_token_type_ids=True
            )
            found, second_start = special.cut_pair(*ids, length)
            assert found == own["input_ids"], (first, second, length)
            if segments:
                assert [int(place >= second_start) for place in range(len(found))] == own[
                    "token_type_ids"
                ]
            else:
                assert not any(own["token_type_ids"])
                assert second_start == own.sequence_ids().index(1)
            cuts += length < whole
    assert cuts > 500


def test_two_texts_need_room_for_a_token_each(vocabularies):
    special = SpecialTokens.of(load_tokenizer(vocabularies / "bert"))
    assert special.cut_pair([7, 8], [9], 5)[0][1:4:2] == [7, 9]
    with pytest.raises(
        TokenizerError, match="length 4 leaves no room for two texts beside 3 special tokens"
    ):
        special.cut_pair([7], [8], 4)


def backwards() -> PreTrainedTokenizerFast:
    """A pair's second text comes first: no cut of ours."""
    inner = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(single="$A", pair="$B:1 $A", special_tokens=[])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def test_a_tokenizer_that_knows_no_pairs_still_cuts_single_texts():
    special = SpecialTokens.of(backwards())
    assert special.pair is None and special.cut([1, 1, 1], 2) == [1, 1]
    with pytest.raises(TokenizerError, match="does not put two texts one after the other"):
        special.cut_pair([1], [1], 8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Records of which some are pairs, and a tokenizer trained on them here."""
    folder = tmp_path_factory.mktemp("pairs")
    firsts, seconds = ([text or "ba" for text in sentences(70, 9, seed)] for seed in (2, 3))
    rows = [
        {"premise": first, "hypothesis": second, "label": number % 2}
        for number, (first, second) in enumerate(zip(firsts, seconds, strict=True))
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "files": {"train": str(folder / "train.jsonl")},
        "fields": {"input": "premise", "second": "hypothesis"},
    }
    download({"source": "labelled", "options": options, "task": "classification"}, folder, {})
    make_tokenizer(
        {"kind": "byte_level_bpe", "vocab_size": 400, "min_frequency": 2},
        folder / "records.jsonl",
        folder / "bpe",
    )
    tokenize_dataset(
        folder / "records.jsonl", folder / "bpe", folder / "tokens", folder / "tokenized.json", {}
    )
    return folder


def test_rows_hold_the_ids_of_both_texts(pairs):
    tokenizer = load_tokenizer(pairs / "bpe")
    for row in load_split(pairs / "tokens", "train", None):
        assert (
            row["input_tokens"] == len(row["input_ids"]) + len(row["second_ids"])
            and row["second_ids"]
        )
    rows = [json.loads(line) for line in (pairs / "records.jsonl").read_text().splitlines()]
    kept = load_split(pairs / "tokens", "train", None)
    assert [tokenizer.decode(ids).strip() for ids in kept["second_ids"]] == [
        row["second"] for row in rows
    ]


def test_a_tokenizer_trained_here_knows_pairs_as_berts_does(pairs):
    special = SpecialTokens.of(load_tokenizer(pairs / "bpe"))
    begin, end = special.prefix, special.suffix
    assert special.pair is not None
    assert (special.pair.prefix, special.pair.middle, special.pair.suffix) == (begin, end, end)
    assert special.cut_pair([7, 8], [9], 99) == ([*begin, 7, 8, *end, 9, *end], 4)
