"""Scores of one inference point, and the ceiling."""

import csv
import itertools
import json
import subprocess
import sys

import pytest

from longwatt.metrics import ScoringError, score_parts, token_f1
from longwatt.provenance.stamps import write_json
from longwatt.results.example_scores import read_examples
from longwatt.results.scoring import best_f1, score
from longwatt.study.settings import COMPARISON_DEFAULTS
from longwatt.tokens.prompts import Prompt
from longwatt.tokens.references import compared_texts
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from tests.needle_data import make_data, make_needle_data

OPTIONS = {
    "words_per_document": 40,
    "train": 20,
    "validation": 8,
    "test": 4,
    "answer_vocabulary": 4,
}
SETTINGS = {
    "metric": "f1", "seq_len": 24, "split": "validation", "max_examples": None,
    "bootstrap_resamples": 200,
    "confidence": 0.95, "seed": 0, **COMPARISON_DEFAULTS,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    return make_needle_data(path, OPTIONS, {"vocab_size": 900, "min_frequency": 1})


def run(data, out, predictions: dict[str, str], **settings) -> dict:
    (out / "p.jsonl").write_text(
        "".join(json.dumps({"id": i, "prediction": t}) + "\n" for i, t in predictions.items())
    )
    score(
        {**SETTINGS, **settings},
        predictions=out / "p.jsonl",
        tokens=data / "tokens",
        tokenized=data / "tokenized.json",
        tokenizer=data / "bpe/tokenizer.json",
        dataset=data / "dataset.json",
        scores=out / "scores.json",
        examples=out / "examples.csv",
        provenance={"rule": "score"},
    )
    return json.loads((out / "scores.json").read_text())


def perfect(data) -> dict[str, str]:
    return {
        row["id"]: row["references"][0] for row in load_split(data / "tokens", "validation", None)
    }


def test_texts_are_scored_without_torch_and_its_libraries(data, tmp_path):
    """Every inference point pays for what its scoring loads."""
    test = "tests.unit.results.test_scoring"
    code = f"""
import sys
from pathlib import Path
from {test} import perfect, run
data, out = Path({str(data)!r}), Path({str(tmp_path)!r})
for name in {{"torch", "transformers", "datasets", "pandas"}} & set(sys.modules):
    raise SystemExit(f"the test itself loads {{name}}")
print(run(data, out, perfect(data))["score"])
print({{"torch", "transformers", "datasets", "pandas"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["100.0", "set()"], done.stderr


def test_perfect_predictions_score_one_hundred(data, tmp_path):
    found = run(data, tmp_path, perfect(data))
    assert (found["score"], found["score_name"], found["examples"]) == (100, "f1", 8)
    assert found["score_ci_high"] == 100 and found["score_ci_low"] == pytest.approx(
        100 * 8 / 11.8415, abs=1e-3
    )
    assert found["interval"].startswith("95%: Wilson")
    with (tmp_path / "examples.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == list(perfect(data)) and {row["f1"] for row in rows} == {
        "100.0"
    }


def test_the_ceiling_is_counted_from_the_tokens(data, tmp_path):
    rows = load_split(data / "tokens", "validation", None)
    seen = [sum(end <= 24 - 2 for end in ends) for ends in rows["evidence_ends"]]
    # One of two words: said alone it is worth 2/3. None: all eight words that the two may be are
    # worth 2 x 2 / (8 + 2).
    each = [100 * {0: 2 / 5, 1: 2 / 3, 2: 1}[s] for s in seen]
    assert run(data, tmp_path, perfect(data))["score_ceiling"] == pytest.approx(
        sum(each) / 8, abs=1e-4
    )
    with (tmp_path / "examples.csv").open() as stream:
        assert [float(row["ceiling_f1"]) for row in csv.DictReader(stream)] == pytest.approx(
            each, abs=1e-4
        )
    assert run(data, tmp_path, perfect(data), seq_len=500)["score_ceiling"] == 100
    assert run(data, tmp_path, perfect(data), metric="rouge")["score_ceiling"] is None


@pytest.mark.parametrize("template", ["{query}\n\n{input}\n\n", "Find it: {input}\n{query}"])
def test_the_ceiling_of_a_prompt_is_that_of_what_it_leaves_of_the_document(
    data, tmp_path, template
):
    """What stands before or behind a document, and its answer's room, hide the document's end."""
    prompt = {"template": template, "chat": False}
    rows, tokenizer = load_split(data / "tokens", "validation", None), load_tokenizer(data / "bpe")
    before, after = Prompt.of(prompt, tokenizer, 99, 6, 6).around(rows.value("query", 0))
    seq_len = len(before) + len(after) + 6 + 15
    made = Prompt.of(prompt, tokenizer, seq_len, 6, 6)
    seen = []
    for row in range(len(rows)):
        ids, _ = made.input(rows, row)
        text = tokenizer.decode(ids[len(before) : len(ids) - len(after)])
        answer = rows.value("references", row)[0].split()
        where = text.partition("the secret code is")[2].split()[:2]
        seen.append(sum(a == b for a, b in zip(answer, where, strict=False)))
    assert len(set(seen)) > 1, "some answers are cut off, others not"
    each = [100 * {0: 2 / 5, 1: 2 / 3, 2: 1}[s] for s in seen]
    chosen = {"prompt": prompt, "answer_tokens": 6, "seq_len": seq_len}
    found = run(data, tmp_path, perfect(data), **chosen)["score_ceiling"]
    assert found == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert run(data, tmp_path, perfect(data), **{**chosen, "seq_len": 500})["score_ceiling"] == 100


@pytest.mark.parametrize(
    ("hidden", "words", "size"), [(1, 2, 2), (2, 2, 2), (2, 2, 3), (1, 3, 3), (2, 3, 2)]
)
def test_the_ceiling_is_the_expected_score_of_the_best_of_all_answers(hidden, words, size):
    """Every subset of the words that may be in the answer stands against every right answer."""
    seen = [f"seen{n}" for n in range(words - hidden)]
    vocabularies = [[f"w{place}x{n}" for n in range(size)] for place in range(hidden)]
    right = [" ".join([*seen, *choice]) for choice in itertools.product(*vocabularies)]
    known = [*seen, *itertools.chain.from_iterable(vocabularies), "filler"]
    answers = (" ".join(c) for n in range(len(known) + 1) for c in itertools.combinations(known, n))
    best = max(sum(token_f1(answer, one) for one in right) / len(right) for answer in answers)
    assert 100 * best_f1(words - hidden, words, 1 / size) == pytest.approx(best)


def test_the_demo_s_ceiling_without_the_answer_in_sight_is_that_of_saying_every_word():
    assert best_f1(0, 2, 1 / 32) == pytest.approx(4 / 66), "one guess per word would be worth 1/32"
    assert (best_f1(1, 2, 1 / 32), best_f1(2, 2, 1 / 32), best_f1(0, 2, 0)) == (2 / 3, 1, 0)


def test_a_missing_prediction_is_named(data, tmp_path):
    predictions = perfect(data)
    predictions.pop("validation-3")
    with pytest.raises(ScoringError, match="validation-3"):
        run(data, tmp_path, predictions)
    assert not (tmp_path / "scores.json").exists()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Two reports, the second with two summaries."""
    folder = tmp_path_factory.mktemp("reports")
    rows = [
        {
            "id": "a",
            "input": "a report on the weather",
            "output": "The rain fell, and the sun did not shine.",
        },
        {
            "id": "b",
            "input": "a report on the sea",
            "output": ["A calm sea.", "The waves were high all day long."],
        },
    ]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "files": {split: str(folder / f"{split}.jsonl") for split in ("train", "validation")}
    }
    return make_data(
        folder / "made",
        {"source": "jsonl", "options": options},
        {"vocab_size": 400, "min_frequency": 1},
    )


def test_as_published_every_reference_counts_on_its_own_cut_and_normalised(reports, tmp_path):
    rows = load_split(reports / "tokens", "validation", None)
    tokenizer = load_tokenizer(reports / "bpe")
    published = {"text": "normalized", "references": "each", "max_reference_tokens": 8}
    cut = compared_texts(rows, tokenizer, published)
    assert list(cut) == ["a#0", "b#0", "b#1"]
    for id_, (text,) in cut.items():
        whole = compared_texts(rows, tokenizer, {**published, "max_reference_tokens": None})[id_][0]
        assert whole.startswith(text) and len(tokenizer(text)["input_ids"]) <= 8
    assert cut["b#1"][0] != "The waves were high all day long.", "longer than eight tokens"
    scored = {"metric": "rouge", "seq_len": 64, **published}
    perfect = {id_: text for id_, (text,) in cut.items()}
    found = run(reports, tmp_path, perfect, **scored)
    assert (found["examples"], found["rouge1"]) == (3, 100)
    with (tmp_path / "examples.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["id"], row["example"]) for row in rows] == [
        ("a#0", "a"),
        ("b#0", "b"),
        ("b#1", "b"),
    ]
    assert read_examples(tmp_path / "examples.csv").sample("score", "rouge_geometric_mean").ids == (
        "a",
        "b",
    )
    leads = read_examples(tmp_path / "examples.csv").sample("score_lead", "rouge_geometric_mean")
    assert leads.value == pytest.approx(found["score_lead"], abs=0.01)
    without = run(reports, tmp_path, {**perfect, "b#0": "calm sea"}, **scored)
    assert without["rouge1"] == 100, "articles and punctuation do not count"
    assert (
        run(reports, tmp_path, {**perfect, "b#0": "calm sea"}, **{**scored, "text": "raw"})[
            "rouge1"
        ]
        < 100
    )


def test_otherwise_the_best_of_whole_references_counts(reports, tmp_path):
    found = run(reports, tmp_path, {"a": "nothing", "b": "A calm sea."}, metric="rouge", seq_len=64)
    assert (found["examples"], found["rouge1"]) == (2, 50)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Labelled texts, as a classification dataset has them: one reference, the label."""
    folder = tmp_path_factory.mktemp("labels")
    given = {
        "train": ["bad", "bad", "bad", "good", "fair"],
        "validation": ["good", "bad", "good", "fair"],
    }
    for split, found in given.items():
        rows = [
            {"id": f"{split}-{n}", "input": f"a text, number {n}", "output": name}
            for n, name in enumerate(found)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"files": {split: str(folder / f"{split}.jsonl") for split in given}}
    made = make_data(
        folder / "made",
        {"source": "jsonl", "options": options},
        {"vocab_size": 400, "min_frequency": 1},
    )
    facts = json.loads((made / "dataset.json").read_text())
    for split, found in given.items():
        facts["splits"][split]["labels"] = {name: found.count(name) for name in sorted(set(found))}
    write_json(made / "dataset.json", {**facts, "labels": ["bad", "fair", "good"]})
    return made


def test_labels_are_scored_beside_the_majority_class(labels, tmp_path):
    said = {
        "validation-0": "good",
        "validation-1": "good",
        "validation-2": "good",
        "validation-3": "bad",
    }
    found = run(labels, tmp_path, said, task="classification", metric="macro_f1")
    # good: 2 right of 3 said and 2 there, F1 0.8; bad and fair: none right.
    assert (found["score_name"], found["score"], found["macro_f1"]) == (
        "macro_f1",
        26.6667,
        26.6667,
    )
    assert (found["accuracy"], found["majority"], found["score_lead"]) == (50, 25, None)
    assert found["examples"] == 4 and found["score_ceiling"] is None
    assert (found["score_ci_low"], found["score_ci_high"]) == (
        found["macro_f1_ci_low"],
        found["macro_f1_ci_high"],
    )
    assert found["accuracy_ci_low"] < 50 < found["accuracy_ci_high"]
    rows = list(csv.DictReader((tmp_path / "examples.csv").open()))
    one = {
        "id": "validation-1",
        "accuracy": "0.0",
        "label": "bad",
        "prediction": "good",
        "majority": "100.0",
    }
    assert rows[1] == one
    assert run(labels, tmp_path, said, task="classification", metric="accuracy")["score"] == 50


def test_a_label_that_was_not_predicted_is_named(labels, tmp_path):
    with pytest.raises(ScoringError, match=r"1 ids have no prediction.*validation-3"):
        said = {f"validation-{n}": "good" for n in range(3)}
        run(labels, tmp_path, said, task="classification", metric="accuracy")


@pytest.mark.parametrize("metric", ["rouge_unicode", "f1_unicode"])
@pytest.mark.parametrize("references", ["best", "each"])
def test_scores_of_other_scripts_can_be_paired_example_by_example(tmp_path, metric, references):
    rows = [
        {"id": "a", "input": "一份报告", "output": ["今天下雨。", "天气不好。"]},
        {"id": "b", "input": "एक रिपोर्ट", "output": ["समुद्र शांत था।"]},
    ]
    for split in ("train", "validation"):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    options = {
        "files": {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation")}
    }
    made = make_data(
        tmp_path / "made",
        {"source": "jsonl", "options": options},
        {"vocab_size": 400, "min_frequency": 1},
    )
    compared = {"references": references, "max_reference_tokens": None}
    texts = compared_texts(
        load_split(made / "tokens", "validation", None), load_tokenizer(made / "bpe"), compared
    )
    perfect = {id_: own[-1] for id_, own in texts.items()}
    found = run(made, tmp_path, perfect, metric=metric, seq_len=64, references=references)
    name = found["score_name"]
    assert found["score"] == found[name] == pytest.approx(100) and "rouge1" not in found
    examples = read_examples(tmp_path / "examples.csv")
    for column in ("score", name, *score_parts(name)):
        sample = examples.sample(column, name)
        assert sample.ids == ("a", "b") and sample.value == pytest.approx(100)
    assert examples.sample("score_lead", name).value == pytest.approx(found["score_lead"], abs=0.01)
