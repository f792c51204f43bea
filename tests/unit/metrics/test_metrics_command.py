"""`python -m longwatt.metrics`: anyone's predictions scored as SCROLLS scores them."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from longwatt.datasets import aclsum
from longwatt.metrics import rouge
from longwatt.metrics.__main__ import main
from tests.unit.datasets.test_sources import REAL
from tests.unit.metrics.test_scores import PREDICTIONS, REFERENCES

ROWS = "".join(
    json.dumps({"id": i, "input": "x", "output": t}) + "\n"
    for i, ts in REFERENCES.items()
    for t in ts
)


def call(folder: Path, task: str, predictions=PREDICTIONS, references: str = ROWS) -> int:
    given = predictions if isinstance(predictions, bytes) else json.dumps(predictions).encode()
    (folder / "p.json").write_bytes(given)
    (folder / "r.jsonl").write_text(references)
    return main(
        [
            "--task",
            task,
            "--predictions",
            str(folder / "p.json"),
            "--references",
            str(folder / "r.jsonl"),
        ]
    )


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            "rouge",
            {
                "rouge1": 72.2222,
                "rouge2": 33.3333,
                "rougeL": 72.2222,
                "rouge_geometric_mean": 55.8136,
            },
        ),
        ("f1", {"f1": 72.2222}),
        ("exact_match", {"exact_match": 33.3333}),
        ("accuracy", {"accuracy": 33.3333}),
    ],
)
def test_the_golden_case_is_printed_as_json(tmp_path, capsys, task, expected):
    assert call(tmp_path, task) == 0
    assert json.loads(capsys.readouterr().out) == {"task": task, "examples": 3, **expected}


@pytest.mark.parametrize(
    ("predictions", "references", "said"),
    [
        ({"a": "x"}, ROWS, "2 ids have no prediction; predict every example of the split: b, c"),
        ({**PREDICTIONS, "zz": "x"}, ROWS, "1 ids are predicted but have no reference"),
        ({**PREDICTIONS, "a": None}, ROWS, "p.json: the prediction of 'a' must be text"),
        (["x"], ROWS, "p.json must hold one JSON object, id: text, but holds a list"),
        (b'{"a": "x"', ROWS, "p.json is not JSON"),
        (b'{"a": "x", "a": "y"}', ROWS, "'a' is there twice"),
        (b'{"a": "\xff"}', ROWS, "p.json is not UTF-8"),
        (PREDICTIONS, ROWS + '{"id": "d"}\n', "r.jsonl, line 5: the field 'output' is missing"),
        (PREDICTIONS, ROWS + "{\n", "r.jsonl, line 5 is not JSON"),
    ],
)
def test_bad_input_is_named_without_a_traceback(tmp_path, capsys, predictions, references, said):
    assert call(tmp_path, "rouge", predictions, references) == 1
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""


def test_a_missing_file_and_an_unknown_task_are_named(tmp_path, capsys):
    assert (
        main(
            ["--task", "f1", "--predictions", str(tmp_path / "no.json"), "--references", "no.jsonl"]
        )
        == 1
    )
    assert "no.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(tmp_path, "bleu")
    assert "'rouge'" in capsys.readouterr().err


def test_it_is_a_command(tmp_path):
    call(tmp_path, "f1")
    arguments = ["--task", "f1", "--predictions", "p.json", "--references", "r.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "longwatt.metrics", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["f1"] == 72.2222


def compare(pairs: list[tuple[str, str]]) -> float:
    """Assert equality with rouge-score, bit by bit; how many times faster ours is."""
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    start = time.perf_counter()
    theirs = [scorer.score(reference, prediction) for prediction, reference in pairs]
    middle = time.perf_counter()
    ours = [rouge(prediction, reference) for prediction, reference in pairs]
    end = time.perf_counter()
    assert ours == [
        {name: 100 * score.fmeasure for name, score in scores.items()} for scores in theirs
    ]
    return (middle - start) / (end - middle)


def test_rouge_equals_rouge_score_on_real_texts_and_is_much_faster():
    papers = aclsum.read({}).splits["validation"]
    pairs = [
        (record.input[:2500], other.input[:2500])
        for record, other in zip(papers[::10], papers[3::10], strict=True)
    ]
    pairs += [(record.input[:600], record.references[0]) for record in papers]
    assert compare(pairs) > 5


@pytest.mark.skipif(
    not REAL or not Path(REAL, "gov_report.zip").is_file(),
    reason="LONGWATT_SCROLLS_MIRROR is not set",
)
def test_rouge_equals_rouge_score_on_gov_report():
    with zipfile.ZipFile(Path(REAL, "gov_report.zip")) as archive:
        lines = [line for name in archive.namelist() for line in archive.open(name)]
    rows = [json.loads(line) for line in lines]
    compare([(row["input"][:3000], row["output"]) for row in rows])


def test_macro_f1_of_labels_is_printed_and_wants_one_label_each(tmp_path, capsys):
    rows = "".join(
        json.dumps({"id": i, "output": label}) + "\n"
        for i, label in (("1", "a"), ("2", "a"), ("3", "b"))
    )
    assert call(tmp_path, "macro_f1", {"1": "a", "2": "a", "3": "a"}, rows) == 0
    assert json.loads(capsys.readouterr().out) == {
        "task": "macro_f1",
        "examples": 3,
        "macro_f1": 40.0,
    }
    assert (
        call(tmp_path, "macro_f1", {"1": "a"}, rows + json.dumps({"id": "1", "output": "b"})) == 1
    )
    assert "macro_f1 wants one label for each id, but '1' has several" in capsys.readouterr().err
