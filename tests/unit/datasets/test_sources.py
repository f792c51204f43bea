"""Datasets from a SCROLLS mirror and from a user's own files, good and bad."""

import functools
import hashlib
import http.server
import json
import os
import threading
import zipfile
from pathlib import Path

import pytest

from longwatt import datasets
from longwatt.config.documents import validate
from longwatt.config.errors import StudyError
from longwatt.datasets import jsonl, scrolls
from longwatt.datasets.records import DatasetError, Record, download, read_records

FINE = b'{"id": "1", "input": "a long text", "output": "short"}\n'
QUERY = (
    b'{"id": "1", "pid": "1_0", "input": "What?\\n\\nA long text of words.", "output": "short"}\n'
)


def make_zip(folder: Path, task: str = "qmsum", **splits: bytes) -> Path:
    """A mirror's zip; without a word every split holds one row."""
    members = splits or dict.fromkeys(("train", "validation", "test"), QUERY)
    with zipfile.ZipFile(folder / f"{task}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for split, lines in members.items():
            archive.writestr(f"{task}/{split}.jsonl", lines)
    return folder / f"{task}.zip"


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(scrolls.MIRROR, str(tmp_path))
    return tmp_path


def own(path: Path, lines: bytes, **options) -> list[Record]:
    path.write_bytes(lines)
    return list(jsonl.read({"files": {"train": str(path)}, **options}).splits["train"])


# A user's own files


def test_own_files_become_records(tmp_path):
    lines = b'\xef\xbb\xbf{"id": 7, "input": "text", "output": ["one", "two"]}\n\n'
    lines += b'{"id": "b", "input": "t", "output": "x"}\n'
    assert own(tmp_path / "a.jsonl", lines) == [
        Record("7", "text", ("one", "two")),
        Record("b", "t", ("x",)),
    ]


def test_fields_may_have_other_names_and_a_query_goes_first(tmp_path):
    lines = b'{"question": "What?", "article": "Text.", "highlights": "Sum."}\n'
    fields = {"query": "question", "input": "article", "output": "highlights"}
    (record,) = own(tmp_path / "a.jsonl", lines, fields=fields)
    assert record == Record("1", "What?\n\nText.", ("Sum.",), document_start=7)
    assert record.input[record.document_start :] == "Text."


def test_rows_of_one_id_are_one_record_with_all_references(tmp_path):
    lines = b'{"id": "q", "input": "t", "output": "b"}\n{"id": "r", "input": "t", "output": "c"}\n'
    lines += b'{"id": "q", "input": "other", "output": "a"}\n'
    path = tmp_path / "a.jsonl"
    assert own(path, lines) == [Record("q", "t", ("b", "a")), Record("r", "t", ("c",))]
    (note,) = jsonl.read({"files": {"train": str(path)}}).notes
    assert "1 rows repeat an id with another input" in note and "line 3" in note


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (
            b'{"id": "2", "input": "x"}\n',
            r"a\.jsonl, line 2: the field 'output' is missing; the row has 'id', 'input'",
        ),
        (
            b'{"id": "2", "input": "x", "output": []}\n',
            "line 2: the field 'output' has no reference",
        ),
        (
            b'{"id": "2", "input": "x", "output": " "}\n',
            "line 2: the field 'output' has no reference",
        ),
        (
            b'{"id": "2", "input": "x", "output": null}\n',
            "line 2: .* holds null; SCROLLS hides the outputs of its test",
        ),
        (b'{"id": "2", "input": "x", "output": ["a", 3]}\n', "line 2: .* but holds a number"),
        (b'{"id": "2", "input": "", "output": "y"}\n', "line 2: the field 'input' is empty"),
        (
            b'{"id": "2", "input": ["x"], "output": "y"}\n',
            "line 2: the field 'input' must be text, but is a list",
        ),
        (
            b'{"id": true, "input": "x", "output": "y"}\n',
            "line 2: the field 'id' must be text or a whole number",
        ),
        (
            b'{"id": "2", "input": "x", "output": "y"\n',
            "line 2 is not JSON .*; one object per line is expected",
        ),
        (b'{"input": "x", "output": "y"}\n', "line 2: the field 'id' is missing"),
        (b'{"id": "2", "input": "\\ud800", "output": "y"}\n', "line 2 holds half of a character"),
        (b"[" * 100_000 + b"\n", "line 2 is not JSON"),
        (b'["x", "y"]\n', "line 2 must be a JSON object, but is a list"),
        (
            b'{"id": "2", "input": "\xff", "output": "y"}\n',
            "line 2 is not UTF-8 .* at byte 23 of the line",
        ),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, second, said):
    with pytest.raises(DatasetError, match=said):
        own(tmp_path / "a.jsonl", FINE + second)


def test_own_files_say_which_splits_they_have_and_what_is_missing(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(FINE)
    options = {
        "files": {"validation": str(tmp_path / "v.jsonl"), "train": str(tmp_path / "t.jsonl")}
    }
    assert datasets.splits("jsonl", options) == ("train", "validation")
    assert datasets.files("jsonl", options) == [
        str(tmp_path / "t.jsonl"),
        str(tmp_path / "v.jsonl"),
    ]
    assert "v.jsonl does not exist" in (datasets.missing("jsonl", options) or "")
    with pytest.raises(DatasetError, match=r"v\.jsonl cannot be read: No such file"):
        jsonl.read(options)


def test_an_empty_file_is_an_empty_split(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n")
    with pytest.raises(DatasetError, match=r"a\.jsonl has no rows: it is blank"):
        download(
            {"source": "jsonl", "options": {"files": {"train": str(tmp_path / "a.jsonl")}}},
            tmp_path / "out",
            {},
        )
    assert not (tmp_path / "out").exists()


def test_options_name_the_nearest(tmp_path):
    with pytest.raises(StudyError, match=r"unknown key 'trian' .did you mean 'train'"):
        validate({"files": {"trian": "x"}}, datasets.options_schema("jsonl"), "datasets.x.options")
    with pytest.raises(StudyError, match=r"'qmsun' is not known .did you mean 'qmsum'"):
        validate({"task": "qmsun"}, datasets.options_schema("scrolls"), "datasets.x.options")


# SCROLLS tasks from a mirror


def test_a_task_is_read_from_a_mirrors_zip(mirror):
    make_zip(mirror)
    data = scrolls.read({"task": "qmsum"})
    assert list(data.splits) == ["train", "validation"], "SCROLLS hides the outputs of test"
    (record,) = data.splits["train"]
    assert record == Record("1", "What?\n\nA long text of words.", ("short",), document_start=7)
    assert list(scrolls.read({"task": "qmsum", "splits": ["test", "train"]}).splits) == [
        "train",
        "test",
    ]


def test_a_task_without_queries_begins_with_its_document(mirror):
    make_zip(mirror, "gov_report")
    (record,) = scrolls.read({"task": "gov_report", "splits": ["train"]}).splits["train"]
    assert record.document_start == 0


def test_the_digest_is_checked_and_recorded(mirror):
    digest = hashlib.sha256(make_zip(mirror).read_bytes()).hexdigest()
    assert digest in scrolls.read({"task": "qmsum", "sha256": digest}).origin
    assert digest in scrolls.read({"task": "qmsum"}).origin
    with pytest.raises(
        DatasetError, match=f"qmsum.zip has the sha256 {digest}, but the study expects {'0' * 64}"
    ):
        scrolls.read({"task": "qmsum", "sha256": "0" * 64})


def test_where_a_mirror_is_makes_nothing_again(mirror):
    make_zip(mirror)
    assert datasets.files("scrolls", {"task": "qmsum"}) == []


def test_the_document_of_quality_begins_after_the_options(mirror):
    query = "Who did it?\n\n (A) one\n (B) two\n (C) three\n (D) four\n\n"
    text = query + "The article begins (D) here.\n\nMore."
    make_zip(
        mirror, "quality", train=json.dumps({"id": "1", "input": text, "output": "two"}).encode()
    )
    (record,) = scrolls.read({"task": "quality", "splits": ["train"]}).splits["train"]
    assert text[record.document_start :].startswith("The article begins")


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_zip_is_refused(mirror, kept):
    rows = b"".join(
        json.dumps({"id": str(n), "input": f"t{n * 7919}", "output": "o"}).encode() + b"\n"
        for n in range(999)
    )
    path = make_zip(mirror, train=rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DatasetError, match=r"qmsum\.zip is damaged or no zip .*; fetch it again"):
        scrolls.read({"task": "qmsum", "splits": ["train"]})


def test_a_corrupt_zip_is_refused(mirror):
    rows = b"".join(
        json.dumps({"id": str(n), "input": f"t{n * 7919}", "output": "o"}).encode() + b"\n"
        for n in range(999)
    )
    path = make_zip(mirror, train=rows)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(
        DatasetError, match=r"qmsum\.zip is damaged|qmsum/train\.jsonl, line \d+ is not"
    ):
        scrolls.read({"task": "qmsum", "splits": ["train"]})


def test_a_missing_split_names_those_there_are(mirror):
    make_zip(mirror, validation=QUERY)
    with pytest.raises(
        DatasetError,
        match=r"has no qmsum/train\.jsonl .it has qmsum/validation\.jsonl.; name the splits",
    ):
        scrolls.read({"task": "qmsum"})


def test_a_bad_row_is_named_by_zip_member_and_line(mirror):
    make_zip(mirror, train=QUERY + b'{"id": "2", "input": "x"}\n')
    with pytest.raises(
        DatasetError, match=r"qmsum\.zip:qmsum/train\.jsonl, line 2: the field 'output' is missing"
    ):
        scrolls.read({"task": "qmsum", "splits": ["train"]})


def test_what_is_missing_is_said_before_anything_runs(mirror, monkeypatch):
    make_zip(mirror, "qasper")
    assert "has no qmsum.zip; it has qasper.zip" in (
        datasets.missing("scrolls", {"task": "qmsum"}) or ""
    )
    assert datasets.missing("scrolls", {"task": "qasper"}) is None
    monkeypatch.delenv(scrolls.MIRROR)
    assert "no mirror is set to take qmsum.zip from" in (
        datasets.missing("scrolls", {"task": "qmsum"}) or ""
    )


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a path with `cut` in it loses its second half."""

    def log_message(self, *args):
        return

    def do_GET(self):
        if "cut" not in self.path:
            return super().do_GET()
        content = (Path(self.directory) / "qmsum.zip").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])


@pytest.fixture
def server(tmp_path):
    """The address of a mirror on this machine."""
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_mirror_may_be_a_url(tmp_path, server, monkeypatch):
    digest = hashlib.sha256(make_zip(tmp_path).read_bytes()).hexdigest()
    monkeypatch.setenv(scrolls.MIRROR, f"{server}/")
    assert datasets.missing("scrolls", {"task": "qmsum"}) is None
    data = scrolls.read({"task": "qmsum", "sha256": digest})
    assert len(data.splits["train"]) == 1 and server in data.origin
    with pytest.raises(
        DatasetError, match=r"qasper\.zip cannot be fetched .*404.*check the mirror's address"
    ):
        scrolls.read({"task": "qasper"})


def test_a_cut_transfer_is_an_error_and_no_data(tmp_path, server, monkeypatch):
    make_zip(tmp_path)
    monkeypatch.setenv(scrolls.MIRROR, f"{server}/cut")
    with pytest.raises(DatasetError, match="cannot be fetched"):
        scrolls.read({"task": "qmsum"})


def test_nobody_at_the_address_is_said(monkeypatch):
    monkeypatch.setenv(scrolls.MIRROR, "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match=r"cannot be fetched .*; check the mirror's address"):
        scrolls.read({"task": "qmsum"})


# What every dataset gets


def test_the_lead_is_as_long_as_a_training_reference_and_skips_the_query(mirror):
    rows = [
        {"id": "1", "input": "Which one?\n\none two  three\nfour five", "output": "a b c d"},
        {"id": "2", "input": "Which?\n\nsix seven", "output": "a b"},
    ]
    make_zip(mirror, train="".join(json.dumps(r) + "\n" for r in rows).encode())
    download(
        {"source": "scrolls", "options": {"task": "qmsum", "splits": ["train"]}}, mirror / "out", {}
    )
    assert [record.lead for _, record in read_records(mirror / "out/records.jsonl")] == [
        "one two three",
        "six seven",
    ]
    assert json.loads((mirror / "out/dataset.json").read_text())["lead_words"] == 3


def test_statistics_count_rows_as_scrolls_does(mirror):
    rows = [
        {"id": "1", "input": "a b c d", "output": "x"},
        {"id": "1", "input": "a b c d", "output": "y z"},
    ]
    rows.append({"id": "2", "input": "a", "output": "x y z"})
    make_zip(mirror, "gov_report", train="".join(json.dumps(r) + "\n" for r in rows).encode())
    download(
        {"source": "scrolls", "options": {"task": "gov_report", "splits": ["train"]}},
        mirror / "out",
        {},
    )
    facts = json.loads((mirror / "out/dataset.json").read_text())["splits"]
    assert facts == {
        "train": {
            "examples": 2,
            "rows": 3,
            "words_in_mean": 3,
            "words_in_max": 4,
            "words_out_mean": 2,
            "words_out_max": 3,
        }
    }


REAL = os.environ.get("LONGWATT_SCROLLS_MIRROR", "")


@pytest.mark.skipif(
    not Path(REAL, "qmsum.zip").is_file() or not REAL, reason="LONGWATT_SCROLLS_MIRROR is not set"
)
def test_the_whole_of_qmsum_has_the_published_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv(scrolls.MIRROR, REAL)
    options = {"task": "qmsum", "splits": ["train", "validation", "test"]}
    download({"source": "scrolls", "options": options}, tmp_path, {})
    facts = json.loads((tmp_path / "dataset.json").read_text())["splits"]
    assert [facts[split]["rows"] for split in options["splits"]] == [1257, 272, 281]

    def mean(name: str) -> float:
        return sum(facts[split][name] * facts[split]["rows"] for split in facts) / 1810

    assert mean("words_in_mean") == pytest.approx(10396, abs=1)
    assert mean("words_out_mean") == pytest.approx(69.7, abs=0.05)
