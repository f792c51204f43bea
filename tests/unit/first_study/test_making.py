"""Studies that are written from odd files validate, and nothing is ever written over."""

import gzip
import json
import subprocess
import sys

import pytest

from longwatt.config.documents import read_yaml
from longwatt.config.studies import read_study
from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.fields import Asked
from longwatt.hub import client
from longwatt.readiness.data_rows import look_at_data
from longwatt.study.checks import checked_stages
from tests.conftest import ROOT
from tests.unit.first_study.made_rows import (
    GPU,
    labelled_rows,
    lines,
    question_rows,
    written,
)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(question_rows()), encoding="utf-8")
    return path


def study_of(folder, made):
    """The study as it is read, after all checks that need no results."""
    study = read_study(folder / f"studies/{made.study}.yaml")
    checked_stages(made.study, study, {})
    return study


def the_only(part):
    (value,) = part.values()
    return value


def test_sixty_rows_become_a_study_that_validates(tmp_path, rows, monkeypatch):
    folder = tmp_path / "my-study"
    made = written(folder, rows)
    monkeypatch.chdir(folder)
    study = study_of(folder, made)
    dataset = the_only(study["datasets"])
    assert dataset["metric"] == "f1" and dataset["source"] == "jsonl"
    assert dataset["options"]["fields"] == {
        "input": "report", "output": "answers", "query": "question",
    }  # fmt: skip
    facts = look_at_data("jsonl", dataset["options"], None)
    assert facts.rows == {"train": 42, "validation": 9, "test": 9} and not facts.problems
    assert made.kept == [] and sorted(made.written) == sorted([
        "data/train.jsonl", "data/validation.jsonl", "data/test.jsonl", "studies/my_study.yaml",
        "config.yaml", ".gitignore", "README.md",
    ])  # fmt: skip


def test_config_is_the_shipped_one_with_this_study(tmp_path, rows):
    written(tmp_path / "a", rows)
    ours, theirs = (read_yaml(one / "config.yaml") for one in (tmp_path / "a", ROOT))
    assert ours == {**theirs, "study": "a"}
    text = (tmp_path / "a/config.yaml").read_text()
    assert "# Watts per busy core" in text and "$schema" not in text


def test_every_block_of_a_study_says_what_to_change(tmp_path, rows):
    written(tmp_path / "a", rows)
    text = (tmp_path / "a/studies/a.yaml").read_text()
    for part in ("datasets", "models", "budgets", "training", "inference", "answer", "grid"):
        before = text[: text.index(f"\n{part}:")].splitlines()[-1]
        assert before.startswith("#"), part
    assert "RANDOM weights" in text and "estimated" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("made_of", [question_rows(), labelled_rows(), [
    {"text": "much more than ever was said before " * 20, "summary": f"It is {n}."}
    for n in range(60)
]])  # fmt: skip
def test_the_claim_in_the_comment_is_one_that_the_study_could_make(made_of, tmp_path, monkeypatch):
    for number, row in enumerate(made_of):
        row["text" if "text" in row else "report"] += f" {number}"
    (tmp_path / "rows.jsonl").write_text(lines(made_of))
    made = written(tmp_path / "a", tmp_path / "rows.jsonl")
    monkeypatch.chdir(tmp_path / "a")
    path = tmp_path / "a/studies/a.yaml"
    head, mark, claim = path.read_text().partition("# claims:")
    path.write_text(head + (mark + claim).replace("\n# ", "\n").replace("# claims", "claims"))
    assert len(study_of(tmp_path / "a", made)["claims"]) == 1


ODD_FILES = {
    "mark.jsonl": ("\ufeff" + lines(question_rows())).encode(),
    "windows.jsonl": lines(question_rows()).replace("\n", "\r\n").encode(),
    "gaps.jsonl": lines(question_rows()).replace("\n", "\n\n  \n").encode(),
    "no_end.jsonl": lines(question_rows()).rstrip("\n").encode(),
    "packed.jsonl.gz": gzip.compress(lines(question_rows()).encode()),
    "few.jsonl": lines(question_rows(3)).encode(),
    "empty_rows.jsonl": (lines([{"report": "", "answers": []}] * 2 + question_rows())).encode(),
    "clashing.jsonl": lines([{**row, "id": "same"} for row in question_rows()]).encode(),
    "wide.jsonl": lines([{**row, "report": f"{row['report']} {'a b ' * 50_000}"}
                         for row in question_rows(4)]).encode(),
    "numbers.jsonl": lines([{"text": f"{n} and {n}", "sum": 2 * n} for n in range(60)]).encode(),
    "squad.jsonl": lines([{"context": row["report"], "question": "Which?",
                           "answers": {"text": row["answers"], "answer_start": [4]}}
                          for row in question_rows()]).encode(),
    "unicode.jsonl": lines([{"テキスト": row["report"], "答え": "エルベ川です"}
                            for row in question_rows()]).encode(),
    "odd: name's \"#\".jsonl": lines([{'a "b": c': row["report"], "- #x": "y z w"}
                                      for row in question_rows()]).encode(),
    "chat.jsonl": lines([{"messages": [{"role": "user", "content": row["report"]},
                                       {"role": "assistant", "content": row["answers"][0]}]}
                         for row in question_rows()]).encode(),
    "table.csv": ("Text;x,Antwort\n" + "".join(f'"Der Fluss, Nr. {n}, stieg.",Fluss {n}\n'
                                               for n in range(30))).encode("utf-8-sig"),
    "table.tsv": ("text\tlabel\n" + "".join(f"good {n}\t{n % 2}\n" for n in range(30))).encode(),
    "labels.jsonl": lines(labelled_rows()).encode(),
    "bools.jsonl": lines([{**row, "label": row["label"] == "yes"} for row in labelled_rows()])
    .encode(),
    "pairs.jsonl": lines([{**row, "question": "Is it good?"} for row in labelled_rows()]).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_FILES)
def test_odd_files_become_studies_whose_rows_can_all_be_read(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(ODD_FILES[name])
    folder = tmp_path / "out"
    made = written(folder, tmp_path / name)
    monkeypatch.chdir(folder)
    study = study_of(folder, made)
    dataset = the_only(study["datasets"])
    facts = look_at_data(dataset["source"], dataset["options"], dataset.get("task"))
    assert facts.problems == []
    assert set(facts.rows) == {"train", "validation", "test"}
    longest = max(map(len, (folder / f"studies/{made.study}.yaml").read_text().splitlines()))
    assert longest <= 100


def test_empty_rows_are_left_out_and_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ODD_FILES["empty_rows.jsonl"])
    made = written(tmp_path / "a", path)
    assert "2 rows without an input or an output were left out." in made.did


def test_rows_that_are_written_anew_say_why(tmp_path):
    for name, why in {
        "chat.jsonl": "messages is split into input and output",
        "table.csv": "texts are read from JSON lines",
        "numbers.jsonl": "outputs that are numbers are written as text",
        "clashing.jsonl": "rows are numbered",
        "squad.jsonl": "fields inside objects are put beside the others",
    }.items():
        (tmp_path / name).write_bytes(ODD_FILES[name])
        made = written(tmp_path / name.partition(".")[0], tmp_path / name)
        assert any(why in line for line in made.did), name


def test_rows_that_are_split_alone_keep_all_they_had(tmp_path, rows):
    written(tmp_path / "a", rows)
    kept = [
        json.loads(line)
        for split in ("train", "validation", "test")
        for line in (tmp_path / f"a/data/{split}.jsonl").read_text().splitlines()
    ]
    assert sorted(kept, key=str) == sorted(question_rows(), key=str)


def three_files(folder):
    folder.mkdir()
    for split, part in {"train": 40, "dev": 10, "test": 10}.items():
        (folder / f"my-{split}.jsonl").write_text(lines(question_rows(60)[:part]))
    return folder


def test_a_folder_of_splits_is_read_where_it_lies(tmp_path, monkeypatch):
    data = three_files(tmp_path / "data")
    made = written(tmp_path, data, study="mine")
    monkeypatch.chdir(tmp_path)
    files = the_only(study_of(tmp_path, made)["datasets"])["options"]["files"]
    assert files == {"train": "data/my-train.jsonl", "validation": "data/my-dev.jsonl",
                     "test": "data/my-test.jsonl"}  # fmt: skip
    assert not any(one.startswith("data/") for one in made.written)
    # Its rows repeat on purpose.
    assert any("the same text" in line or "a document that" in line for line in made.did)


def test_a_split_that_is_missing_comes_out_of_the_training_rows(tmp_path, rows):
    test = tmp_path / "other.jsonl"
    test.write_text(lines(question_rows(5)))
    made = written(tmp_path / "a", f"train={rows}", f"test={test}")
    study = read_study(tmp_path / "a/studies/a.yaml")
    files = the_only(study["datasets"])["options"]["files"]
    assert files["train"] == "data/train.jsonl" and files["test"] == str(test)
    assert any("51 train, 9 validation" in line for line in made.did)


def test_the_command_that_a_csv_with_semicolons_needs_makes_it_readable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = "\ufefftext;answer\n" + "".join(f"a, “{n}”;the {n}\n" for n in range(60))
    (tmp_path / "my semi.csv").write_text(texts, encoding="utf-8")
    with pytest.raises(FirstStudyError) as refused:
        written(tmp_path / "out", "my semi.csv")
    command = str(refused.value).partition("JSON lines: ")[2]
    subprocess.run(["bash", "-c", command.replace("python", sys.executable, 1)], check=True)
    begun = (tmp_path / "my semi.jsonl").read_text(encoding="utf-8")
    assert begun.startswith('{"text": "a, “0”", "answer": "the 0"}\n')
    assert written(tmp_path / "out", "my semi.jsonl").written


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (["nowhere.jsonl"], "does not exist"),
        (["gone/rows.jsonl"], "there is no folder gone"),
        (["notes.txt"], "must end in .jsonl"),
        (["list.json"], "is one JSON list, .* make it so: python -c"),
        (["semi.csv"], "semicolons part the fields .* commas are expected; .*python -c"),
        (["comma.tsv"], "commas part the fields .* tabs are expected"),
        (["bad.jsonl"], r"bad.jsonl, line 2 is not JSON"),
        (["latin.jsonl"], "not UTF-8.*iconv"),
        (["blank.jsonl"], "no rows|empty"),
        (["one.jsonl"], "1 rows with 1 different inputs cannot be split"),
        (["a.jsonl", "b.jsonl"], "its name does not say which split"),
        (["train.jsonl", "training.jsonl"], "is the train split already"),
        (["test=a.jsonl"], "names no training split"),
        (["exported"], "save_to_disk"),
        (["hollow"], "a folder without data files"),
        (["page.jsonl"], "web page"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_what_to_do(data, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = {
        "notes.txt": b"a\n", "list.json": b'\n [{"a": 1}]', "blank.jsonl": b"\n\n",
        "semi.csv": b"\xef\xbb\xbftext;answer\na, b;b\n", "comma.tsv": b"text,answer\na,b\n",
        "bad.jsonl": b'{"text": "a", "answer": "b"}\n{"text": \n',
        "latin.jsonl": '{"text": "Fl\xfcsse", "answer": "a"}'.encode("latin-1"),
        "one.jsonl": b'{"text": "a b", "answer": "b"}\n', "page.jsonl": b"<!DOCTYPE html><html>",
        **dict.fromkeys(("a.jsonl", "b.jsonl", "train.jsonl", "training.jsonl"),
                        lines(question_rows(6)).encode()),
    }  # fmt: skip
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/dataset_dict.json").write_text("{}")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(FirstStudyError, match=words):
        written(tmp_path / "out", *data)
    assert not (tmp_path / "out").exists()


def test_rows_that_the_first_job_would_refuse_are_all_named_and_nothing_stays(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = question_rows(40)
    rows[11], rows[13] = {"id": "x"}, {**rows[13], "answers": [1]}
    (data / "train.jsonl").write_text(lines(rows) + "{\n")
    for split in ("validation", "test"):
        (data / f"{split}.jsonl").write_text(lines(question_rows(5)))
    with pytest.raises(FirstStudyError) as refused:
        written(tmp_path / "a", data)
    for line in ("line 12: the field 'question' is missing", "line 14: ", "line 41 is not JSON"):
        assert line in str(refused.value) or "line 41" in str(refused.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("there", ["studies/a.yaml", "data/train.jsonl", "data/test.jsonl"])
def test_nothing_is_written_over(there, tmp_path, rows):
    path = tmp_path / "a" / there
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(FirstStudyError, match=r"is there already.*nothing was written"):
        written(tmp_path / "a", rows)
    assert [p for p in (tmp_path / "a").rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "mine"


def test_files_of_the_folder_itself_stay_as_they_are(tmp_path, rows):
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("README.md", "config.yaml", ".gitignore"):
        (folder / name).write_text("mine\n")
    made = written(folder, rows)
    assert sorted(made.kept) == [".gitignore", "README.md", "config.yaml"]
    assert {(folder / name).read_text() for name in made.kept} == {"mine\n"}


def test_own_files_where_splits_usually_lie_stay_as_they_are(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.jsonl").write_text(lines(question_rows()))
    made = written(tmp_path, data / "train.jsonl", study="mine")
    monkeypatch.chdir(tmp_path)
    files = the_only(study_of(tmp_path, made)["datasets"])["options"]["files"]
    assert files["train"] == "data/mine/train.jsonl"
    assert (data / "train.jsonl").read_text() == lines(question_rows())


def test_an_interrupted_start_leaves_nothing_in_the_way(tmp_path, rows, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("longwatt.first_study.making.look_at_data", interrupt)
        written(tmp_path / "a", rows)
    assert not (tmp_path / "a").exists() and rows.exists()
    assert written(tmp_path / "a", rows)


def test_a_second_study_stands_beside_the_first(tmp_path, rows, monkeypatch):
    written(tmp_path / "a", rows)
    made = written(tmp_path / "a", rows, study="second")
    monkeypatch.chdir(tmp_path / "a")
    files = the_only(study_of(tmp_path / "a", made)["datasets"])["options"]["files"]
    assert files["train"] == "data/second/train.jsonl" and "config.yaml" in made.kept
    with pytest.raises(FirstStudyError, match=r"second/train\.jsonl is there already"):
        written(tmp_path / "a", rows, study="second")


@pytest.mark.parametrize(
    ("folder", "name"),
    [("2024", "2024"), ("no", "no"), ("été à la mer", "ete_a_la_mer"), ("水", "mine"),
     ("null", "null"), ("a.b-c", "a_b_c")],
)  # fmt: skip
def test_a_folder_of_any_name_gives_a_study_a_name(folder, name, tmp_path, rows, monkeypatch):
    made = written(tmp_path / folder, rows)
    monkeypatch.chdir(tmp_path / folder)
    assert made.study == name and study_of(tmp_path / folder, made)
    assert str(read_yaml(tmp_path / folder / "config.yaml")["study"]) == name


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, rows):
    with pytest.raises(FirstStudyError, match="is a file, but a folder"):
        written(rows, rows)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"task": "translation"}, "--task translation: give text or classification"),
        ({"metric": "rogue"}, "did you mean 'rouge'"),
        ({"metric": "macro_f1"}, "does not fit outputs that are texts"),
        ({"study": "../up"}, "a study's name has letters"),
        ({"family": "let"}, "--family let is not known.*'led'"),
        ({"model": "nowhere"}, "there is no such folder.*tiny .random weights"),
        ({"model": "minilm"}, "is an encoder, but the output of the rows is texts"),
        ({"fields": Asked(input="reprot")}, "did you mean 'report'"),
    ],
)
def test_words_that_mean_nothing_are_refused(more, words, tmp_path, rows):
    with pytest.raises(FirstStudyError, match=words):
        written(tmp_path / "a", rows, **more)
    assert not (tmp_path / "a").exists()


def test_labels_get_an_encoder_with_exits_and_its_standard(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text(lines(labelled_rows()))
    made = written(tmp_path / "a", tmp_path / "rows.jsonl")
    monkeypatch.chdir(tmp_path / "a")
    study = study_of(tmp_path / "a", made)
    assert the_only(study["datasets"])["task"] == "classification"
    assert [m["exits"]["layers"] for m in study["models"].values()] == [[0, 1, 2, 3], [3]]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("made_of", "name", "family", "words"),
    [
        (question_rows(), "org/some-llama", "causal", "lora: {rank: 16"),
        (question_rows(), "google/flan-t5-small", "seq2seq", "weights: initial"),
        (labelled_rows(), "org/some-bert", "early_exit", "12 layers are assumed"),
    ],
)
def test_models_of_a_hub_that_is_out_of_reach_make_studies_too(
    made_of, name, family, words, tmp_path, monkeypatch
):
    def unreachable(*_):
        raise client.HubUnreachable("no connection")

    monkeypatch.setattr(client, "check_files", unreachable)
    (tmp_path / "rows.jsonl").write_text(lines(made_of))
    made = written(tmp_path / "a", tmp_path / "rows.jsonl", model=name, revision=COMMIT)
    monkeypatch.chdir(tmp_path / "a")
    models = study_of(tmp_path / "a", made)["models"].values()
    assert {one["family"] for one in models} == {family}
    text = " ".join((tmp_path / "a/studies/a.yaml").read_text().replace("#", "").split())
    assert words in text and "guessed from the name" in text


def test_a_machine_with_gpus_gets_the_largest_batch_and_a_fixed_step(tmp_path, rows, monkeypatch):
    made = written(tmp_path / "a", rows, machine=GPU)
    monkeypatch.chdir(tmp_path / "a")
    budget = the_only(study_of(tmp_path / "a", made)["budgets"])
    assert budget["per_device_batch_size"] == "largest" and budget["gpus"] == 1
    assert budget["effective_batch_size"] == 16


def test_without_rows_to_spare_steps_are_no_larger_than_the_training_split(tmp_path):
    (tmp_path / "rows.jsonl").write_text(lines(question_rows(5)))
    made = written(tmp_path / "a", tmp_path / "rows.jsonl")
    budget = the_only(read_study(tmp_path / f"a/studies/{made.study}.yaml")["budgets"])
    assert budget["per_device_batch_size"] == 2
