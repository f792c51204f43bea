"""Digests see meaning, not spelling; artefacts say what made them."""

import base64
import json
from pathlib import Path

import pytest

from longwatt import provenance
from longwatt.provenance import agrees, code_digest, digest, recorded_paths, stamp, work_identity, write_json


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A small package in longwatt's place: a script, what it uses, and what cannot change results."""
    (tmp_path / "models").mkdir()
    files = {
        "__init__.py": "",
        "work.py": '"""Doc."""\nfrom longwatt import deeper\nfrom longwatt.gpus import lease\nX = 1  # one\n',
        "deeper.py": "def f():\n    return 2\n",
        "gpus.py": "MESSAGE = 'wait'\n",
        "worker.py": "Y = 3\n",
        "unused.py": "Z = 4\n",
        "models/__init__.py": "",
        "models/led.py": "W = 5\n",
        "script.py": '"""Do."""\nfrom longwatt import work\n\nif __name__ == "__main__":\n    run("longwatt.worker")\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    return tmp_path


def digest_of(package: Path, *modules: str) -> str:
    for cached in (code_digest, provenance._source, provenance._meaning):
        cached.cache_clear()
    return code_digest(package / "script.py", modules)


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("work.py", "# one", "# uno", False),
        ("work.py", '"""Doc."""', '"""Other words."""', False),
        ("work.py", "X = 1", "X   =   1", False),
        ("work.py", "X = 1", "X = 2", True),
        ("deeper.py", "return 2", "return 3", True),
        ("worker.py", "Y = 3", "Y = 4", True),
        ("script.py", "run(", "start(", True),
        ("gpus.py", "wait", "waiting", False),
        ("unused.py", "Z = 4", "Z = 5", False),
        ("models/led.py", "W = 5", "W = 6", False),
    ],
)
def test_only_code_that_can_change_a_result_counts(package, name, old, new, counts):
    before = digest_of(package)
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))
    assert (digest_of(package) != before) == counts


def test_modules_given_by_name_count(package):
    before = digest_of(package, "longwatt.models.led")
    assert before != digest_of(package)
    (package / "models/led.py").write_text("W = 6\n")
    assert digest_of(package, "longwatt.models.led") != before


@pytest.fixture
def modules(root):
    """The modules of a rule's code."""

    def found_by(rule: str) -> set[str]:
        found, waiting = set(), [*provenance._references(root / f"workflow/scripts/{rule}.py")]
        while waiting:
            name = waiting.pop()
            path = provenance.module_path(name)
            if path and name not in found and name not in provenance.NOT_RESULTS:
                found.add(name)
                waiting += provenance._references(path)
        return found

    return found_by


def test_real_rules_see_what_they_must(modules):
    assert {"longwatt.training", "longwatt.sampling", "longwatt.metrics"} <= modules("finetune")
    assert {"longwatt.figures", "longwatt.gpus", "longwatt.inference"}.isdisjoint(modules("finetune"))
    assert "longwatt.training" not in modules("predict")
    assert {"longwatt.metrics", "longwatt.scoring"} <= modules("score")
    assert "longwatt.training" not in modules("score") | modules("plot")


def test_temperatures_rest_on_nothing_that_is_only_reported(modules):
    assert modules("calibrate") == {"longwatt.temperatures", "longwatt.exit_logits"}, "predictions follow each of them"
    assert {"longwatt.calibration", "longwatt.metrics.resampling"} <= modules("judge_calibration")
    assert "longwatt.temperatures" not in modules("judge_calibration")


FETCHING = {
    f"longwatt.{name}"
    for name in ("hub", "hub_requests", "models.download", "pretrained", "vocabulary", "tokenizer_files")
}


@pytest.mark.parametrize("rule", ["finetune", "probe_batch_size", "predict", "score", "tokenize_dataset"])
def test_how_files_are_fetched_is_no_part_of_what_is_made_from_them(rule, modules, root, monkeypatch):
    assert "longwatt.tokenization" in modules(rule) and modules(rule).isdisjoint(FETCHING)
    scripts, meaning = [root / f"workflow/scripts/{name}.py" for name in (rule, "make_tokenizer")], provenance._meaning
    before = [code_digest.__wrapped__(script) for script in scripts]
    edited = {provenance.module_path(name) for name in FETCHING}
    monkeypatch.setattr(provenance, "_meaning", lambda path: meaning(path) + "edited" * (path in edited))
    after = [code_digest.__wrapped__(script) for script in scripts]
    assert after[0] == before[0] and after[1] != before[1]


def test_a_stamp_is_checked_by_settings_and_code(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"score": 1, "provenance": stamp("score", {"a": 1}, "c0de")})
    assert agrees(path, {"a": 1}, ["c0de"])
    assert not agrees(path, {"a": 2}, ["c0de"])
    assert not agrees(path, {"a": 1}, ["beef"])
    assert agrees(path, {"a": 1}, ["beef", "c0de"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"provenance": 3}', "{"])
def test_an_artefact_without_a_stamp_agrees_with_nothing(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert not agrees(tmp_path / "a.json", {}, ["c0de"])


def test_snakemakes_records_are_read_by_name(tmp_path):
    long = "results/demo/" + "x" * 300
    for path in ("results/a/summary.csv", long):
        name = base64.urlsafe_b64encode(path.encode()).decode()
        parts = [name[i : i + 254] for i in range(0, len(name), 254)]
        target = tmp_path.joinpath(*("@" + p for p in parts[:-1]), parts[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}")
    (tmp_path / "not base64!").write_text("")
    assert recorded_paths(tmp_path) == {"results/a/summary.csv", long}
    assert recorded_paths(tmp_path / "absent") == set()


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "a.json", {"x": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_work_is_another_s_when_any_of_its_inputs_is_another(tmp_path):
    files = {name: tmp_path / f"{name}.json" for name in ("tokenized", "tokenizer", "checkpoint", "temperatures")}
    for path in files.values():
        path.write_text(json.dumps({"sha256": {"a": "1"}}))
    made_by = {"settings_digest": "s", "code_digest": "c"}
    paths = {name: str(path) for name, path in files.items()}
    before = work_identity(made_by, paths)
    for part, path in zip(("data", "tokenizer", "weights", "temperatures"), files.values(), strict=True):
        path.write_text(json.dumps({"sha256": {"a": "2"}}))
        after = work_identity(made_by, paths)
        assert [name for name in before if before[name] != after[name]] == [part]
        before = after
    assert "weights" not in work_identity(made_by, {name: paths[name] for name in ("tokenized", "tokenizer")})


def test_a_digest_does_not_depend_on_key_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_a_digest_is_the_same_under_every_python(tmp_path):
    source = (
        "def f(a, *, b=1) -> str:\n    match a:\n"
        '        case {"x": [y, *_]} if (z := y):\n'
        '            return f"{z!r:>{b}} {{{a}}}" "tail"\n'
    )
    (tmp_path / "s.py").write_text(source)
    # The same under Python 3.11, 3.12 and 3.13. Were it to change, every finished cell would be trained again.
    assert code_digest(tmp_path / "s.py") == "e0786b885def45b78e230d1d2f75978f0a974887867493722faca9b4fa6ed9b3"
