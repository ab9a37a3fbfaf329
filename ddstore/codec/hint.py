"""How values were coded that were read back from a segment: coded in the same way again they lose nothing more.

Such values lie on the lattice of their segment, which nothing but the segment's bytes may tell: floats on steps, or
each on one of a part of its own size, look like any others. So the first bytes are kept when rows leave their segment.
"""

from __future__ import annotations

from dataclasses import dataclass

from ddstore import _native
from ddstore.codec.format import FLAG_SHORTEST, FLAG_VIA_FLOAT32, Coder, LatticeKind, Mode, as_native, type_code
from ddstore.codec.lattice import Grid, Lattice

__all__ = ["Hint"]


@dataclass(frozen=True, slots=True)
class Hint:
    """What to try first for a column that must come back bit for bit."""

    lattice: Lattice
    rows: int
    """Of the segment."""
    width: int
    """Mode interp: how many points of the lattice a step is; 0: another mode."""
    weights: bytes
    """Of mode interp."""
    coder: Coder
    model_crc: int = 0
    """Of coder net: which net."""

    @classmethod
    def read(cls, head: bytes, type: str) -> Hint | None:
        """What the first bytes of a column say (128 hold all of it); None where values alone say as much."""
        try:
            info = _native.peek_head(head)
        except _native.CorruptError:
            return None
        mode, kind = Mode(info["mode"]), LatticeKind(info["lattice"])
        if info["type"] != type_code(as_native(type)) or mode is Mode.RAW:
            return None
        lattice = Lattice(
            kind,
            info["mul"],
            info["add"],
            info["den"],
            info["step"],
            info["offset"],
            via_float32=bool(info["flags"] & FLAG_VIA_FLOAT32),
            shortest=bool(info["flags"] & FLAG_SHORTEST),
            exact=True,
            bin=info["mul"] if kind is LatticeKind.ORDINAL else 1,
            grid=Grid(info["add"], info["mul"], info["den"]) if kind is LatticeKind.GRID else None,
        )
        interpolated = mode is Mode.INTERP and info["sides"] == 0
        if kind is LatticeKind.STEP:
            useful = info["step"] > 0
        elif kind is LatticeKind.ORDINAL:
            useful = info["mul"] > 1 and info["add"] == 0
        else:
            useful = kind is LatticeKind.GRID and interpolated and info["mul"] > 0
        return (
            cls(
                lattice,
                info["n"],
                info["width"] if interpolated else 0,
                info["weights"],
                Coder(info["coder"]),
                info["model_crc"],
            )
            if useful
            else None
        )
