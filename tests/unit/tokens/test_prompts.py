"""Prompts: the document alone is cut, and everything around it stands as it was written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatt.tokens.prompt_templates import PromptError
from longwatt.tokens.prompts import Prompt, padding_of
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.tokens.stored_rows import MissingColumn, StoredRows
from tests.prompted_data import CHATML, LLAMA, byte_level, sentence_pieces, stored

DOCUMENT = "The code is 17 of 42, and many ships are in town. " * 4
QUESTION = "What is the secret code?"
ROWS = (
    {"query": QUESTION, "document": DOCUMENT, "answers": ["17 of 42", "17"]},
    {"query": "", "document": DOCUMENT, "answers": ["a report of ships and towns"]},
    {"query": "What?", "document": "17"},
)
BEHIND = "Read the text.\n\n{input}\n\nQuestion: {query}\nAnswer:"
BEFORE = "{query}\n\n{input}\n\n"


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory):
    """Stored rows by the tokenizer that made them."""

    def make(tokenizer) -> StoredRows:
        folder = tmp_path_factory.mktemp("stored")
        return load_split(stored(folder, tokenizer, ROWS), "train", None)

    return make


def prompt(tokenizer, template=BEFORE, *, chat=False, seq_len=500, targets=6, answer=8) -> Prompt:
    return Prompt.of({"template": template, "chat": chat}, tokenizer, seq_len, targets, answer)


def text_of(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


WHOLE = [
    (BEFORE, f"{QUESTION}\n\n{DOCUMENT}\n\n", f"{DOCUMENT}\n\n"),
    (BEHIND, f"Read the text.\n\n{DOCUMENT}\n\nQuestion: {QUESTION}\nAnswer:",
     f"Read the text.\n\n{DOCUMENT}\n\nQuestion: \nAnswer:"),
    ("{query} {input}Answer: ", f"{QUESTION} {DOCUMENT}Answer: ", f" {DOCUMENT}Answer: "),
    ("{input}", DOCUMENT, DOCUMENT),
]  # fmt: skip


@pytest.mark.parametrize(("template", "asked", "unasked"), WHOLE)
@pytest.mark.parametrize("bos", [False, True])
def test_the_ids_of_a_whole_prompt_decode_to_the_template_s_text(
    rows_of, template, asked, unasked, bos
):
    tokenizer = byte_level(bos=bos)
    rows, made = rows_of(tokenizer), prompt(tokenizer, template)
    for row, text in ((0, asked), (1, unasked)):
        ids, second = made.input(rows, row)
        assert text_of(tokenizer, ids) == "<s>" * bos + text and second is None


def test_a_tokenizer_that_puts_a_space_before_every_text_puts_none_in_the_middle(rows_of):
    tokenizer = sentence_pieces()
    assert tokenizer.convert_ids_to_tokens(tokenizer("Answer:")["input_ids"])[1].startswith("▁")
    rows = rows_of(tokenizer)
    ids, _ = prompt(tokenizer, BEHIND).input(rows, 2)
    # Only the document's own begins with one where no query stood before it.
    assert text_of(tokenizer, ids[1:]) == "Read the text.\n\n17\n\nQuestion: What?\nAnswer:"
    ids, _ = prompt(tokenizer, "{query}\n\n{input}Answer:").input(rows, 0)
    assert text_of(tokenizer, ids[1:]) == f"{QUESTION}\n\n{DOCUMENT}Answer:"


def test_words_in_the_middle_keep_the_ids_that_they_have_alone(rows_of):
    """An anchor before a text must not merge with it."""
    tokenizer = byte_level()
    ids, _ = prompt(tokenizer, "{input}Answer: the code is").input(rows_of(tokenizer), 2)
    alone = tokenizer("Answer: the code is")["input_ids"]
    assert ids[-len(alone) :] == alone and len(ids) == len(alone) + len(tokenizer("17").input_ids)


@pytest.mark.parametrize("template", [BEFORE, BEHIND])
def test_the_document_alone_is_cut(rows_of, template):
    tokenizer = byte_level(bos=True)
    rows = rows_of(tokenizer)
    whole, _ = prompt(tokenizer, template).input(rows, 0)
    start = rows.value("document_start_tokens", 0)
    tokens = rows.value("input_tokens", 0) - start
    before, after = prompt(tokenizer, template).around(QUESTION)
    assert before + rows.ids("input_ids", 0)[start:] + after == whole
    for kept in (1, 2, tokens - 1, tokens, tokens + 1):
        seq_len = len(before) + kept + len(after) + 8
        made = prompt(tokenizer, template, seq_len=seq_len)
        ids, _ = made.input(rows, 0)
        document = rows.ids("input_ids", 0)[start : start + kept]
        assert ids == before + document + after and len(ids) == min(seq_len - 8, len(whole))


def test_sizes_are_those_of_the_inputs(rows_of):
    tokenizer = byte_level(bos=True)
    rows = rows_of(tokenizer)
    for seq_len in (60, 500):
        made = prompt(tokenizer, BEHIND, seq_len=seq_len)
        assert made.sizes(rows) == [len(made.input(rows, row)[0]) for row in range(3)]
    assert made.sizes(rows.select([2])) == [len(made.input(rows, 2)[0])]


def test_the_beginning_of_a_text_is_not_doubled(rows_of):
    tokenizer = byte_level(bos=True)
    rows = rows_of(tokenizer)
    once, _ = prompt(tokenizer, BEFORE).input(rows, 0)
    assert once.count(0) == 1 and once[0] == 0
    assert prompt(tokenizer, f"<s>{BEFORE}").input(rows, 0)[0] == once
    chat, _ = prompt(tokenizer_with(LLAMA), chat=True).input(rows, 0)
    assert chat.count(0) == 1 and chat[0] == 0


def tokenizer_with(chat):
    return byte_level(chat, bos=True)


@pytest.mark.parametrize(
    ("chat", "text"),
    [
        (CHATML, f"<|im_start|>user\n{QUESTION}\n\n{DOCUMENT}\n\n<|im_end|>\n"
         "<|im_start|>assistant\n"),
        (LLAMA, f"<s>[INST] {QUESTION}\n\n{DOCUMENT} [/INST]"),
    ],
    ids=["chatml", "llama"],
)  # fmt: skip
def test_a_chat_template_goes_around_the_whole_prompt(rows_of, chat, text):
    tokenizer = byte_level(chat, bos=True)
    rows = rows_of(tokenizer)
    ids, _ = prompt(tokenizer, chat=True).input(rows, 0)
    assert text_of(tokenizer, ids) == text
    # As the library itself makes it of the same message, but for white space that LLAMA strips.
    message = [{"role": "user", "content": f"{QUESTION}\n\n{DOCUMENT}\n\n"}]
    theirs = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert theirs.replace(" ", "") == text.replace(" ", "")
    unasked, _ = prompt(tokenizer, chat=True).input(rows, 1)
    assert text_of(tokenizer, unasked) == text.replace(f"{QUESTION}\n\n", "")


def test_an_answer_ends_as_its_template_says(rows_of):
    tokenizer = byte_level(CHATML)
    ids = tokenizer.convert_tokens_to_ids
    plain, chat = prompt(tokenizer), prompt(tokenizer, chat=True)
    assert (plain.end, plain.stops) == ((ids("</s>"),), [ids("</s>")])
    assert (chat.end, chat.stops) == ((ids("<|im_end|>"),), [ids("<|im_end|>"), ids("</s>")])
    assert prompt(byte_level(LLAMA), chat=True).end == (ids("</s>"),)
    endless = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert prompt(byte_level(endless), chat=True).end == (ids("</s>"),), "no end of a turn"


def test_an_answer_s_end_survives_the_cut():
    made = prompt(byte_level(), targets=4)
    assert made.target([9, 8]) == [9, 8, 1]
    assert made.target([9, 8, 7]) == made.target([9, 8, 7, 6]) == [9, 8, 7, 1]
    assert [made.target_size(n) for n in (0, 2, 3, 4, 9)] == [1, 3, 4, 4, 4]


def test_a_chat_template_that_states_the_date_gives_one_prompt_on_every_day(rows_of):
    dated = "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d') }}|" + CHATML
    tokenizer = byte_level(dated)
    ids, _ = prompt(tokenizer, chat=True).input(rows_of(tokenizer), 2)
    assert text_of(tokenizer, ids).startswith("26 Jul 2024|2024-07-26|<|im_start|>user\nWhat?")


@pytest.mark.parametrize("chat", [None, CHATML, LLAMA], ids=["plain", "chatml", "llama"])
def test_a_saved_tokenizer_makes_the_same_prompts(rows_of, tmp_path, chat):
    """Inference loads it from the trained model's folder."""
    tokenizer = byte_level(chat, bos=True)
    rows = rows_of(tokenizer)
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"model_type": "llama"}')
    again = load_tokenizer(tmp_path / "model")
    assert again.pad_token_id is None and padding_of(again) == padding_of(tokenizer) == 1
    made = [prompt(one, BEHIND, chat=chat is not None, seq_len=70) for one in (tokenizer, again)]
    for row in range(3):
        trained, predicted = (one.input(rows, row)[0] for one in made)
        assert trained == predicted and len(trained) <= 62
    assert made[0].end == made[1].end and made[0].stops == made[1].stops


def test_padding_is_the_tokenizer_s_own_else_any():
    tokenizer = byte_level()
    assert padding_of(tokenizer) == tokenizer.eos_token_id == 1
    tokenizer.pad_token = "<|im_start|>"
    assert padding_of(tokenizer) == 2
    tokenizer.pad_token = tokenizer.eos_token = None
    assert padding_of(tokenizer) == 0


QUERIES = st.text(alphabet="whatcode? \n", max_size=12).map(str.strip)


@settings(max_examples=40, deadline=None)
@given(
    queries=st.lists(QUERIES, min_size=1, max_size=4),
    documents=st.lists(st.text(alphabet="ab1 .\n", min_size=1, max_size=60).filter(str.strip),
                       min_size=4, max_size=4),
    seq_len=st.integers(20, 120), answer=st.integers(1, 12),
    template=st.sampled_from([BEFORE, BEHIND, "{input}"]),
    chat=st.sampled_from([None, CHATML, LLAMA]),
)  # fmt: skip
def test_whatever_the_texts_a_prompt_fits_and_is_whole_but_for_its_document(
    tmp_path_factory, queries, documents, seq_len, answer, template, chat
):
    tokenizer = byte_level(chat, bos=True)
    texts = [{"query": q, "document": d} for q, d in zip(queries, documents, strict=False)]
    folder = tmp_path_factory.mktemp("stored")
    rows = load_split(stored(folder, tokenizer, texts), "train", None)
    made = prompt(
        tokenizer, template, chat=chat is not None, seq_len=seq_len, targets=1, answer=answer
    )
    longest = max(len(b) + len(a) for b, a in (made.around(one["query"]) for one in texts))
    if longest + answer + 1 > seq_len:
        with pytest.raises(PromptError, match="leaves no room"):
            made.sizes(rows)
        return
    for row, (one, size) in enumerate(zip(texts, made.sizes(rows), strict=True)):
        ids, _ = made.input(rows, row)
        before, after = made.around(one["query"])
        assert len(ids) == size <= seq_len - answer and len(ids) > len(before) + len(after)
        assert ids[: len(before)] == before and ids[len(ids) - len(after) :] == after
        stored_ids = rows.ids("input_ids", row)[rows.value("document_start_tokens", row) :]
        kept = ids[len(before) : len(ids) - len(after)]
        assert kept == stored_ids[: len(kept)]
        assert len(ids) == seq_len - answer or kept == stored_ids
        if one["query"] and "{query}" in template:
            assert one["query"] in text_of(tokenizer, before + after)


def test_a_length_without_room_for_the_document_is_refused_with_its_parts(rows_of):
    tokenizer = byte_level(bos=True)
    rows = rows_of(tokenizer)
    before, after = map(len, prompt(tokenizer, BEHIND).around(QUESTION))
    made = prompt(tokenizer, BEHIND, seq_len=before + after + 8)
    said = (
        f"seq_len {before + after + 8} leaves no room for the document of 1 of 3 examples: at id "
        f"'0', whose query is the longest, the prompt has {before} tokens before the document and "
        f"{after} after it, and 8 are kept for the answer"
    )
    for count in (made.sizes, made.rooms):
        with pytest.raises(PromptError) as refused:
            count(rows)
        assert str(refused.value).startswith(said)
    assert prompt(tokenizer, BEHIND, seq_len=before + after + 9).rooms(rows)[0] == 1


def test_a_prompt_without_a_token_is_refused(tmp_path):
    tokenizer = byte_level()
    texts = [{"query": "", "document": "17"}, {"query": "What?", "document": ""}]
    rows = load_split(stored(tmp_path, tokenizer, texts), "train", None)
    with pytest.raises(PromptError, match="the prompt of id '1' has no token"):
        prompt(tokenizer, "{input}").sizes(rows)
    assert prompt(tokenizer, "{query}{input}").sizes(rows)[1] > 0


def test_a_chat_without_a_template_is_refused_with_the_tokenizer_s_folder(rows_of, tmp_path):
    byte_level().save_pretrained(tmp_path / "own")
    said = f"chat is true, but the tokenizer in {tmp_path / 'own'} has no chat template; save it"
    with pytest.raises(PromptError, match=said):
        prompt(load_tokenizer(tmp_path / "own"), chat=True)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no user here') }}", "takes no user's message .*no user here"),
        ("{% for m in messages %}nothing{% endfor %}", "does not give back a user's message as it"),
        ("{{ messages[0]['content'] * 2 }}", "does not give back a user's message as it is"),
        ("{{ messages[0]['content'] | upper }}", "does not give back a user's message as it is"),
    ],
)  # fmt: skip
def test_a_chat_template_that_loses_the_message_is_refused(template, said):
    with pytest.raises(PromptError, match=said):
        prompt(byte_level(template), chat=True)


def test_a_tokenizer_without_an_end_is_refused():
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(PromptError, match="has no end token, so that no answer would ever end"):
        prompt(tokenizer)


def test_tokens_of_before_name_the_column_that_they_lack(tmp_path):
    from datasets import Dataset

    old = {"id": ["a"], "input_ids": [[1, 2]], "input_tokens": [2]}
    Dataset.from_dict(old).save_to_disk(str(tmp_path / "tokens/train"))
    rows = load_split(tmp_path / "tokens", "train", None)
    with pytest.raises(MissingColumn, match="no column 'query': an earlier version of longwatt"):
        prompt(byte_level()).sizes(rows)
