"""Columns of parquet files as numpy arrays."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cola_train.data.damage import DamagedFile

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError(
        "Reading LeRobot datasets needs pyarrow; install it with: pip install 'colaworld[train]'"
    ) from error

PLACES = ("index", "episode_index", "frame_index", "timestamp")
"""The columns of LeRobot that say which frame of which episode a row is: one number a row."""


def data_columns(file: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The columns ``names``, (rows,) or (rows, ...). Raises DamagedFile when one is missing or is
    not of numbers or lists of one length."""
    return _columns(file, file.stat().st_mtime_ns if file.exists() else 0, names)


def column_names(file: Path) -> list[str]:
    return list(_parquet(file).schema_arrow.names)


@lru_cache(maxsize=4)
def _columns(file: Path, modified: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    there = column_names(file)
    if missing := [name for name in names if name not in there]:
        raise damaged(file, ValueError(f"it lacks the columns {missing}"))
    table = read_table(file, [*names])
    try:
        columns = {name: _to_numpy(table.column(name)) for name in names}
        for name in PLACES:
            if columns[name].ndim != 1 or columns[name].dtype.kind not in "iuf":
                raise ValueError(f"its column {name!r} is not of one number a row")
    except ValueError as error:
        raise damaged(file, error) from error
    return columns


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Raises DamagedFile."""
    try:
        return _parquet(file).read(columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(file, error) from error


def _parquet(file: Path) -> pq.ParquetFile:
    if not file.is_file():
        raise DamagedFile(file, "it is missing: fetch the dataset again")
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> DamagedFile:
    told = (str(error).splitlines() or [type(error).__name__])[0]
    return DamagedFile(file, f"{told}: fetch the dataset again")


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers or of lists, lists of lists, ... of one length."""
    values = column.combine_chunks()
    shape = [len(values)]
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError(f"a column has rows of different lengths {lengths}")
        shape += lengths or [0]
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False).reshape(shape)
    return array[:, 0] if shape[1:] == [1] else array
