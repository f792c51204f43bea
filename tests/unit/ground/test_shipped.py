"""Where longwatt's own files lie, and in which folder a study is found."""

from pathlib import Path

from longwatt import shipped
from tests.conftest import ROOT


def test_a_checkout_is_its_own_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shipped.ROOT == ROOT
    assert shipped.study_folders() == [tmp_path / "studies", ROOT / "studies"]
    monkeypatch.chdir(ROOT)
    assert shipped.study_folders() == [ROOT / "studies"]
    for path in (shipped.STUDY_SCHEMA, shipped.CONFIG_SCHEMA, shipped.SCRIPTS / "finetune.py"):
        assert path.is_file()


def test_the_first_folder_that_has_a_study_wins(tmp_path):
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    for folder, names in ((own, ("a",)), (theirs, ("a", "b"))):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.yaml").write_text("")
    folders = [own, theirs, tmp_path / "missing"]
    assert shipped.study_file("a", folders) == own / "a.yaml"
    assert shipped.study_file("b", folders) == theirs / "b.yaml"
    assert shipped.study_names(folders) == ["a", "b"]
    for odd in ("c", "a/../a", "x" * 5000, "a\0", ""):
        assert shipped.study_file(odd, folders) is None
    assert shipped.study_file("a", [Path("nowhere")]) is None
