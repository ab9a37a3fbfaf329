"""One array-like in, one :class:`Column` out: numbers, times or text with a validity mask.

NumPy (plain and masked), pandas, polars, Arrow and Python sequences are understood; pandas, polars and pyarrow are
only imported when such data is given. Nothing here knows of tables.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddstore.errors import InvalidSeries, NotInstalled

__all__ = ["Column", "first", "make_column", "require"]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column of n rows.

    Attributes:
        data: bool, integer, float or datetime64 array of shape (n,); with ``offsets``, uint8 UTF-8 text.
        valid: bool (n,), False where NULL; None when no row is NULL.
        offsets: int64 (n + 1,) into ``data`` for text; None for every other kind.
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_] | None = None
    offsets: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.data) if self.offsets is None else len(self.offsets) - 1

    @property
    def kind(self) -> str:
        """NumPy's kind letter (``b i u f M``), or ``T`` for text."""
        return "T" if self.offsets is not None else self.data.dtype.kind


def require(package: str) -> Any:
    """Import an optional package.

    Raises:
        NotInstalled: it is not there; the remedy is the pip command.
    """
    try:
        return __import__(package)
    except ImportError:
        raise NotInstalled(f"{package} is not installed", remedy='Run: pip install "ddstore[frames]"') from None


def first(mask: NDArray[np.bool_]) -> int:
    """Position of the first True."""
    return int(np.argmax(mask))


def make_column(values: Any, *, name: str) -> Column:
    """Return ``values`` as a :class:`Column`; a copy is made only where the layout asks for one.

    Raises:
        InvalidSeries: not one-dimensional, or of a type that no column can hold.
        NotInstalled: Arrow data was given and pyarrow is missing.
    """
    if isinstance(values, Column):
        return values
    origin = type(values).__module__.partition(".")[0]
    if isinstance(values, np.ndarray):
        return _from_numpy(values, name)
    if origin == "pandas" and hasattr(values, "dtype"):
        return _from_pandas(values, name)
    if origin == "polars" and hasattr(values, "dtype"):
        return _from_polars(values, name)
    if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        return _from_arrow(values, name)
    if hasattr(values, "__array__"):
        return _from_numpy(np.asarray(values), name)
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise InvalidSeries(f"{type(values).__name__} is not an array", column=name, remedy="Give a NumPy array.")
    objects = np.empty(len(values), dtype=object)
    if any(issubclass(kind, (list, tuple, np.ndarray)) for kind in set(map(type, values))):
        raise _not_flat(2, name)
    objects[:] = values
    return _from_objects(objects, name)


def _not_flat(ndim: int, name: str) -> InvalidSeries:
    return InvalidSeries(f"{ndim}-dimensional data is not a column", column=name, remedy="Give one array per column.")


def _mask(valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    return None if valid is None or valid.all() else valid


def _from_numpy(values: NDArray[Any], name: str) -> Column:
    if values.ndim != 1:
        raise _not_flat(values.ndim, name)
    valid: NDArray[np.bool_] | None = None
    if isinstance(values, np.ma.MaskedArray):
        valid = _mask(~np.ma.getmaskarray(values))
        values = values.filled(values.dtype.type(0)) if values.dtype.kind in "biuf" else np.asarray(values.data)
    kind = values.dtype.kind
    if kind in "OUT":
        return _from_objects(values.astype(object), name, valid)
    if kind not in "biufM" or (kind == "f" and values.dtype.itemsize > 8):
        raise InvalidSeries(
            f"dtype {values.dtype} cannot be stored without losing something",
            column=name,
            remedy="Convert it to float64, an integer, datetime64, bool or text first.",
        )
    return Column(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")), valid)


def _text(strings: list[str], name: str, valid: NDArray[np.bool_] | None) -> Column:
    encoded = list(map(str.encode, strings))
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return make_text(b"".join(encoded), offsets, name, valid)


def make_text(blob: bytes, offsets: NDArray[np.int64], name: str, valid: NDArray[np.bool_] | None) -> Column:
    """Return a text column.

    Raises:
        InvalidSeries: a value has a NUL character, which PostgreSQL's text cannot hold.
    """
    if (at := blob.find(b"\0")) >= 0:
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        raise InvalidSeries("text with a NUL character", column=name, row=row, remedy="Remove the character.")
    return Column(np.frombuffer(blob, dtype=np.uint8), _mask(valid), offsets)


def _from_objects(objects: NDArray[Any], name: str, valid: NDArray[np.bool_] | None = None) -> Column:
    """Python objects: None, NaT and pandas' NA are NULL, and so is a NaN among texts."""
    null = np.fromiter((kind.__name__ in _NULLS for kind in map(type, objects)), np.bool_, len(objects))
    if valid is not None:
        null |= ~valid
    kinds = set(map(type, objects[~null]))
    if float in kinds and any(issubclass(kind, str) for kind in kinds):
        null |= np.asarray(objects != objects, dtype=np.bool_)
        kinds = set(map(type, objects[~null]))
    valid = _mask(~null)
    rest = objects[~null]
    if not kinds:
        return Column(np.zeros(len(objects)), valid)
    if all(issubclass(kind, (str, uuid.UUID)) for kind in kinds):
        filled = np.where(null, "", objects)
        return _text(list(map(str, filled)), name, valid)
    if all(issubclass(kind, (date, np.datetime64)) for kind in kinds):
        dense = _moments(rest, kinds, name, null)
    elif all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        dense = rest.astype(np.bool_)
    elif all(issubclass(kind, _REAL) and kind is not bool for kind in kinds):
        dense = _numbers(rest, name, null)
    else:
        what = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidSeries(
            f"values of type {what} are no column", column=name, remedy="Give numbers, times, bools or text."
        )
    if valid is None:
        return Column(dense, None)
    data = np.zeros(len(objects), dtype=dense.dtype)
    data[~null] = dense
    return Column(data, valid)


_REAL = (int, float, np.integer, np.floating)
_NULLS = frozenset({"NoneType", "NAType", "NaTType", "MaskedConstant"})


def _numbers(rest: NDArray[Any], name: str, null: NDArray[np.bool_]) -> NDArray[Any]:
    """Python and NumPy scalars as one numeric array; a value that the array would change is an error."""
    try:
        numbers = np.asarray(rest.tolist())
    except OverflowError:
        numbers = rest
    if numbers.dtype.kind not in "iuf" or numbers.dtype.itemsize > 8:
        raise InvalidSeries("an integer needs more than 64 bits", column=name, remedy="Convert it to float64 first.")
    if numbers.dtype.kind == "f":
        changed = np.asarray((numbers.astype(object) != rest) & (numbers == numbers), dtype=np.bool_)
        if changed.any():
            row = int(np.flatnonzero(~null)[first(changed)])
            raise InvalidSeries(
                "an integer among floats loses digits as float64", column=name, row=row, remedy="Round it yourself."
            )
    return numbers


def _moments(rest: NDArray[Any], kinds: set[type], name: str, null: NDArray[np.bool_]) -> NDArray[Any]:
    """datetimes, dates, datetime64 scalars and pandas Timestamps as datetime64; aware ones in UTC."""
    if all(issubclass(kind, np.datetime64) for kind in kinds):
        return np.array(list(rest))
    digits = np.fromiter((getattr(t, "nanosecond", 0) for t in rest), np.int64, len(rest))
    moments = [
        t.astimezone(UTC).replace(tzinfo=None) if isinstance(t, datetime) and t.tzinfo is not None else t for t in rest
    ]
    if any(issubclass(kind, np.datetime64) for kind in kinds):
        raise InvalidSeries("datetime and datetime64 are mixed", column=name, remedy="Give one kind of time.")
    whole = np.array(moments, dtype="datetime64[us]")
    if not digits.any():
        return whole
    if (far := np.abs(whole.view(np.int64)) >= 2**63 // 1000 - 1).any():
        row = int(np.flatnonzero(~null)[first(far)])
        raise InvalidSeries(
            "a time so far away does not go with nanoseconds elsewhere", column=name, row=row, remedy="Round them."
        )
    return np.asarray(whole.astype("datetime64[ns]") + digits.astype("timedelta64[ns]"))


def _from_pandas(values: Any, name: str) -> Column:
    pandas = require("pandas")
    dtype = values.dtype
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return _datetimes(pandas.DatetimeIndex(values).tz_convert(None).to_numpy())
    if isinstance(dtype, np.dtype):
        data = values.to_numpy()
        return _datetimes(data) if dtype.kind == "M" else _from_numpy(data, name)
    if isinstance(dtype, pandas.ArrowDtype):
        return _from_arrow(require("pyarrow").array(values.array), name)
    numpy_dtype = getattr(dtype, "numpy_dtype", None)
    if numpy_dtype is not None and numpy_dtype.kind in "biuf":
        null = np.asarray(values.isna(), dtype=np.bool_)
        data = values.to_numpy(dtype=numpy_dtype, na_value=numpy_dtype.type(0))
        return Column(np.ascontiguousarray(data), _mask(~null))
    if isinstance(dtype, (pandas.StringDtype, pandas.CategoricalDtype)):
        null = np.asarray(values.isna(), dtype=np.bool_)
        objects = np.asarray(values.astype(object), dtype=object)
        return _from_objects(objects, name, ~null)
    raise InvalidSeries(
        f"pandas dtype {dtype} is no column", column=name, remedy="Convert it to numbers, times, bools or text."
    )


def _datetimes(data: NDArray[Any]) -> Column:
    """datetime64 of a frame library, where NaT is how a missing value is spelled."""
    return Column(np.ascontiguousarray(data), _mask(~np.isnat(data)))


def _from_polars(values: Any, name: str) -> Column:
    polars = sys.modules["polars"]
    dtype = values.dtype
    if dtype in (polars.Categorical, polars.Enum):
        values, dtype = values.cast(polars.String), polars.String
    null = values.is_null().to_numpy() if values.null_count() else None
    valid = None if null is None else ~null
    if dtype == polars.String:
        lengths = values.str.len_bytes().fill_null(0).to_numpy()
        offsets = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        joined = values.fill_null("").str.join("").item() if len(values) else ""
        return make_text(joined.encode(), offsets, name, valid)
    if dtype == polars.Datetime or dtype == polars.Date:
        unit = "D" if dtype == polars.Date else dtype.time_unit
        physical = values.to_physical().fill_null(0).to_numpy().astype(np.int64)
        return Column(physical.view(f"datetime64[{unit}]"), valid)
    if dtype.is_integer() or dtype.is_float() or dtype == polars.Boolean:
        filled = values.fill_null(False if dtype == polars.Boolean else 0)
        return Column(np.ascontiguousarray(filled.to_numpy()), valid)
    if dtype == polars.Null:
        return Column(np.zeros(len(values)), _mask(np.zeros(len(values), dtype=np.bool_)))
    raise InvalidSeries(
        f"polars dtype {dtype} is no column", column=name, remedy="Convert it to numbers, times, bools or text."
    )


def _from_arrow(values: Any, name: str) -> Column:
    pa = require("pyarrow")
    import pyarrow.compute as pc

    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        streams = hasattr(values, "__arrow_c_stream__")
        values = pa.chunked_array(values) if streams else pa.array(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # an older pyarrow, or more than one chunk can hold
            values = pa.concat_arrays(values.chunks)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    valid = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = pc.fill_null(values, "").cast(pa.large_string())
        _, at, blob = text.buffers()
        offsets = np.frombuffer(at, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
        raw = b"" if blob is None else blob.to_pybytes()[int(offsets[0]) : int(offsets[-1])]
        return make_text(raw, offsets - offsets[0], name, valid)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if pa.types.is_date32(kind):
            days = pc.fill_null(values.cast(pa.int32()), 0).to_numpy(zero_copy_only=False)
            return Column(days.astype(np.int64).view("datetime64[D]"), valid)
        unit = "ms" if pa.types.is_date64(kind) else kind.unit
        ticks = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        return Column(ticks.view(f"datetime64[{unit}]"), valid)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        zero = pa.scalar(False if pa.types.is_boolean(kind) else 0, kind)
        data = pc.fill_null(values, zero).to_numpy(zero_copy_only=False)
        return Column(np.ascontiguousarray(data), valid)
    if pa.types.is_null(kind):
        return Column(np.zeros(len(values)), _mask(np.zeros(len(values), dtype=np.bool_)))
    raise InvalidSeries(
        f"Arrow type {kind} is no column", column=name, remedy="Convert it to numbers, times, bools or text."
    )
