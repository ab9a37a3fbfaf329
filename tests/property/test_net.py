"""Promise: coder net keeps every index whatever its net and the indices are, and refuses what is not its very model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coded import NET, encode_native, random_net
from columns import decode_mutated, with_mutated_models
from ddstore import _native
from ddstore._native import CorruptError, crc32c
from ddstore.bounds import Absolute
from ddstore.codec import choose
from ddstore.codec.column import Column
from ddstore.codec.format import FLAG_EXACT, FLAG_EXCEPTIONS, FLAG_NULLS, Coder, Mode
from ddstore.codec.model import Model, Net, pack_model
from ddstore.codec.segment import decode_column, verified
from ddstore.codec.select import Density
from ddstore.errors import CorruptSegment
from fix_native import SANITIZE, BuildDriver

EXTREMES = [0, 1, -1, 2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63)]


def coded_by(
    net: bytes, index: NDArray[np.int64], classes: NDArray[np.uint8] | None = None, unit: float = 0.1
) -> bytes:
    return encode_native(
        "int8",
        Coder.NET,
        Mode.LATTICE,
        index,
        model=net,
        base=3,
        unit=unit,
        classes=classes,
        bits=index.view(np.uint64),
        flags=FLAG_EXACT | (0 if classes is None else FLAG_EXCEPTIONS | FLAG_NULLS),
    )


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    lags=st.sets(st.integers(1, 1023), min_size=1, max_size=112),
    scale=st.sampled_from([0.0, 0.3, 20.0, 1e6, 1e15]),
    far=st.lists(st.tuples(st.integers(0, 299), st.sampled_from(EXTREMES)), max_size=5),
    exceptions=st.booleans(),
    unit=st.sampled_from([0.0, 1e-9, 0.1, 1e12]),
)
@settings(deadline=None, max_examples=60)
def test_any_net_keeps_any_indices(
    seed: int,
    shape: tuple[int, int],
    lags: set[int],
    scale: float,
    far: list[tuple[int, int]],
    exceptions: bool,
    unit: float,
) -> None:
    rng = np.random.default_rng(seed)
    index = rng.normal(0, scale, 300).cumsum().astype(np.int64)
    for at, value in far:
        index[at] = value
    classes = np.where(rng.random(300) < 0.8, 0, rng.choice([1, 4], 300)).astype(np.uint8) if exceptions else None
    net = random_net(seed, sorted(lags), shape)
    values, valid = decode_column(coded_by(net, index, classes, unit), None, net, "int8", 300)
    there = np.ones(300, dtype=bool) if classes is None else classes != 1
    np.testing.assert_array_equal(values[there], index[there])
    assert valid is None or (valid == there).all()


def test_the_core_computes_what_training_does() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch")
    from ddstore.model.net import ONE, DensityNet, NetConfig, pack_net

    torch.manual_seed(3)
    for lags, hidden in (((1,), (1, 1)), (tuple(range(1, 49)), (32, 32)), ((1, 7, 1023), (64, 5))):
        net = DensityNet(NetConfig(lags, hidden))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(6)  # so that some values saturate
        index = np.random.default_rng(4).normal(0, 9, 1500).cumsum().astype(np.int64)
        index[700:] *= 10**6
        seen, scales, made = _native.net_trace(pack_net(net, 2.0, 0.0, 50.0), index, 5, 0.02)
        inputs = torch.from_numpy(np.frombuffer(seen, np.int16).reshape(len(index), -1).astype(np.float64))
        with torch.no_grad():
            expected = net.double()(inputs / ONE) * ONE
        np.testing.assert_array_equal(np.frombuffer(made, np.int16).reshape(-1, 12), expected.numpy())
        assert (np.frombuffer(scales, np.float32) > 0).all()


def test_training_counts_the_bits_that_the_coder_writes() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch")
    from ddstore.model.net import ONE, code_length

    index = np.random.default_rng(5).normal(0, 3, 20_000).cumsum().astype(np.int64)
    mild = bytearray(random_net(2, (1, 2, 3), (8, 8)))
    at = 28 + 6 + 8 * (3 + 19) + 8 * (3 + 8)
    mild[at + 12 : at + 36] = np.array([0] * 8 + [-2000, 0, 2000, 4000], "<i2").tobytes()
    mild[at + 36 : -4] = bytes(len(mild) - 4 - at - 36)
    net = pack_model(bytes(mild[:-4]))
    _, scales, outputs = _native.net_trace(net[:-4], index, 3, 0.1)
    with torch.no_grad():
        bits = code_length(
            torch.from_numpy(np.frombuffer(outputs, np.int16).reshape(-1, 12)[1:] / ONE),
            torch.from_numpy(np.frombuffer(scales, np.float32)[1:].astype(np.float64)),
            torch.from_numpy(np.diff(index).astype(np.float64)),
        )
    assert 8 * len(coded_by(net, index)) == pytest.approx(float(bits.sum()), rel=0.005)


def test_a_column_keeps_its_bound_on_a_lattice_of_floats() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0, 40, 5000).cumsum() / 7
    values[[3, 77, 4000]] = np.nan, np.inf, -0.0
    valid = rng.random(5000) > 0.1
    bound = Absolute(0.25)
    column = Column.of(values, valid, "float8", bound)
    net = Net(random_net(7, (1, 2, 4, 8)))
    density = Density.of(choose.cheapest_path(column, bound), net)
    assert density is not None
    coded = density.code()
    assert coded is not None
    checked = verified(column, coded, net)  # raises where a value is beyond its bound
    assert (checked.coder, checked.mode, checked.uses_model) == ("net", "lattice", True)


def test_another_model_or_none_is_refused() -> None:
    index = np.arange(50, dtype=np.int64)
    residual = coded_by(NET, index)
    for model, what in ((None, "needs its model"), (random_net(8), "not the one"), (NET[:-1] + b"x", "checksum")):
        with pytest.raises(CorruptSegment, match=what):
            decode_column(residual, None, model, "int8", 50)
    with pytest.raises(CorruptSegment, match="BTAE"):
        Net(pack_model(b"BTAE" + NET[4:-4]))
    at = residual.index(np.float32(0.1).tobytes())
    other = residual[:at] + np.float32("nan").tobytes() + residual[at + 4 : -4]
    with pytest.raises(CorruptError, match="parameters of the coder"):
        _native.peek_column(other + crc32c(other).to_bytes(4, "little"))


def test_mutated_nets_do_no_harm(build_driver: BuildDriver) -> None:
    """Each bit of a model flipped, its checksum mended: it decodes something, or is refused. So is a shorter one."""
    index = np.random.default_rng(9).normal(0, 30, 40).cumsum().astype(np.int64)
    net = random_net(10, (1, 5, 1023), (3, 2))
    residual = coded_by(net, index)
    program = build_driver("column_driver.c", *SANITIZE)
    told = decode_mutated(program, with_mutated_models(residual, net, 40))
    assert "ok=0 " not in told
    assert "corrupt=0 " not in told


@pytest.mark.parametrize(
    ("at", "value"),
    [(4, 2), (5, 0), (5, 113), (6, 0), (6, 65), (7, 0), (7, 65), (11, 0xFF), (19, 0x7F), (27, 0xFF), (28, 0), (29, 4)],
)
def test_impossible_headers_are_refused(at: int, value: int) -> None:
    net = bytearray(NET[:-4])
    net[at] = value
    if at in (19, 27):
        net[at - 1] = 0xF0
    with pytest.raises(CorruptSegment):
        Net(pack_model(bytes(net)))


def test_a_btae_is_no_net(small_model: Model) -> None:
    residual = coded_by(NET, np.arange(50, dtype=np.int64))
    other = residual.replace(NET[-4:], small_model.data[-4:])[:-4]
    with pytest.raises(CorruptSegment, match="DNET"):
        decode_column(other + crc32c(other).to_bytes(4, "little"), None, small_model.data, "int8", 50)
