"""A file has its final name only once it is whole, and a full disk leaves the old one."""

import subprocess
import sys

import pytest

from longwatt.files import whole_file, whole_path
from longwatt.provenance.stamps import write_json

LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
{code}
"""
# Every kind of file that a study leaves, each larger than the disk has room for.
WRITERS = {
    "json": (
        "from longwatt.provenance.stamps import write_json; write_json('out', ['x' * 50] * 1000)"
    ),
    "records": "from longwatt.datasets.records import download; "
    "download({'source': 'needle', 'options': {'words_per_document': 400, 'train': 50, "
    "'validation': 1, 'test': 1}}, "
    "Path('out'), {})",
    "tokenizer": "from longwatt.datasets.records import download; "
    "from longwatt.tokens.tokenizers import make_tokenizer; "
    "download({'source': 'needle', 'options': {'words_per_document': 30, 'train': 40, "
    "'validation': 1, 'test': 1, "
    "'filler_vocabulary': 300}}, Path('data'), {}); "
    "make_tokenizer({'kind': 'byte_level_bpe', 'vocab_size': 900, 'min_frequency': 1}, "
    "Path('data/records.jsonl'), Path('.'))",
    "table": "import pandas; from longwatt.results.summary import write_csv; "
    "write_csv(Path('out'), pandas.DataFrame({'a': range(9000)}))",
    "copy": "from longwatt.models.weights.download import download_model; "
    "download_model({'path': 'source'}, Path('model'), {})",
    "figure": "import matplotlib.pyplot as plt; from longwatt.layout.drawing import save; "
    "figure, axis = plt.subplots(); "
    "axis.plot([n * n % 97 for n in range(3000)]); save(figure, Path('out'))",
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_leaves_no_half_written_file(kind, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/config.json").write_text("{}")
    (tmp_path / "source/model.safetensors").write_bytes(b"x" * 50_000)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    code = LIMITED.format(code=WRITERS[kind])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and "File too large" in done.stderr, done.stderr
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    whole = {"config.json", "records.jsonl", "dataset.json"}  # written before, and small enough
    assert {path.name for path in left} <= whole, left


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path):
    write_json(tmp_path / "a/b.json", 1)
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a/b.json") as stream:
        stream.write("half")
        raise RuntimeError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert (tmp_path / "a/b.json").read_text() == "1\n"
    with whole_path(tmp_path / "a/b.json") as partial:
        partial.write_bytes(b"whole")
        assert (tmp_path / "a/b.json").read_text() == "1\n"
    assert (tmp_path / "a/b.json").read_bytes() == b"whole"
