"""DDStore: error-bounded, learned compression of time series inside PostgreSQL.

::

    import ddstore
    from ddstore import Absolute, Series

    ddstore.write(Series("boiler.temp", time, values, max_error=Absolute(0.05)))
    ddstore.read("boiler.temp", start="2024-01-01").to_pandas()
    store = ddstore.connect("postgresql://...")
"""

from ddstore.bounds import Absolute, Bound, Lossless, RangeRelative, Relative
from ddstore.errors import (
    BoundConflict,
    BoundViolation,
    CompactionConflict,
    ConnectionFailed,
    CorruptSegment,
    DDStoreError,
    InvalidBound,
    InvalidSeries,
    NotInstalled,
    NotPermitted,
    SchemaMismatch,
)
from ddstore.profiles import Profile
from ddstore.series import Frame, Series
from ddstore.store import Store, connect, read, write

__all__ = [
    "Absolute",
    "Bound",
    "BoundConflict",
    "BoundViolation",
    "CompactionConflict",
    "ConnectionFailed",
    "CorruptSegment",
    "DDStoreError",
    "Frame",
    "InvalidBound",
    "InvalidSeries",
    "Lossless",
    "NotInstalled",
    "NotPermitted",
    "Profile",
    "RangeRelative",
    "Relative",
    "SchemaMismatch",
    "Series",
    "Store",
    "connect",
    "read",
    "write",
]
