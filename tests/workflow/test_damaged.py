"""Damaged files among finished results: a run names them and the cure, the next mends them."""

import pytest

from tests.conftest import TINY_STUDY
from tests.workflow.conftest import Project

ONE_CELL = TINY_STUDY.replace("seq_lens: [32, 64]", "seq_lens: [64]")
POINT = "results/tiny/needle/led/64/cpu/generated/seed1/predict/greedy"
SCORES, ENERGY = f"{POINT}/scores.json", f"{POINT}/energy.json"


@pytest.mark.long
def test_a_damaged_file_is_named_by_the_run_and_made_again_by_the_next(tmp_path):
    project = Project.create(tmp_path / "project", ONE_CELL)
    project.run(SCORES, ENERGY)
    folder = project.path / POINT
    scores, predicted = (
        (folder / "scores.json").read_bytes(),
        (folder / "predictions.jsonl").read_bytes(),
    )

    (folder / "predictions.jsonl").write_bytes(predicted[: len(predicted) // 2])
    (folder / "scores.json").unlink()
    said = project.run(SCORES, ok=False)
    assert f"{POINT}/predictions.jsonl is damaged (its SHA-256 is not what was written)" in said
    assert "was renamed to predictions.jsonl.damaged: run again, and it is made again" in said
    said = project.run(SCORES)
    assert "12 of them predicted by an earlier attempt" in said or "earlier attempt" in said, (
        "nothing is predicted again"
    )
    assert (folder / "predictions.jsonl").read_bytes() == predicted
    assert len((folder / "scores.json").read_bytes()) == len(scores)

    log = folder / "energy.jsonl.gz"
    log.write_bytes(log.read_bytes()[:300])
    (folder / "energy.json").unlink()
    project.run(ENERGY)
    assert "is damaged" in (project.logs(64) / "predict/greedy/energy.log").read_text()

    weights = project.cell(64) / "finetune/model/model.safetensors"
    whole = weights.read_bytes()
    with weights.open("r+b") as stream:
        stream.seek(len(whole) // 2)
        stream.write(bytes([whole[len(whole) // 2] ^ 1]))
    for name in ("predictions.jsonl", "scores.json"):
        (folder / name).unlink()
    said = project.run(SCORES, ok=False)
    assert "finetune/model/model.safetensors is damaged" in said
    assert "run again, and the cell is trained again" in said
    said = project.run(SCORES)
    assert "had completed before, but" in said and "it is trained again" in said
    assert weights.read_bytes() == whole and (folder / "predictions.jsonl").read_bytes() != b""
