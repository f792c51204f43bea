"""Rows of tokenized splits, read from their Arrow files by pyarrow alone.

The library `datasets` writes these files. It takes as long to load as all else of a scoring does,
and makes a Python number of each token of a whole row, however few of them a cell sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longwatt.files import read_object

SPLITS_FILE, STATE_FILE = "dataset_dict.json", "state.json"  # names that `datasets` gives its files


class MissingColumn(ValueError):
    """Stored tokens without a column that is asked for."""


class StoredRows:
    """Rows of one split, by number, and its columns, by name.

    Only what pyarrow does without pandas is used: it loads pandas to make arrays of others' kinds.

    Args:
        table: a `pyarrow.Table`, mapped from its files rather than held in memory.
        chosen: the numbers of the rows that count, in order.
    """

    def __init__(self, table: Any, chosen: Sequence[int]) -> None:
        self._table, self._chosen = table, chosen
        self._columns = {name: table.column(name) for name in table.column_names}

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column's values."""
        return [self.value(name, row) for row in range(len(self))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield whole rows, with their values by column."""
        for row in range(len(self)):
            yield {name: self.value(name, row) for name in self._columns}

    def value(self, name: str, row: int) -> Any:
        """Return one value: a text, a number, or a list."""
        return self._stored(name, row).as_py()

    def ids(self, name: str, row: int, most: int | None = None) -> list[int]:
        """Return one value of a column of ids, or its first ids."""
        return _numbers(self._stored(name, row).values, most)

    def ids_of_part(self, name: str, row: int, part: int, most: int | None = None) -> list[int]:
        """Return one of the lists of ids that a value holds, or its first ids."""
        return _numbers(self._stored(name, row).values[part].values, most)

    def sizes(self, name: str) -> list[int]:
        """Return the number of items in every value of a column of lists."""
        return [len(self._stored(name, row)) for row in range(len(self))]

    def sizes_of_parts(self, name: str) -> list[list[int]]:
        """Return the number of ids in each list that every value holds."""
        values = (self._stored(name, row).values for row in range(len(self)))
        return [[len(part) for part in parts] for parts in values]

    def select(self, rows: Sequence[int]) -> StoredRows:
        """Return some of the rows, in the order given."""
        return StoredRows(self._table, [self._chosen[row] for row in rows])

    def _stored(self, name: str, row: int) -> Any:
        if name not in self._columns:
            raise MissingColumn(
                f"the stored tokens have no column {name!r}: an earlier version of longwatt made "
                "them; remove their folder below resources/tokenized and run again"
            )
        return self._columns[name][self._chosen[row]]


def _numbers(ids: Any, most: int | None) -> list[int]:
    """Return the first of some 32-bit numbers, without an object of pyarrow's for each."""
    count = len(ids) if most is None else min(most, len(ids))
    if count == 0:  # there need not be a buffer then
        return []
    _, numbers = ids.buffers()
    return memoryview(numbers).cast("i")[ids.offset : ids.offset + count].tolist()


def read_splits(tokens: Path) -> dict[str, StoredRows]:
    """Read all splits of a folder that `datasets.DatasetDict.save_to_disk` wrote.

    Raises:
        OSError, ValueError, KeyError: a file is missing or damaged.
    """
    splits = read_object(tokens / SPLITS_FILE)["splits"]
    return {split: read_split(tokens, split) for split in splits}


def read_split(tokens: Path, split: str) -> StoredRows:
    """Read one split of such a folder."""
    import pyarrow

    files = [one["filename"] for one in read_object(tokens / split / STATE_FILE)["_data_files"]]
    table = pyarrow.concat_tables([_table(tokens / split / file) for file in files])
    return StoredRows(table, range(table.num_rows))


def _table(path: Path) -> Any:
    import pyarrow

    # Mapped memory is shared by all jobs of a machine, and only what is read of it is loaded.
    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
