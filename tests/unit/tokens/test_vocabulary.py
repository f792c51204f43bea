"""Fast tokenizers of older checkpoints' vocabularies agree with these, special tokens included."""

import json

import pytest
import sentencepiece
from transformers import AutoTokenizer, PegasusTokenizer

from longwatt.tokens import vocabulary
from longwatt.tokens.special_tokens import SpecialTokens, load_tokenizer
from longwatt.tokens.vocabulary import VocabularyError
from tests.tiny_hub import BIGBIRD_TOKENIZER, bigbird_files, led_files, sentences, spiece

TEXTS = [" ".join(sentences(6, seed)) for seed in range(40)] + [
    "a\tb\n\n c  é ﬁ½ ™ 　d. ",
    "\n",
    "x" * 50,
]


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def led(tmp_path_factory):
    folder = tmp_path_factory.mktemp("led")
    files = led_files(folder / "made")
    return write(folder / "led", {name: files[name] for name in files if "model" not in name})


@pytest.fixture(scope="module")
def bigbird(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bigbird")
    files = bigbird_files(folder / "made")
    return write(
        folder / "bigbird", {name: files[name] for name in files if name != "model.safetensors"}
    )


def loaded(source, folder):
    """As it is used: saved and read again."""
    vocabulary.build(source).save_pretrained(folder)
    return load_tokenizer(folder)


def test_leds_is_made_of_its_vocabulary_and_merges(led, tmp_path):
    tokenizer = loaded(led, tmp_path)
    facts = vocabulary.check_tokenizer(tokenizer, led, TEXTS)
    assert facts["made_of"] == "vocab.json + merges.txt" and facts["texts_equal"] == len(TEXTS)
    vocab = json.loads((led / "vocab.json").read_text())
    special = SpecialTokens.of(tokenizer)
    assert (special.prefix, special.suffix) == ((vocab["<s>"],), (vocab["</s>"],))
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (vocab["<pad>"], vocab["<mask>"])


def test_bigbirds_has_the_ids_of_its_pieces(bigbird, tmp_path):
    tokenizer = loaded(bigbird, tmp_path)
    facts = vocabulary.check_tokenizer(tokenizer, bigbird, TEXTS)
    assert facts["made_of"] == "spiece.model" and facts["tokens_compared"] > 1000
    assert facts["tokens_differing"] == 0
    special = SpecialTokens.of(tokenizer)
    assert (special.prefix, special.suffix) == ((), (1,)), "an end and no beginning"
    assert [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id] == [0, 1, 2]
    assert tokenizer.convert_ids_to_tokens(tokenizer.mask_token_id) == "[MASK]"
    text = (
        TEXTS[0].replace("ﬁ", "fi").replace("½", "1\u20442").replace("…", "...")
    )  # what NFKC makes of them
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_pegasus_numbers_its_pieces_behind_those_for_pretraining(bigbird, tmp_path):
    files = {"spiece.model": spiece(tmp_path, []), "config.json": b'{"model_type": "pegasus"}'}
    pegasus = write(tmp_path / "pegasus", files)
    tokenizer = loaded(pegasus, tmp_path / "out")
    assert vocabulary.check_tokenizer(tokenizer, pegasus, TEXTS)["tokens_differing"] == 0
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4, 104]) == [
        "<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>",
    ]  # fmt: skip
    assert tokenizer.unk_token_id == 3 + vocabulary.PEGASUS_OFFSET


def test_what_transformers_makes_of_bigbirds_would_be_refused(bigbird):
    """If it is taken one day, it can replace what is made here."""
    with pytest.raises(
        VocabularyError,
        match=r"differs from its spiece\.model in \d+ of \d+ tokens of the dataset's",
    ):
        vocabulary.check_tokenizer(PegasusTokenizer.from_pretrained(str(bigbird)), bigbird, TEXTS)


def test_a_tokenizer_json_is_taken_to_the_letter(bigbird, tmp_path):
    """Pegasus' class would keep white space at the end, which the file strips."""
    vocabulary.build(bigbird).save_pretrained(tmp_path / "made")
    for name, content in (
        ("tokenizer.json", (tmp_path / "made/tokenizer.json").read_bytes()),
        ("tokenizer_config.json", json.dumps(BIGBIRD_TOKENIZER).encode()),
    ):
        write(tmp_path / "given", {name: content})
    rebuilt = AutoTokenizer.from_pretrained(str(tmp_path / "given"))
    tokenizer = loaded(tmp_path / "given", tmp_path / "out")
    assert vocabulary.check_tokenizer(tokenizer, tmp_path / "given", TEXTS)["texts_equal"] == len(
        TEXTS
    )
    assert rebuilt("a. ")["input_ids"] != tokenizer("a. ")["input_ids"], (
        "else this test tests nothing"
    )
    wanted = ("<pad>", "</s>", "[MASK]")
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.mask_token) == wanted


def test_a_vocabulary_of_another_algorithm_than_pegasus_is_refused(tmp_path):
    texts = iter(sentences(300))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=200,
        model_type="bpe",
        minloglevel=2,
    )
    write(tmp_path, {"config.json": b'{"model_type": "pegasus"}'})
    with pytest.raises(
        VocabularyError, match=r"spiece\.model is no unigram model, as Pegasus' are; save its tok"
    ):
        vocabulary.build(tmp_path)


def test_pegasus_special_pieces_in_a_text_are_text_as_for_sentencepiece(tmp_path):
    """HTML has <s>, which a Pegasus vocabulary holds and no role names."""
    files = {"spiece.model": spiece(tmp_path, []), "config.json": b'{"model_type": "pegasus"}'}
    tokenizer = vocabulary.build(write(tmp_path / "pegasus", files))
    assert "<s>" in tokenizer.get_vocab() and "<s>" not in tokenizer.get_added_vocab()
    assert "</s>" in tokenizer.get_added_vocab()


def test_a_vocabulary_that_says_nothing_of_its_kind_is_refused_with_the_way_out(bigbird, tmp_path):
    write(tmp_path, {"spiece.model": (bigbird / "spiece.model").read_bytes()})
    with pytest.raises(
        VocabularyError,
        match=r"no fast tokenizer can be made of .*; save its tokenizer\.json elsewhere",
    ):
        vocabulary.build(tmp_path)
