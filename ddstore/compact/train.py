"""The models of a series: found in the catalog, trained when a column has enough rows, kept when they pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from ddstore.bounds import Bound
from ddstore.codec.bound_check import absolute_bound
from ddstore.codec.format import as_native
from ddstore.codec.lattice import find_grid
from ddstore.codec.model import AnyModel, Model, net_of, pack_model
from ddstore.codec.segment import EncodedColumn, encode_column
from ddstore.codec.side import Side
from ddstore.compact.density import INET_BYTES, NET_BYTES, train_density, train_interp
from ddstore.compact.plan import SeriesPlan
from ddstore.compact.policy import CompactOptions, SeriesReport
from ddstore.compact.trials import Trials
from ddstore.db.catalog import ManagedColumn, SeriesKey
from ddstore.db.pool import Connection
from ddstore.db.queries import sql
from ddstore.errors import DDStoreError, NotInstalled
from ddstore.profiles import Profile

__all__ = ["Sample", "SeriesModel", "SettledColumns", "Trainer", "least_rows", "load_models"]

#: Segments this much larger per sample than the model's record promises: the series has changed, train anew.
DRIFT = 1.25

_WINDOW = 128  # samples the BTAE sees at once
_LATENT_BITS = 32 / _WINDOW  # per sample: what even a perfect prediction costs
_MODEL_BYTES = 50_000  # what a decoder and its encoder take, rounded down
_SECONDS_PER_MODEL = 20.0
_NETS_SHARE = 0.25  # of the time that is left; a density net gets better for minutes
_LEAST_SECONDS = 2.0
_NAMES = {b"DNET": "density net", b"INET": "net of mode interp"}
_SMOOTH = 3.0  # bits per sample up to which a net of mode interp is tried
# What a net may save of a column's bits, at best.
_NETS_BEST = 0.25
# A model is shared by many segments or it does not pay: by this many, or by fewer long ones of as many rows.
_LEAST_SEGMENTS, _LEAST_ROWS = 4, 65_536
# Trials encode this many segments, as one may be unlike all others.
_TRIAL_SEGMENTS = 4


def least_rows(segment_rows: int) -> int:
    """Rows of a series at hand, in segments of ``segment_rows``, below which nothing is trained."""
    return min(_LEAST_SEGMENTS * segment_rows, _LEAST_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class SeriesModel:
    """A model of one series' column; ``id`` is None until it is stored. Immutable, compared by identity.

    Attributes:
        data: what decoding needs.
        encoder: what encoding needs besides.
        record: how it was trained and what it promised (``bits_per_sample``, in segments of ``profile``).
    """

    table_id: int
    column_id: int
    key: SeriesKey
    data: bytes
    encoder: bytes | None
    record: dict[str, Any]
    id: int | None = None

    @property
    def size(self) -> int:
        """Bytes that are stored for it."""
        return len(self.data) + len(self.encoder or b"")

    def codec(self) -> AnyModel | None:
        """Return the model as the codec takes it; None where it can decode but not encode: no encoder, or no torch."""
        net = net_of(self.data)
        if net is not None or self.encoder is None:
            return net
        try:
            from ddstore.model import encode_latents  # torch: only when something is encoded with a model
        except NotInstalled:
            return None
        encoder = self.encoder

        def find_latents(windows: NDArray[np.float32]) -> NDArray[np.uint8]:
            # A float64 beyond float32 is an infinity here. Latents only steer the prediction, so any number will do.
            return encode_latents(encoder, np.nan_to_num(windows))

        return Model(self.data, find_latents)


def load_models(conn: Connection, plans: Sequence[SeriesPlan]) -> dict[tuple[SeriesKey, int], SeriesModel]:
    """Return the latest model of each (series, column id) of ``plans``, which are of one table."""
    table = plans[0].table
    parameters = {"table_id": table.id, "series": Jsonb([list(plan.key) for plan in plans])}
    return {
        (tuple(key), column): SeriesModel(
            table.id,
            column,
            tuple(key),
            bytes(data),
            None if encoder is None else bytes(encoder),
            record,
            id=number,
        )
        for key, column, number, data, encoder, record in conn.execute(sql("compact_models"), parameters)
    }


class SettledColumns:
    """The columns of a series at hand whose models are settled: trials of later ones may be conditioned on them."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._columns: list[tuple[NDArray[Any], NDArray[np.bool_], str, Bound, SeriesModel | None]] = []
        self._sides: dict[tuple[int, int], list[Side]] = {}

    def add(
        self, values: NDArray[Any], valid: NDArray[np.bool_], type: str, bound: Bound, model: SeriesModel | None
    ) -> None:
        """Add the next column, all rows at hand, as it is going to be coded."""
        self._columns.append((values, valid, type, bound, model))

    def sides(self, part: slice) -> Sequence[Side]:
        """These columns in one segment; encoded when they are first asked for."""
        sides = self._sides.setdefault((part.start, part.stop), [])
        for values, valid, type_, bound, model in self._columns[len(sides) :]:
            sides.append(_encode(values[part], valid[part], type_, bound, self._profile, model, sides).side)
        return sides


def _encode(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    type_: str,
    bound: Bound,
    profile: Profile,
    model: SeriesModel | None,
    sides: Sequence[Side],
) -> EncodedColumn:
    codec = None if model is None else model.codec()
    return encode_column(values, valid, type=type_, bound=bound, profile=profile, model=codec, sides=sides)


@dataclass(frozen=True, slots=True)
class Sample:
    """One column of the rows at hand, which fill at least one segment of ``segment_rows``."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    type: str
    bound: Bound
    profile: Profile
    segment_rows: int
    before: SettledColumns

    def bits_per_sample(self, model: SeriesModel | None) -> tuple[float, bool]:
        """Cost over a few whole segments spread over the rows, and whether the model was of use."""
        whole = len(self.values) // self.segment_rows
        chosen = np.unique(np.linspace(0, whole - 1, _TRIAL_SEGMENTS).round().astype(int))
        size, used = 0, False
        for number in chosen:
            part = slice(number * self.segment_rows, (number + 1) * self.segment_rows)
            sides = self.before.sides(part)
            coded = _encode(self.values[part], self.valid[part], self.type, self.bound, self.profile, model, sides)
            size += coded.size
            used = used or coded.uses_model
        return 8.0 * size / (len(chosen) * self.segment_rows), used


class Trainer:
    """Decides for one run which models to train, within its budget of seconds."""

    def __init__(self, options: CompactOptions, trials: Trials) -> None:
        self._options = options
        self._trials = trials
        self._left = options.train_seconds
        self._tried: set[tuple[int, int, SeriesKey]] = set()

    def model_for(
        self,
        plan: SeriesPlan,
        column: ManagedColumn,
        bound: Bound,
        values: NDArray[Any],
        valid: NDArray[np.bool_],
        current: SeriesModel | None,
        before: SettledColumns,
        report: SeriesReport,
    ) -> SeriesModel | None:
        """Return the model that the rows at hand should be coded with: ``current``, a new one, or None.

        ``before`` are the columns that are encoded before this one.

        Never raises because training failed: the column is then coded without a new model, and ``report`` says why.
        What did not pay is remembered (:class:`~ddstore.compact.trials.Trials`), and costs later runs nothing.
        """
        options = self._options
        profile, segment_rows = options.profile_for(plan.table), options.segment_rows_for(plan.table)
        if len(values) < least_rows(segment_rows) or options.train == "never":
            return current
        if profile is Profile.FAST:  # no room for a model in its decode budget
            return current
        this = (plan.table.id, column.id, plan.key)
        if self._grant(_SECONDS_PER_MODEL) is None or this in self._tried:
            return current
        if options.train == "auto" and (why := self._trials.too_soon(plan, column, bound)) is not None:
            self._tried.add(this)
            report.note(f"{column.name}: {why}")
            return current
        sample = Sample(values, valid, column.type, bound, profile, min(segment_rows, len(values)), before)
        if current is not None:
            if not _drifted(current, sample):
                return current
            report.note(f"{column.name}: the model of the segments so far has drifted")
        self._tried.add(this)
        try:
            return self._try(plan, column, sample, current)
        except NotInstalled as error:  # remembered by nobody: torch may be there the next time
            report.note(f"no learned model: {error}")
        except _DoesNotPay as error:
            report.note(f"{column.name}: {error}")
            self._trials.record(plan, column, bound, str(error), error.bits_per_sample)
        return current

    def _try(self, plan: SeriesPlan, column: ManagedColumn, sample: Sample, current: SeriesModel | None) -> SeriesModel:
        """Train nets (profile archive) and return the one that pays most, or train a BTAE where none does."""
        without, _ = sample.bits_per_sample(current)
        if sample.profile is not Profile.ARCHIVE:
            return self._pays(plan, sample, without, self._train(plan, column, sample, current, without))
        nets, failures = [], []
        for net in (self._train_net, self._train_interp):
            try:
                nets.append(self._pays(plan, sample, without, net(plan, column, sample, current, without)))
            except _DoesNotPay as error:
                failures.append(str(error))
        if nets:
            return min(nets, key=lambda net: float(net.record["bits_per_sample"]) * plan.rows + 8 * net.size)
        try:
            return self._pays(plan, sample, without, self._train(plan, column, sample, current, without))
        except _DoesNotPay as error:
            raise _DoesNotPay("; ".join([*failures, str(error)]), without) from None

    def _pays(self, plan: SeriesPlan, sample: Sample, without: float, trained: SeriesModel) -> SeriesModel:
        """Return a model if it pays: bits saved on the planned rows against bits stored."""
        name = _NAMES.get(trained.data[:4], "learned model")
        with _turned_down(without):
            cost, used = sample.bits_per_sample(trained)
        if not used or (without - cost) * plan.rows <= 8 * trained.size:
            raise _DoesNotPay(
                f"a {name} of {trained.size} bytes would not pay "
                f"({cost:.3f} against {without:.3f} bits/sample, {plan.rows} rows)",
                without,
            )
        trained.record["profile"] = sample.profile
        trained.record["bits_per_sample"] = cost
        trained.record["bits_per_sample_without"] = without
        return trained

    def _train(
        self, plan: SeriesPlan, column: ManagedColumn, sample: Sample, parent: SeriesModel | None, without: float
    ) -> SeriesModel:
        from ddstore.model import train_btae  # torch: only when something is trained

        windows, eps = _windows(sample), _half_bin(sample)
        if eps is None or len(windows) < 2:
            raise _DoesNotPay("a learned model needs finite values on a grid, or a bound above 0", None)
        self._screen(plan, without, (without - _LATENT_BITS) * plan.rows <= 8 * _MODEL_BYTES, "learned model")
        with self._training(_SECONDS_PER_MODEL, without) as seconds:
            trained = train_btae(windows, eps=eps, seed=self._options.seed, budget_seconds=seconds)
        return SeriesModel(
            plan.table.id,
            column.id,
            plan.key,
            pack_model(trained.weights),
            trained.encoder,
            _replacing(parent, trained.record),
        )

    def _train_net(
        self, plan: SeriesPlan, column: ManagedColumn, sample: Sample, parent: SeriesModel | None, without: float
    ) -> SeriesModel:
        self._screen(plan, without, _NETS_BEST * without * plan.rows <= 8 * NET_BYTES, _NAMES[b"DNET"])
        return self._trained_net(train_density, plan, column, sample, parent, without)

    def _train_interp(
        self, plan: SeriesPlan, column: ManagedColumn, sample: Sample, parent: SeriesModel | None, without: float
    ) -> SeriesModel:
        name = _NAMES[b"INET"]
        if without > _SMOOTH or sample.bound.kind == "lossless":
            raise _DoesNotPay(f"a {name} is for smooth columns at wide bounds", without)
        self._screen(plan, without, _NETS_BEST * without * plan.rows <= 8 * INET_BYTES, name)
        train = partial(train_interp, coded_bytes=without * plan.rows / 8)
        return self._trained_net(train, plan, column, sample, parent, without)

    def _trained_net(
        self,
        train: Callable[..., tuple[bytes, dict[str, Any]]],
        plan: SeriesPlan,
        column: ManagedColumn,
        sample: Sample,
        parent: SeriesModel | None,
        without: float,
    ) -> SeriesModel:
        with self._training(max(_SECONDS_PER_MODEL, _NETS_SHARE * self._left), without) as seconds:
            data, record = train(
                sample.values,
                sample.valid,
                type=sample.type,
                bound=sample.bound,
                segment_rows=sample.segment_rows,
                seed=self._options.seed,
                seconds=seconds,
            )
        return SeriesModel(plan.table.id, column.id, plan.key, data, None, _replacing(parent, record))

    def _screen(self, plan: SeriesPlan, without: float, hopeless: bool, name: str) -> None:
        if self._options.train == "auto" and hopeless:
            raise _DoesNotPay(
                f"a {name} would not pay, however good ({plan.rows} rows at {without:.3f} bits/sample)", without
            )

    @contextmanager
    def _training(self, most: float, without: float) -> Iterator[float]:
        """Seconds to train for, which are then counted."""
        seconds, started = self._grant(most), time.monotonic()
        if seconds is None:
            raise _DoesNotPay("no time is left for training", without)
        try:
            with _turned_down(without):
                yield seconds
        finally:
            self._left -= time.monotonic() - started

    def _grant(self, most: float) -> float | None:
        if self._options.train == "always":
            return self._options.train_seconds or None
        granted = min(most, self._left)
        return granted if granted >= _LEAST_SECONDS else None


@contextmanager
def _turned_down(without: float) -> Iterator[None]:
    """What goes wrong meanwhile is a model that does not pay."""
    try:
        yield
    except NotInstalled:
        raise
    except (DDStoreError, ValueError, RuntimeError, MemoryError) as error:  # torch raises RuntimeError
        raise _DoesNotPay(f"training failed: {error}", without) from error


def _replacing(parent: SeriesModel | None, record: dict[str, Any]) -> dict[str, Any]:
    return record if parent is None else record | {"replaces": parent.id}


def _drifted(model: SeriesModel, sample: Sample) -> bool:
    """Whether a model falls short of its promise, as far as that can be told: another profile costs other bits."""
    promised = model.record.get("bits_per_sample")
    if promised is None or model.codec() is None or model.record.get("profile") != sample.profile:
        return False
    return sample.bits_per_sample(model)[0] > DRIFT * float(promised)


class _DoesNotPay(Exception):
    """A column is better coded without a (new) model."""

    def __init__(self, why: str, bits_per_sample: float | None) -> None:
        super().__init__(why)
        self.bits_per_sample = bits_per_sample


def _windows(sample: Sample) -> NDArray[np.float32]:
    """Windows as encoding will cut them, (N, T) float32 in raw units: from the start of each segment, gaps filled."""
    with np.errstate(over="ignore"):
        values = sample.values.astype(np.float32)
    finite = sample.valid & np.isfinite(values)
    if not finite.any():
        return np.empty((0, _WINDOW), np.float32)
    first = int(finite.argmax())
    values = values[np.maximum.accumulate(np.where(finite, np.arange(len(values)), first))]
    rows = sample.segment_rows
    segments = values[: len(values) // rows * rows].reshape(-1, rows)
    return segments[:, : rows // _WINDOW * _WINDOW].reshape(-1, _WINDOW)


def _half_bin(sample: Sample) -> float | None:
    """Half the width of a residual bin; None when values neither tolerate an error nor lie on a grid."""
    values = sample.values[sample.valid]
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    eps = float(np.median(np.asarray(absolute_bound(values, sample.bound))))
    if eps > 0:
        return eps
    grid = find_grid(values, as_native(sample.type))
    return None if grid is None else grid.pitch / grid.den / 2
