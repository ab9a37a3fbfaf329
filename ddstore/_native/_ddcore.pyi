from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from numpy.typing import NDArray

# collections.abc.Buffer is Python 3.12's.
Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]

FORMAT_VERSION: int
MAX_ROWS: int
WITH_BSC: bool

class CorruptError(ValueError): ...

class ColumnInfo(TypedDict):
    type: int
    mode: int
    coder: int
    n: int
    has_nulls: bool
    needs_model: bool
    model_crc: int
    escapes: int
    exact: bool
    sides: tuple[int, ...]

class HeadInfo(TypedDict):
    type: int
    mode: int
    coder: int
    flags: int
    n: int
    lattice: int
    mul: int
    add: int
    den: int
    step: float
    offset: float
    width: int
    stride: int
    sides: int
    weights: bytes
    model_crc: int

# trusting: coder bsc is decoded, too: see ddstore.h.
# sides: (checksum, type, values of all n rows) of each column that peek_column's `sides` names, in its order.
def decode_column(
    residual: Buffer,
    latents: Buffer | None,
    model: Buffer | None,
    type: int,
    n: int,
    want: int,
    sides: Sequence[tuple[int, int, Buffer]] | None = None,
    trusting: bool = False,
    /,
) -> tuple[bytearray, bytearray | None]: ...
def peek_column(residual: Buffer, /) -> ColumnInfo: ...
def peek_head(head: Buffer, /) -> HeadInfo: ...

# cascade: what mode adaptive has but in the columns of before there was one.
def encode_column(
    *,
    type: int,
    mode: int,
    coder: int,
    flags: int,
    n: int,
    lattice: int,
    mul: int,
    add: int,
    den: int,
    step: float,
    offset: float,
    drift: int,
    centre: int,
    base: int,
    scale: int,
    index: Buffer,
    classes: Buffer | None,
    bits: Buffer | None,
    latents: Buffer | None,
    model: Buffer | None,
    levels: Buffer | None,
    capacity: int,
    modelled: int = 0,
    deep: int = 0,
    width: int = 1,
    stride: int = 0,
    sides: Sequence[tuple[int, int, Buffer, float, float, int]] | None = None,
    unit: float = 0.0,
    weights: Buffer | None = None,
    cascade: bool = True,
) -> bytes | None: ...

# (row classes, how many of them are no VALUE). int type codes are those of docs/format.md throughout.
def classify(type: int, values: Buffer, valid: Buffer | None, /) -> tuple[bytearray, int]: ...

# int64 indices. Grid and ordinal lattices: bin q holds numerators (ordinals) low + q * width and on.
def quantize(
    *, type: int, values: Buffer, kind: int, low: int, width: int, den: float, step: float, offset: float
) -> bytearray: ...

# Values of the type, computed as the decoder does.
def reconstruct(
    *,
    type: int,
    index: Buffer,
    lattice: int,
    mul: int,
    add: int,
    den: int,
    step: float,
    offset: float,
    via_float32: bool,
    shortest: bool,
    levels: Buffer | None,
) -> bytearray: ...

# allowed: float64, one or one a row. (a bool for each row, how many are true)
def shortest(values: Buffer, /) -> bytearray: ...  # float32 in, float64 out
def violations(type: int, values: Buffer, read: Buffer, allowed: Buffer, /) -> tuple[bytearray, int]: ...

# (the exact sum of the finite ones in units of 2**-1074, two's complement, little-endian; how many are not finite)
def exact_sum(type: int, values: Buffer, /) -> tuple[bytes, int]: ...
def roughness(index: Buffer, /) -> float: ...
def foretold(index: Buffer, /) -> float: ...
def phase_roughness(places: Buffer, shift: float, /) -> float: ...

# (grid of all values, coarsest grid of all but a fiftieth), each (origin, pitch, den, via_float32) or None.
def find_grids(
    type: int, values: Buffer, /
) -> tuple[tuple[int, int, int, bool] | None, tuple[int, int, int, bool] | None]: ...

# (btae, net or inet, window, latent bits, mean, standard deviation); nets have no window, and an inet no mean.
def describe_model(data: Buffer, /) -> tuple[str, int, int, float, float]: ...
def tube(low: Buffer, width: Buffer, cost: Buffer, /) -> bytearray: ...
def crc32c(data: Buffer, crc: int = 0, /) -> int: ...

# (inputs int16 (n, lags + 16), scales float32 (n,), outputs int16 (n, 12)) of a DNET section, as the coder has them.
def net_trace(section: Buffer, index: Buffer, base: int, unit: float, /) -> tuple[bytearray, bytearray, bytearray]: ...

# (inputs int16 (n, 32), outputs int16 (n, 12), scales and targets float32 (n,)) of an INET section and the n rows that
# are no anchors, in the order of coding; highest: int64, the highest legal point of every row.
def inet_trace(
    section: Buffer, highest: Buffer, width: int, stride: int, /
) -> tuple[bytearray, bytearray, bytearray, bytearray]: ...
def btae_predict(section: Buffer, latents: Buffer, n_windows: int, /) -> bytes: ...

# A column to send is (kind, data, valid or None, offsets or None): kind "1", "2", "4", "8": fixed-width, native-endian;
# "u": 16 bytes as they are; "v" text and "j" jsonb: UTF-8 bytes and int64 offsets (rows + 1); "c": the same bytes in
# every row. Rows only: the stream's header and trailer are the caller's.
def copy_encode(columns: list[tuple[str, Any, Any, Any]], start: int, stop: int, /) -> bytes: ...

# A whole stream. Widths in bytes, 2, 4 and 8 come back native-endian; -1 is a variable field, a pair of its bytes and
# int64 offsets. A NULL is all zeros (or empty); masks are None where a column has no NULLs. ValueError: no such stream.
def copy_decode(
    data: bytes, widths: list[int], /
) -> tuple[list[bytearray | tuple[bytearray, bytearray]], list[bytearray | None]]: ...
