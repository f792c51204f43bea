"""Artefacts say what made them."""

import base64
import json

import pytest

from longwatt.files import sha256
from longwatt.provenance.identity import _DECIDING, work_identity
from longwatt.provenance.stamps import (
    agrees,
    digest,
    origin,
    recorded_paths,
    stamp,
    write_json,
)


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
    files = {
        name: tmp_path / f"{name}.json"
        for name in ("tokenized", "tokenizer", "checkpoint", "temperatures")
    }
    for path in files.values():
        path.write_text(json.dumps({"sha256": {"a": "1"}}))
    made_by = {"settings_digest": "s", "code_digest": "c"}
    paths = {name: str(path) for name, path in files.items()}
    before = work_identity(made_by, paths)
    for part, path in zip(
        ("data", "tokenizer", "weights", "temperatures"), files.values(), strict=True
    ):
        path.write_text(json.dumps({"sha256": {"a": "2"}}))
        after = work_identity(made_by, paths)
        assert [name for name in before if before[name] != after[name]] == [part]
        before = after
    assert "weights" not in work_identity(
        made_by, {name: paths[name] for name in ("tokenized", "tokenizer")}
    )


def test_another_chat_template_is_another_tokenizer(tmp_path):
    """A killed training must not go on with other prompts."""
    file, beside = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    file.write_text('{"model": {}}')

    def found() -> tuple[str, str]:
        made_by = {"settings_digest": "s", "code_digest": "c"}
        return work_identity(made_by, {"tokenizer": str(file)})["tokenizer"], origin(file)

    seen = [found()]
    assert seen[0][0] == sha256(file), "as before chat templates counted"
    beside.write_text('{"chat_template": "a"}')
    seen.append(found())
    beside.write_text('{"chat_template": "b"}')
    seen.append(found())
    (tmp_path / "chat_template.jinja").write_text("c")
    seen.append(found())
    assert all(len(set(digests)) == 4 for digests in zip(*seen, strict=True))


def test_a_digest_does_not_depend_on_key_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})


def test_the_first_cell_of_a_cascade_is_identified_as_any_other_is():
    first = {what: one for what, one in _DECIDING.items() if what.startswith("first ")}
    assert len(first) == 5
    for what, (name, read) in first.items():
        assert (name.removeprefix("first_"), read) == _DECIDING[what.removeprefix("first ")]
