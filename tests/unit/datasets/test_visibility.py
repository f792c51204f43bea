"""References that a metric does not see, found when data are read."""

# ruff: noqa: RUF001

import json
import os
import zipfile
from pathlib import Path

import pytest
from rouge_score.tokenize import tokenize

from longwatt import metrics
from longwatt.datasets.records import DatasetError, download
from longwatt.datasets.visibility import (
    SCORED_BY,
    Scoring,
    UnseenReferences,
    Visibility,
    refuse_unseen,
    scored_by,
    scorings_environment,
    visibility_notes,
)
from longwatt.metric_words import (
    METRICS_OF_TEXTS,
    NORMALIZED,
    RAW,
    has_plain_word,
    metrics_that_see,
    sees,
    unicode_words,
)
from longwatt.metrics import f1_unicode
from longwatt.metrics.__main__ import main

CHINESE, ARABIC, DEVANAGARI = "春天来了，花开了。", "مرحبا بالعالم", "नमस्ते दुनिया"
RUSSIAN, GREEK, THAI, JAPANESE = "Привет, мир!", "Γειά σου", "สวัสดีชาวโลก", "東京タワー"
UNICODE = ("rouge_unicode", "f1_unicode")
SCROLLS = Path(os.environ.get("LONGWATT_SCROLLS_MIRROR", "/nowhere"))


def dataset(folder: Path, references: list[str | list[str]], split: str = "validation") -> dict:
    """Settings of a dataset with these references, in files of `folder`."""
    for name, outputs in (("train", ["plain text"]), (split, references)):
        rows = [
            {"id": f"{name}-{n}", "input": "a text", "output": output}
            for n, output in enumerate(outputs)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "source": "jsonl",
        "options": {"files": {n: str(folder / f"{n}.jsonl") for n in ("train", split)}},
    }


def read(folder: Path, references: list, metric: str, text: str = RAW, **more) -> dict:
    """dataset.json of a dataset whose validation split has these references."""
    scoring = Scoring("studies/x.yaml: datasets.mine", metric, text, **more)
    download(dataset(folder, references), folder / "out", {}, [scoring])
    return json.loads((folder / "out" / "dataset.json").read_text())


@pytest.mark.parametrize(
    "text", [CHINESE, ARABIC, DEVANAGARI, RUSSIAN, GREEK, THAI, JAPANESE, "😀 🎉", "...", "— …"]
)
def test_rouge_of_what_it_cannot_see_is_refused_and_the_metrics_that_see_it_are_named(
    tmp_path, text
):
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, [text] * 20, "rouge")
    said = str(caught.value)
    assert said.startswith(
        "studies/x.yaml: datasets.mine: the split 'validation': the metric rouge finds no word"
    )
    assert "20 of 20 examples, first at id 'validation-0'" in said and repr(text[:40]) in said
    for metric in metrics_that_see(text):
        assert metric in said.partition("Choose")[2]
        per_example = metrics.score_examples({"1": text}, {"1": [text]}, (metric,))
        assert metrics.corpus_scores(per_example)[metrics.headline(metric)] > 0, "seen indeed"
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("metric", "text"),
    [("f1", "the"), ("f1", "..."), ("exact_match", "A!"), ("rouge_unicode", "!!!")],
)
def test_other_metrics_are_refused_where_nothing_is_left_for_them(tmp_path, metric, text):
    with pytest.raises(DatasetError, match=f"the metric {metric} finds no word"):
        read(tmp_path, [text], metric)
    read(tmp_path, [text], "accuracy")


def test_a_metric_sees_what_its_own_tokens_are():
    odd = [
        "İ",
        "K",
        "the",
        "THE a",
        "_",
        "ﬁ",
        "１",
        "a-b",
        "²",
        "",
        " ",
        CHINESE,
        RUSSIAN,
        "é",
        "9",
        "ẞ",
        "ſ",
    ]
    for text in odd:
        for compared, read_as in ((RAW, text), (NORMALIZED, metrics.normalize_answer(text))):
            assert sees("rouge", text, compared) == bool(tokenize(read_as, None))
            assert sees("f1", text, compared) == bool(metrics.token_f1(read_as, read_as))
            assert sees("f1_unicode", text, compared) == bool(metrics.f1_unicode(read_as, read_as))
            assert all(
                sees(metric, text, compared) for metric in METRICS_OF_TEXTS
            ) or not has_plain_word(text)
    assert has_plain_word("the RAIN") and has_plain_word("a1b2!") and not has_plain_word("a-b the")
    assert set(METRICS_OF_TEXTS) == set(metrics.METRICS) - {"macro_f1"}


def test_normalized_texts_lose_articles_before_rouge_sees_them(tmp_path):
    read(tmp_path, ["the a"], "rouge")
    with pytest.raises(DatasetError, match="finds no word"):
        read(tmp_path, ["the a"], "rouge", NORMALIZED)


def test_a_few_such_rows_are_counted_and_told(tmp_path, capsys):
    facts = read(tmp_path, ["plain words"] * 150 + ["..."], "rouge")
    assert facts["notes"] == [
        "1 of 151 references of validation hold no word that rouge sees, "
        "first at id 'validation-150': '...'"
    ]
    assert facts["notes"][0] in capsys.readouterr().out
    assert facts["visibility"]["validation"]["unseen"]["rouge"]["raw"]["examples"] == 1
    assert facts["visibility"]["train"]["unseen"] == {}


def test_one_visible_reference_is_enough_for_an_example(tmp_path):
    facts = read(tmp_path, [["!!!", "a word"]], "rouge")
    assert facts["visibility"]["validation"]["unseen"]["rouge"]["raw"]["examples"] == 0
    assert facts["visibility"]["validation"]["unseen"]["rouge"]["raw"]["references"] == 1


def test_splits_that_are_not_scored_refuse_nothing(tmp_path):
    read(tmp_path, [CHINESE], "rouge", splits=("test",))


def test_letters_that_rouge_skips_are_told_where_they_are_many(tmp_path):
    assert "of Äpfel it sees pfel" in read(tmp_path, ["Äpfel über Öl"] * 3, "rouge")["notes"][0]
    assert read(tmp_path, ["Äpfel über Öl"] * 3, "rouge_unicode")["notes"] == []
    assert read(tmp_path, ["a café " + "plain words " * 30], "rouge")["notes"] == []


def test_f1_of_scripts_without_spaces_is_told_to_be_of_whole_sentences(tmp_path):
    assert "takes whole sentences for one word" in read(tmp_path, [CHINESE], "f1")["notes"][0]
    assert read(tmp_path, [RUSSIAN], "f1")["notes"] == []


def test_words_of_any_script():
    assert unicode_words(CHINESE) == list("春天来了花开了")
    assert unicode_words(DEVANAGARI) == ["नमस्ते", "दुनिया"], "vowel signs are of the word"
    assert unicode_words("Don't, ÄPFEL ＡＢ１ ﬁn") == ["don", "t", "äpfel", "ab1", "fin"]
    assert unicode_words("สวัสดี") == ["ส", "วั", "ส", "ดี"]
    assert unicode_words("می‌خواهم") == ["می‌خواهم"], "a joiner does not part a word"
    assert unicode_words("e\u0301") == unicode_words("é")
    assert unicode_words("GPT4のモデル 😀!") == ["gpt4", "の", "モ", "デ", "ル", "😀"]


@pytest.mark.parametrize("text", [CHINESE, ARABIC, DEVANAGARI, RUSSIAN, GREEK, THAI, JAPANESE])
def test_unicode_metrics_give_a_perfect_answer_everything_and_a_part_a_part(text):
    words = unicode_words(text)
    part = " ".join(words[: len(words) // 2])
    for metric in UNICODE:
        name = metrics.headline(metric)
        found = [
            metrics.corpus_scores(metrics.score_examples({"1": given}, {"1": [text]}, (metric,)))[
                name
            ]
            for given in (text, part, "nothing of it")
        ]
        assert found[0] == pytest.approx(100) or len(words) < 3
        assert found[0] > 0 and found[2] == 0
        assert found[0] >= found[1]


def test_unicode_rouge_of_plain_english_is_rouge():
    pair = ({"1": "a storm hits the coast"}, {"1": ["the storm is near the coast"]})
    plain, ours = (
        metrics.score_examples(*pair, (name,))["1"] for name in ("rouge", "rouge_unicode")
    )
    assert list(plain.values()) == list(ours.values())
    assert set(ours) == {"rouge1_unicode", "rouge2_unicode", "rougeL_unicode"}


def test_jobs_are_told_by_their_environment(monkeypatch):
    scoring = Scoring("studies/x.yaml: datasets.a", "rouge", NORMALIZED, ("validation", "test"))
    for name, value in scorings_environment({"a-123": [scoring]}).items():
        monkeypatch.setenv(name, value)
    assert scored_by("a-123") == [scoring] and scored_by("b") == []
    monkeypatch.delenv(SCORED_BY)
    assert scored_by("a-123") == []


def test_the_command_refuses_alike_and_tells_alike(tmp_path, capsys):
    def score(task: str, references: list[str]) -> int:
        rows = [{"id": str(n), "output": text} for n, text in enumerate(references)]
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "p.json").write_text(json.dumps({row["id"]: row["output"] for row in rows}))
        return main(
            [
                "--task",
                task,
                "--predictions",
                str(tmp_path / "p.json"),
                "--references",
                str(tmp_path / "r.jsonl"),
            ]
        )

    assert score("rouge", [CHINESE, ARABIC]) == 1
    said = capsys.readouterr().err
    assert (
        "finds no word in the references of 2 of 2" in said
        and "rouge_unicode (not SCROLLS')" in said
    )
    assert score("rouge_unicode", [CHINESE, ARABIC * 2]) == 0
    assert json.loads(capsys.readouterr().out)["rouge_unicode_geometric_mean"] == 100
    assert score("rouge", ["plain words here"] * 120 + ["!!!"]) == 0
    assert "1 of 121 references" in json.loads(capsys.readouterr().out)["notes"][0]
    assert score("accuracy", ["..."]) == 0


@pytest.mark.skipif(
    not SCROLLS.is_dir(), reason="LONGWATT_SCROLLS_MIRROR names no folder of SCROLLS' zips"
)
@pytest.mark.parametrize("metric", ["rouge", "f1", "exact_match"])
def test_nothing_of_scrolls_is_refused(metric):
    for path in SCROLLS.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            found: dict[str, Visibility] = {}
            for name in (name for name in archive.namelist() if name.endswith(".jsonl")):
                for line in archive.open(name):
                    row = json.loads(line)
                    if row.get("output"):
                        found.setdefault(name, Visibility()).add(row["id"], [row["output"]])
        facts = {name: counted.facts() for name, counted in found.items()}
        for compared in (RAW, NORMALIZED):
            scoring = [Scoring(path.name, metric, compared, tuple(facts))]
            refuse_unseen(facts, scoring)
            notes = visibility_notes(facts, scoring)
            if metric == "rouge" and path.stem in {"contract_nli", "qasper"}:  # not their metric
                assert notes and all("references of one word" in note for note in notes)
            else:
                assert notes == []


def test_what_was_not_counted_refuses_nothing():
    refuse_unseen({}, [Scoring("x", "rouge")])
    counted = Visibility()
    counted.add("1", [CHINESE])
    refuse_unseen({"validation": counted.facts()}, [Scoring("x", "macro_f1")])
    with pytest.raises(UnseenReferences):
        refuse_unseen({"validation": counted.facts()}, [Scoring("x", "rouge")])


@pytest.mark.parametrize("mark", ["\u00ad", "\u200e", "\u200f", "\u2060", "\ufeff", "\u202b"])
def test_marks_that_nobody_sees_part_no_words(mark):
    assert unicode_words(f"co{mark}op {mark}שלום{mark}") == ["coop", "שלום"]
    assert f1_unicode("coop", f"co{mark}op") == 100 and not sees("f1_unicode", mark)
    assert unicode_words("ab\u200bcd") == ["ab", "cd"], "a zero-width space does"


@pytest.mark.parametrize(
    ("metric", "text", "compared"),
    [
        ("rouge", "yes", RAW),
        ("rouge", "The end.", NORMALIZED),
        ("rouge_unicode", "да", RAW),
        ("rouge", "x 模型", RAW),
    ],
)
def test_rouge_of_single_words_would_be_0_for_a_perfect_answer_and_is_refused(
    tmp_path, metric, text, compared
):
    per_example = metrics.score_examples({"1": text}, {"1": [text]}, (metric,), compared)
    assert metrics.corpus_scores(per_example)[metrics.headline(metric)] == 0
    with pytest.raises(
        DatasetError, match=r"all 3 examples are of one word.*Choose a metric that needs none: f1"
    ):
        read(tmp_path, [text] * 3, metric, compared)
    (note,) = read(tmp_path, [text, "two words"], metric, compared)["notes"][:1]
    assert note.startswith("1 of 2 examples of validation have references of one word")
    assert not any(
        "one word" in note
        for note in read(tmp_path, [[text, "two words"]], metric, compared)["notes"]
    )
    assert not any(
        "one word" in note for note in read(tmp_path, [text] * 3, "accuracy", compared)["notes"]
    )
