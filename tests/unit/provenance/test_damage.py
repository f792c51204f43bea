"""Torn, altered, empty or missing artefacts are named, never trusted, and made again."""

import gzip
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from longwatt.energy import log as energy_log
from longwatt.energy.artefacts import write_energy
from longwatt.energy.clock import Clock
from longwatt.energy.recorder import Order, header
from longwatt.files import sha256
from longwatt.inference.trained_models import ensure_sound, result_damage
from longwatt.provenance.artefacts import Damaged, check_beside, json_rows, read_artefact, read_from
from longwatt.provenance.stamps import write_json
from longwatt.results.summary import read_summary

FACTS = {
    "score": 41.25,
    "names": ["ä", 1],
    "by": {1: None, "x": 2},
    "provenance": {"rule": "score"},
}


def refused(name: str, why: str):
    """Expect that a damaged file is named, with a pattern of the cause and the cure."""
    return pytest.raises(Damaged, match=rf"{re.escape(name)} is damaged \({why}")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "altered": lambda path: path.write_bytes(path.read_bytes().replace(b"41.25", b"45.25")),
    "zeroed": lambda path: path.write_bytes(bytes(100)),
    "not text": lambda path: path.write_bytes(b'{"a": "\xff"}'),
    "another value": lambda path: path.write_text("[1]"),
    "a folder": folder_instead,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_json_is_named_and_set_aside_for_the_next_run(tmp_path, damage):
    path = tmp_path / "scores.json"
    write_json(path, FACTS)
    assert read_artefact(path)["score"] == 41.25
    DAMAGES[damage](path)
    with refused("scores.json", r".+\); .*run again, and it is made again") as said:
        read_artefact(path)
    assert not path.exists(), "the next run misses it"
    assert ("renamed to scores.json.damaged" in str(said.value)) == (damage != "gone")


def test_what_all_cells_rest_on_stays_for_the_user_to_decide(tmp_path):
    write_json(tmp_path / "dataset.json", {**FACTS, "sha256": {"records.jsonl": "0"}})
    (tmp_path / "records.jsonl").write_text("{}\n")
    with refused("records.jsonl", ".*put a sound copy back, or remove it"):
        check_beside(tmp_path / "dataset.json", tmp_path / "records.jsonl", shared=True)
    assert (tmp_path / "records.jsonl").exists()


def test_an_artefact_of_before_has_no_digest_and_is_read(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(FACTS))
    assert read_artefact(tmp_path / "old.json")["score"] == 41.25
    check_beside(tmp_path / "none.json", tmp_path / "old.json")


@pytest.mark.parametrize("damage", ["gone", "empty", "torn", "altered", "a folder"])
def test_predictions_that_are_not_what_was_predicted_are_never_scored(tmp_path, damage):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "a", "prediction": "41.25"}\n{"id": "b", "prediction": "x"}\n')
    write_json(tmp_path / "inference.json", {"sha256": {path.name: sha256(path)}, "provenance": {}})
    DAMAGES[damage](path)
    with refused("predictions.jsonl", ".*run again, and it is made again"):
        check_beside(tmp_path / "inference.json", path)
    assert not path.exists()


def test_a_torn_line_and_a_row_without_its_field_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id')
    with refused("rows.jsonl", "line 2 is not JSON"):
        list(json_rows(path))
    path.write_text("{}\n")
    with pytest.raises(Damaged, match="KeyError: 'id'"), read_from(path):
        print([row["id"] for row in json_rows(path)])


@pytest.fixture
def cell(tmp_path) -> Path:
    """Make a trained cell, whose published files are those of its work folder's result."""
    kept = tmp_path / "work/result"
    (kept / "model").mkdir(parents=True)
    (kept / "model/model.safetensors").write_bytes(os.urandom(5000))
    (kept / "model/config.json").write_text("{}")
    names = ("model/model.safetensors", "model/config.json")
    facts = {"sha256": {name: sha256(kept / name) for name in names}, "provenance": {}}
    write_json(kept / "training.json", facts)
    shutil.copytree(kept, tmp_path / "finetune", copy_function=os.link)
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)


def paths_of(cell: Path) -> dict[str, str]:
    return {"model": str(cell / "finetune/model"), "training": str(cell / "finetune/training.json")}


def test_a_model_with_one_flipped_bit_is_set_aside_with_its_cure(cell):
    ensure_sound(paths_of(cell))
    flip(cell / "finetune/model/model.safetensors")
    same_file = result_damage(cell / "work/result")
    assert "model.safetensors is damaged" in same_file
    with refused("model.safetensors", ".*run again, and the cell is trained again"):
        ensure_sound(paths_of(cell))
    assert (cell / "finetune/model.damaged").is_dir() and not (cell / "finetune/model").exists()


@pytest.mark.parametrize("damage", [Path.unlink, flip])
def test_a_sound_copy_takes_a_damaged_file_s_place(cell, damage):
    path = cell / "finetune/model/model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    damage(path)
    ensure_sound(paths_of(cell))
    assert path.read_bytes() == content and result_damage(cell / "work/result") == ""


def test_a_summary_that_was_altered_is_drawn_by_nothing(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text("cell,score\na,41.25\n")
    write_json(tmp_path / "summary.json", {"sha256": sha256(path), "provenance": {}})
    assert read_summary(path)["score"].tolist() == [41.25]
    DAMAGES["altered"](path)
    with refused("summary.csv", "its SHA-256 .*run again"):
        read_summary(path)


@pytest.fixture
def log(tmp_path) -> Path:
    """Make a published energy log, and the runs that it is made from."""
    run = tmp_path / "work/predict-p/energy/1.jsonl"
    run.parent.mkdir(parents=True)
    energy_log.append(run, header(Order(str(run)), Clock()))
    for number in range(300):
        energy_log.append(run, {"t": number, "cpu_s": number / 7})
    target = tmp_path / "predict/p/energy.jsonl.gz"
    energy_log.publish([run], target, {})
    return target


def reduce(log: Path) -> dict:
    energy, power = log.with_name("energy.json"), log.with_name("power.csv")
    write_energy(log, {"watts_per_core": None}, energy, power, {})
    return read_artefact(energy)


GZIP = b"\x1f\x8b"  # begins every part
LOG_DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "cut between parts": lambda path: path.write_bytes(path.read_bytes().rpartition(GZIP)[0]),
    "flipped": flip,
    "no gzip": lambda path: path.write_text("<html>"),
    "a folder": folder_instead,
}


@pytest.mark.parametrize("damage", LOG_DAMAGES)
def test_a_damaged_energy_log_is_made_again_from_its_runs(log, damage):
    whole, text = reduce(log), gzip.decompress(log.read_bytes())
    LOG_DAMAGES[damage](log)
    if damage != "a folder":
        assert reduce(log) == whole and gzip.decompress(log.read_bytes()) == text
        LOG_DAMAGES[damage](log)
    shutil.rmtree(log.parents[2] / "work")
    with refused("energy.jsonl.gz", ".*run again, and its job is done again"):
        reduce(log)


def test_a_log_of_before_has_no_end_and_is_read(log):
    old = b"".join(gzip.decompress(log.read_bytes()).splitlines(keepends=True)[1:-1])
    log.write_bytes(gzip.compress(old))
    assert energy_log.damage_of(log) == "" and reduce(log)["problems"] == reduce(log)["problems"]
