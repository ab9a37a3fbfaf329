"""Promise: coder net in mode interp keeps every bound, whatever net and rows are, and refuses what is no such net."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coded import INET, NET, encode_native, random_inet
from columns import decode_mutated, with_mutated_models
from ddstore import _native
from ddstore._native import crc32c
from ddstore.codec.format import FLAG_EXACT, FLAG_EXCEPTIONS, FLAG_NULLS, Coder, Mode
from ddstore.codec.model import InterpNet, pack_model
from ddstore.codec.segment import decode_column
from ddstore.errors import CorruptSegment
from fix_native import SANITIZE, BuildDriver

EXTREMES = [0, 1, -1, 2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63)]


def coded_by(
    net: bytes, highest: NDArray[np.int64], width: int, stride: int = 5, classes: NDArray[np.uint8] | None = None
) -> bytes:
    return encode_native(
        "int8",
        Coder.NET,
        Mode.INTERP,
        highest,
        model=net,
        width=width,
        stride=stride,
        classes=classes,
        bits=highest.view(np.uint64),
        flags=FLAG_EXACT | (0 if classes is None else FLAG_EXCEPTIONS | FLAG_NULLS),
    )


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    n=st.integers(1, 700),
    stride=st.integers(0, 16),
    width=st.sampled_from([1, 2, 31, 2**20, 2**40]),
    scale=st.sampled_from([0.0, 0.3, 20.0, 1e6, 1e15]),
    far=st.lists(st.tuples(st.integers(0, 699), st.sampled_from(EXTREMES)), max_size=5),
    exceptions=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_net_keeps_any_rows(
    seed: int,
    shape: tuple[int, int],
    n: int,
    stride: int,
    width: int,
    scale: float,
    far: list[tuple[int, int]],
    exceptions: bool,
) -> None:
    rng = np.random.default_rng(seed)
    highest = rng.normal(0, scale, n).cumsum().astype(np.int64)
    for at, value in far:
        highest[at % n] = value
    classes = np.where(rng.random(n) < 0.8, 0, rng.choice([1, 4], n)).astype(np.uint8) if exceptions else None
    net = random_inet(seed, shape)
    values, valid = decode_column(coded_by(net, highest, width, stride, classes), None, net, "int8", n)
    plain = np.ones(n, dtype=bool) if classes is None else classes == 0
    below = highest[plain].view(np.uint64) - values[plain].view(np.uint64)
    assert (below < width).all()
    if classes is not None:
        np.testing.assert_array_equal(values[classes == 4], highest[classes == 4])
        assert valid is None or (valid == (classes != 1)).all()


def test_the_core_computes_what_training_does() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch")
    from ddstore.model.inet import INPUTS, pack_inet
    from ddstore.model.net import ONE, MixtureNet, mixture_mean

    torch.manual_seed(3)
    index = np.random.default_rng(4).normal(0, 9, 1500).cumsum().astype(np.int64)
    index[700:] *= 10**6
    for hidden in ((1, 1), (24, 16), (64, 5)):
        net = MixtureNet(INPUTS, hidden)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(6)  # so that some values saturate
        seen, made, scales, targets = _native.inet_trace(pack_inet(net), index, 7, 6)
        inputs = torch.from_numpy(np.frombuffer(seen, np.int16).reshape(-1, INPUTS).astype(np.float64))
        assert len(inputs) == len(index) - 24  # the others are anchors
        with torch.no_grad():
            output = net.double()(inputs / ONE)
        np.testing.assert_array_equal(np.frombuffer(made, np.int16).reshape(-1, 12), (output * ONE).numpy())
        scale = torch.from_numpy(np.frombuffer(scales, np.float32).astype(np.float64))
        assert (scale > 0).all()
        assert np.isfinite(np.frombuffer(targets, np.float32)).all()
        assert mixture_mean(output, scale).isfinite().all()


def test_another_model_or_none_is_refused() -> None:
    residual = coded_by(INET, np.arange(50, dtype=np.int64), 3)
    for model, what in ((None, "needs its model"), (random_inet(8), "not the one"), (INET[:-1] + b"x", "checksum")):
        with pytest.raises(CorruptSegment, match=what):
            decode_column(residual, None, model, "int8", 50)
    renamed = residual.replace(INET[-4:], NET[-4:])[:-4]
    with pytest.raises(CorruptSegment, match="INET"):  # the net of the other mode
        decode_column(renamed + crc32c(renamed).to_bytes(4, "little"), None, NET, "int8", 50)


def test_mutated_nets_do_no_harm(build_driver: BuildDriver) -> None:
    """Each bit of a model flipped, its checksum mended: it decodes something, or is refused. So is a shorter one."""
    highest = np.random.default_rng(9).normal(0, 30, 40).cumsum().astype(np.int64)
    net = random_inet(10, (3, 2))
    residual = coded_by(net, highest, 5, 3)
    program = build_driver("column_driver.c", *SANITIZE)
    told = decode_mutated(program, with_mutated_models(residual, net, 40))
    assert "ok=0 " not in told
    assert "corrupt=0 " not in told


@pytest.mark.parametrize(("at", "value"), [(4, 2), (5, 0), (5, 65), (6, 0), (6, 65), (7, 1), (8, 0), (8, 16)])
def test_impossible_headers_are_refused(at: int, value: int) -> None:
    net = bytearray(INET[:-4])
    net[at] = value
    with pytest.raises(CorruptSegment):
        InterpNet(pack_model(bytes(net)))
