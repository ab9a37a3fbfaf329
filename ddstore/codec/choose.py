"""The smallest coding of a column that its profile's decode budget allows: lattice, path, mode and coder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from ddstore.bounds import Bound
from ddstore.codec import archive, select, tube
from ddstore.codec.choice import Asked, Choice, Path, on_cheaper_path
from ddstore.codec.column import Column
from ddstore.codec.format import Coder, Mode
from ddstore.codec.hint import Hint
from ddstore.codec.lattice import EMPTY, Lattice, exact_lattices, lossy_lattices, relative_lattices
from ddstore.codec.model import AnyModel, InterpNet, Model, Net
from ddstore.codec.side import Side
from ddstore.profiles import Profile

__all__ = ["cheapest_path", "fine_rows", "smallest"]

# With more exact rows than this share a lattice is not worth a trial beside another.
_ESCAPES_TOLERATED = 0.02
# Bits per sample above which an exact lattice may be a bad guess, so that the next one gets a trial.
_DEAR = 8
# What a coder that takes ten times as long to decode has to save: a share of the size, by profile.
_SAVING = {Profile.FAST: 0.24, Profile.BALANCED: 0.068, Profile.ARCHIVE: 0.0}
_TENS = {Coder.RANS: 0, Coder.MIX: 1, Coder.CM: 2, Coder.NET: 2}
_BETWEEN = 0.3  # of a tenfold: static tables from coarse to fine, beside those in the order of rows
# Bits per row up to which that is tried, and how dear it may be on a stretch, where the tables of all levels count for
# more than among all rows.
_SMOOTH = 3.0
_PROMISING = 1.1
# Ways that cost this much more on a stretch are given all rows, too: a share, and bits of a row, which a stretch tells
# the worse the fewer there are of them. The archive profile has the time to ask more of them.
_TIED = {Profile.BALANCED: (0.02, 0.02), Profile.ARCHIVE: (0.03, 0.04)}
# A path that costs this much more than another under one coder that learns is not the cheaper one under the other: a
# share, and bits of a row.
_PATHS_APART = (1.06, 0.05)
_FINALISTS = {Profile.BALANCED: 3, Profile.ARCHIVE: 5}


def smallest(
    column: Column,
    bound: Bound,
    profile: Profile,
    model: AnyModel | None,
    sides: Sequence[Side],
    before: Choice | None = None,
    hints: Sequence[Hint] = (),
) -> tuple[select.Coded, Choice | None]:
    """Code a column; what comes back decodes to values within the bound, which the caller verifies.

    Args:
        column: what to code.
        bound: how much error is tolerated.
        profile: which coders may be used.
        model: the series' model, or None.
        sides: columns of the segment that this one may be conditioned on.
        before: what was chosen for the segment before this one, which saves the search where it still fits.
        hints: how some of the values were coded before, which may not be coded with a loss again.

    Returns:
        The column, and what to hand to the segment after this one.
    """
    asked = Asked.of(column, profile, model)
    if before is not None and not hints and before.fits(asked):
        found = before.again(column, sides)
        if found is not None:
            return found
    rows, _ = column.on(_cheapest_lattice(column, bound, hints))
    best, path = _searched(column, rows, profile, model, sides, hints)
    return best, None if hints else Choice.of(asked, best, rows, path)


def _searched(
    column: Column,
    rows: select.Rows,
    profile: Profile,
    model: AnyModel | None,
    sides: Sequence[Side],
    hints: Sequence[Hint],
) -> tuple[select.Coded, Path | None]:
    """The smallest coding of rows, and the path inside the bound that was looked at."""
    best = select.encode(rows, Coder.RANS)
    if best.mode is Mode.LINEAR:
        return best, None
    which = rows.stretch()
    between = _between(column, rows, which, best)
    usable = [hint for hint in hints if profile is not Profile.FAST or hint.coder is Coder.RANS]
    between_net = model if isinstance(model, InterpNet) else None
    known = [coded for hint in usable if (coded := archive.as_before(column, hint, between_net)) is not None]
    if profile is Profile.FAST:
        return _soundest([best, *between, *known], profile), None
    paths = [rows]
    finer = _cheaper_path(column, rows, which, profile) if _may_search(column, rows, best) else None
    if finer is not None:
        paths.append(finer.rows)
        best = min(best, select.encode(finer.rows, Coder.RANS), key=lambda coded: coded.size)
    found = [best, *between]
    if isinstance(model, Model):
        found += [coded for path in paths if (coded := select.learned(path, Coder.MIX, model)) is not None]
    found += known or _tried(column, paths, which, best, sides, profile, model)
    return _soundest(found, profile), finer


def _between(column: Column, rows: select.Rows, which: slice, best: select.Coded) -> list[select.Coded]:
    """The rows from coarse to fine under static tables, where a stretch of them promises something."""
    if 8.0 * best.size > _SMOOTH * column.n:
        return []
    trial = archive.interpolated(column, rows, which)
    if trial is None:
        return []
    whole = which == slice(0, column.n)
    bits = 8.0 * best.size / column.n if whole else _trial(rows, select.drift_of(rows)[0], Coder.RANS, which).bits
    if trial.bits > _PROMISING * bits:
        return []
    coded = trial.code()
    return [] if coded is None else [coded]


def _soundest(found: Sequence[select.Coded], profile: Profile) -> select.Coded:
    """The cheapest whose values are within the bound, as those of the first are, which only decoding tells of some."""

    def cost(coded: select.Coded) -> float:
        between = coded.mode is Mode.INTERP and coded.coder is Coder.RANS
        return _cost(coded.size, coded.coder, profile) / (1.0 - _SAVING[profile]) ** (_BETWEEN if between else 0)

    left = sorted(found, key=cost)
    for at, coded in enumerate(left, 1):
        sound = archive.settled(coded)
        if sound is not None and all(cost(sound) <= cost(other) for other in left[at : at + 1]):
            return sound
    return found[0]


def _cheaper_path(column: Column, rows: select.Rows, which: slice, profile: Profile) -> Path | None:
    """The path of a tube search, where a stretch of the rows says that it may pay."""
    if profile is Profile.ARCHIVE or which == slice(0, column.n):
        return on_cheaper_path(column, rows)
    part = on_cheaper_path(column, rows, which=which)
    if part is None:
        return None
    pairs = ((select.price(some, coder) for some in (part.rows, rows.part(which))) for coder in (Coder.RANS, Coder.MIX))
    return on_cheaper_path(column, rows, part.costs) if any(a < b for a, b in pairs) else None


def cheapest_path(column: Column, bound: Bound) -> select.Rows:
    """A column on the lattice, and on the path inside the bound, that it is likely to be coded on."""
    rows, _ = column.on(_cheapest_lattice(column, bound))
    best = select.encode(rows, Coder.RANS)
    finer = on_cheaper_path(column, rows) if _may_search(column, rows, best) else None
    return finer.rows if finer is not None and select.encode(finer.rows, Coder.RANS).size < best.size else rows


def fine_rows(column: Column, bound: Bound) -> archive.Between | None:
    """A column on the fine lattice that mode interp is likely to code it on; None where that mode cannot be."""
    rows, _ = column.on(_cheapest_lattice(column, bound))
    return archive.fine_rows(column, rows)


def _cost(size: float, coder: Coder, profile: Profile) -> float:
    """A size that a coder ten times as slow has to undercut by the profile's share."""
    return float(size / (1.0 - _SAVING[profile]) ** _TENS[coder])


def _tried(
    column: Column,
    paths: Sequence[select.Rows],
    which: slice,
    best: select.Coded,
    sides: Sequence[Side],
    profile: Profile,
    model: AnyModel | None,
) -> Iterator[select.Coded]:
    """What other coders make of a column, as far as a stretch of its rows gives them a chance against static tables."""
    drifts = [select.drift_of(path)[0] for path in paths]
    some, others = (
        [_trial(*each, coder, which) for each in zip(paths, drifts, strict=True)] for coder in (Coder.MIX, Coder.RANS)
    )
    mixed, static = (min(each, key=lambda trial: trial.bits) for each in (some, others))
    trials = [static, mixed]
    if profile is Profile.ARCHIVE:
        worst = mixed.bits * _PATHS_APART[0] + _PATHS_APART[1]
        near = [path for path, trial in zip(paths, some, strict=True) if trial.bits <= worst]
        trials += archive.search(column, paths[0], near, sides, which, mixed.bits)
    else:
        below = min(_cost(trial.bits, trial.way.coder, profile) for trial in trials) / _cost(1.0, Coder.CM, profile)
        trials += archive.look(column, paths[0], mixed, sides, which, 8.0 * best.size / column.n, below)
    if isinstance(model, InterpNet):
        between = archive.interpolated(column, paths[0], which, model)
        trials += [] if between is None else [archive.no_worse(between, trials)]
    if isinstance(model, Net):
        densities = (select.Density.of(path, model) for path in paths)
        trials += [select.Trial.of(density, which) for density in densities if density is not None]
    yield from _finals(trials, static, profile)


def _finals(trials: Sequence[select.Trial], known: select.Trial, profile: Profile) -> Iterator[select.Coded]:
    """All rows coded in the ways that did best on a stretch: one of them at least, but for the one known already."""
    costs = {id(trial): _cost(trial.bits, trial.way.coder, profile) for trial in trials}
    share, bits = _TIED[profile]
    least, done = min(costs.values()), 0
    for trial in sorted(trials, key=lambda trial: costs[id(trial)]):
        if done and (costs[id(trial)] > least * (1 + share) + bits or done == _FINALISTS[profile]):
            return
        coded = None if trial is known else trial.code()
        done += trial is known or coded is not None
        if coded is not None:
            yield coded


def _trial(rows: select.Rows, drift: int, coder: Coder, which: slice) -> select.Trial:
    return select.Trial.of(select.plan(rows, coder, drift), which)


def _cheapest_lattice(column: Column, bound: Bound, hints: Sequence[Hint] = ()) -> Lattice:
    """By a sample of the column, under the coder that is quick to try."""
    some = column.sample()
    prices: list[tuple[float, Lattice]] = []
    for lattice in chain((hint.lattice for hint in hints), _candidates(column, bound)):
        rows, escaped = some.on(lattice)
        if prices and escaped > _ESCAPES_TOLERATED * len(some.usable):
            continue
        good = escaped == 0 and lattice.settled
        if good and not lattice.exact and not prices:
            return lattice
        bits = select.price(rows, Coder.RANS)
        bits -= 8.0 * lattice.listed * (1 / some.n - 1 / column.n)
        prices.append((bits, lattice))
        if good and not (lattice.exact and bits > _DEAR):
            break
    return min(prices, key=lambda pair: pair[0])[1]


def _candidates(column: Column, bound: Bound) -> Iterator[Lattice]:
    """Lattices in the order of trial; the last one holds every value."""
    usable, kind = column.usable, column.kind
    if len(usable) == 0:  # nothing but NULLs and oddities
        yield EMPTY
        return
    if bound.kind == "relative":
        yield from relative_lattices(usable, kind, bound.value)
    elif isinstance(column.allowed, float) and column.allowed > 0:
        yield from lossy_lattices(usable, kind, column.allowed)
    yield from exact_lattices(usable, kind)


def _may_search(column: Column, rows: select.Rows, coded: select.Coded) -> bool:
    """Whether a search for a cheaper path may pay."""
    return not (rows.lattice.exact or coded.mode is Mode.LINEAR or 8.0 * coded.size > tube.PAYS_BELOW * column.n)
