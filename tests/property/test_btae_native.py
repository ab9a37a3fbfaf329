"""The C decoder is bit for bit what training simulates, on every build, and survives any bytes.

The reference is the torch decoder in float64, where each of its steps is exact.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the training extra is not installed")

from ddstore._native import btae_predict  # noqa: E402
from ddstore.model.btae import BTAEConfig, Decoder  # noqa: E402
from ddstore.model.quantize import load_decoder, pack_decoder  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "ddstore" / "_native" / "core"
SHAPES = [
    BTAEConfig(),
    BTAEConfig(latents=0),
    BTAEConfig(window=64, latents=20, patch=1),
    BTAEConfig(window=30, latents=5, patch=30, layers=1),
    BTAEConfig(window=1024, latents=256, patch=4, layers=4),
    BTAEConfig(window=1024, latents=1, patch=1024, layers=3),
    BTAEConfig(window=1, latents=8, patch=1),
]


def random_section(config: BTAEConfig, seed: int, amplitude: float = 1.0) -> bytes:
    """A section with weights as at initialisation, times ``amplitude``: large ones drive everything into saturation."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        decoder = Decoder(config)
        for layer in decoder.layers:
            layer.distance.normal_()  # type: ignore[union-attr, operator]
        for tensor in decoder.parameters():
            tensor.mul_(amplitude)
    return pack_decoder(decoder, config, 1.5, 0.25)


def wild_section(config: BTAEConfig, seed: int, kind: str) -> bytes:
    """A section whose tensors are random or extreme bytes: anything that dd_btae_open lets through."""
    rng = np.random.default_rng(seed)
    section = bytearray(random_section(config, seed))
    plain = bytes(section)
    tensors = np.frombuffer(plain, np.uint8, offset=32).copy()
    if kind == "random":
        tensors[:] = rng.integers(0, 256, tensors.size)
    else:
        tensors[:] = rng.choice(np.array([0x7F, 0x80, 0xFF], np.uint8), tensors.size)
    section[32:] = tensors.tobytes()
    for start, count in shift_ranges(config):
        section[start : start + count] = bytes(rng.integers(1, 16 if kind == "random" else 2, count, dtype=np.uint8))
    return bytes(section)


def shift_ranges(config: BTAEConfig) -> Iterator[tuple[int, int]]:
    """(offset, rows) of the shifts of every linear layer, from docs/format.md and not from the code."""
    at, n = 32, config.tokens
    layout: list[tuple[int, int] | int] = [(config.latents, 64), 64 * n, (64, 32), 32 * n]
    layout += [(32, 96), 16 * (2 * n - 1), (32, 32), (32, 64), (64, 32)] * config.layers
    layout += [(32, config.patch)]
    for item in layout:
        if isinstance(item, tuple):
            inputs, rows = item
            yield at, rows
            at += rows * (3 + inputs)
        else:
            at += item


def random_bits(config: BTAEConfig, windows: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, (windows, config.latents)).astype(np.uint8)


def pack(bits: NDArray[np.uint8]) -> bytes:
    return np.packbits(bits, axis=1).tobytes()


@torch.inference_mode()
def simulated(section: bytes, bits: NDArray[np.uint8]) -> NDArray[np.int32]:
    decoder = load_decoder(section)[0].double()
    out = decoder(torch.from_numpy(bits).double()).numpy() * 4096
    assert (out == np.round(out)).all()
    return out.astype(np.int32)


def native(section: bytes, bits: NDArray[np.uint8]) -> NDArray[np.int32]:
    return np.frombuffer(btae_predict(section, pack(bits), len(bits)), np.int32).reshape(len(bits), -1)


def case(section: bytes, latents: bytes, windows: int, per_call: int) -> bytes:
    """One case of tests/native/btae_driver.c."""
    return struct.pack("<4I", len(section), len(latents), windows, per_call) + section + latents


def fnv1a(values: NDArray[np.int32]) -> str:
    state = 14695981039346656037
    for byte in values.astype("<i4").tobytes():
        state = ((state ^ byte) * 1099511628211) % 2**64
    return f"{state:016x}"


def build(folder: Path, compiler: str, flags: list[str]) -> Path:
    driver = folder / "-".join([compiler, *flags]).replace("/", "_")
    sources = [REPOSITORY / "tests" / "native" / "btae_driver.c", CORE / "btae.c"]
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", *flags, f"-I{CORE}"]
    subprocess.run([compiler, *options, *map(str, sources), "-o", str(driver)], check=True)
    return driver


def run_driver(driver: Path, cases: bytes, folder: Path, emulator: str | None = None) -> list[str]:
    """The driver's line for each case; a sanitizer's report fails the test."""
    file = folder / "cases"
    file.write_bytes(cases)
    environment = os.environ | {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    command = [driver, file] if emulator is None else [emulator, driver, file]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver with AddressSanitizer and UndefinedBehaviorSanitizer."""
    folder = tmp_path_factory.mktemp("sanitized")
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for compiler in filter(shutil.which, ("gcc", "clang")):
        try:
            driver = build(folder, compiler, flags)
            subprocess.run([driver, os.devnull], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            continue
        return driver
    pytest.skip("no compiler here builds and runs with -fsanitize=address,undefined")


@pytest.mark.parametrize("amplitude", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_decoder_is_the_simulation(config: BTAEConfig, amplitude: float) -> None:
    section = random_section(config, seed=1, amplitude=amplitude)
    bits = random_bits(config, 3, seed=2)
    np.testing.assert_array_equal(native(section, bits), simulated(section, bits))


@torch.inference_mode()
def simulated_as_stored(section: bytes, bits: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The simulation with weights taken as they are: training would never choose a weight of -128."""
    decoder = load_decoder(section)[0].double()
    for module in decoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = exact_forward(module)  # type: ignore[method-assign]
    return (decoder(torch.from_numpy(bits).double()).numpy() * 4096).astype(np.int32)


def exact_forward(module: Any) -> Any:
    return lambda x: torch.nn.functional.linear(x, module.weight, module.bias)


@pytest.mark.parametrize("kind", ["random", "extreme"])
@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_decoder_is_the_simulation_for_any_weights(config: BTAEConfig, kind: str) -> None:
    section = wild_section(config, 3, kind)
    bits = random_bits(config, 3, seed=4)
    expected = simulated_as_stored(section, bits)
    np.testing.assert_array_equal(native(section, bits), expected)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    amplitude=st.floats(0.1, 50),
    latents=st.integers(0, 40),
    patch=st.integers(1, 20),
    tokens=st.integers(1, 12),
    layers=st.integers(1, 4),
)
def test_decoder_is_the_simulation_everywhere(
    seed: int, amplitude: float, latents: int, patch: int, tokens: int, layers: int
) -> None:
    config = BTAEConfig(window=patch * tokens, latents=latents, patch=patch, layers=layers)
    section = random_section(config, seed, amplitude)
    bits = random_bits(config, 4, seed)
    np.testing.assert_array_equal(native(section, bits), simulated(section, bits))


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_float32_training_sees_nearly_the_same(config: BTAEConfig) -> None:
    """Training runs in float32, where a product may round across a grid line: half a percent of a deviation at most."""
    section = random_section(config, seed=5)
    bits = random_bits(config, 4, seed=6)
    with torch.inference_mode():
        seen = load_decoder(section)[0](torch.from_numpy(bits).float()).numpy()
    assert np.abs(seen - native(section, bits) / 4096).max() < 0.005


def test_same_bytes_over_batches_and_threads() -> None:
    config = BTAEConfig()
    section, bits = random_section(config, 7), random_bits(config, 512, 8)
    whole = native(section, bits)
    expected = hashlib.sha256(whole.tobytes()).hexdigest()
    for size in (1, 7, 64, 511):
        parts = [native(section, bits[i : i + size]) for i in range(0, len(bits), size)]
        assert hashlib.sha256(np.concatenate(parts).tobytes()).hexdigest() == expected
    with ThreadPoolExecutor(4) as pool:
        hashes = pool.map(lambda _: hashlib.sha256(native(section, bits).tobytes()).hexdigest(), range(16))
    assert set(hashes) == {expected}


def test_same_bytes_over_compilers_levels_and_machines(tmp_path: Path) -> None:
    toolchains: list[tuple[str, str | None]] = [(name, None) for name in ("gcc", "clang") if shutil.which(name)]
    if shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64"):
        toolchains.append(("aarch64-linux-gnu-gcc", "qemu-aarch64"))
    if not toolchains:
        pytest.skip("no C compiler here")
    cases, expected = b"", []
    for config in SHAPES:
        for section in (random_section(config, 9), random_section(config, 9, 20.0), wild_section(config, 9, "extreme")):
            bits = random_bits(config, 3, 10)
            cases += case(section, pack(bits), 3, 2)
            expected.append(f"0 {fnv1a(native(section, bits))}")
    for compiler, emulator in toolchains:
        for level in ("-O0", "-O1", "-O2", "-O3"):
            driver = build(tmp_path, compiler, [level] if emulator is None else [level, "-static"])
            assert run_driver(driver, cases, tmp_path, emulator) == expected, (compiler, level)


def test_any_weights_are_defined_behaviour(sanitized: Path, tmp_path: Path) -> None:
    cases, expected = b"", []
    for config in SHAPES:
        for seed in range(3):
            for kind in ("random", "extreme"):
                section = wild_section(config, seed, kind)
                bits = random_bits(config, 2, seed)
                cases += case(section, pack(bits), 2, 1)
                expected.append(f"0 {fnv1a(native(section, bits))}")
    assert run_driver(sanitized, cases, tmp_path) == expected


def test_truncated_or_longer_sections_are_refused(sanitized: Path, tmp_path: Path) -> None:
    config = BTAEConfig(window=8, latents=3, patch=4, layers=1)
    section = random_section(config, 11)
    lengths = [*range(40), *range(40, len(section), 97), len(section) - 1]
    cases = b"".join(case(section[:n], b"\0\0", 2, 1) for n in lengths) + case(section + b"\0", b"\0\0", 2, 1)
    assert {line.split()[0] for line in run_driver(sanitized, cases, tmp_path)} == {"1"}


def test_every_header_byte_is_checked(sanitized: Path, tmp_path: Path) -> None:
    """Every value of every header byte: only the mean and the deviation are free, within what a double can be."""
    config = BTAEConfig(window=8, latents=3, patch=4, layers=1)
    section = random_section(config, 12)
    mutants = [section[:at] + bytes([value]) + section[at + 1 :] for at in range(32) for value in range(256)]
    lines = run_driver(sanitized, b"".join(case(m, b"\0" * 32, 1, 1) for m in mutants), tmp_path)
    accepted = {mutant[:32] for mutant, line in zip(mutants, lines, strict=True) if line[0] == "0"}
    assert all(header[:16] == section[:16] for header in accepted)
    for header in accepted:
        mean, deviation = struct.unpack("<2d", header[16:])
        assert math.isfinite(mean)
        assert 0 < deviation < math.inf
    assert len(accepted) > 14 * 200


SECTIONS = [random_section(config, 13) for config in SHAPES]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, len(SHAPES) - 1),
    edits=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=40),
    cut=st.none() | st.integers(0, 2**20),
)
def test_hostile_bytes_do_no_harm(
    sanitized: Path, tmp_path: Path, which: int, edits: list[tuple[int, int]], cut: int | None
) -> None:
    section = bytearray(SECTIONS[which])
    for at, value in edits:
        # Half of the edits hit the header, where sizes and lengths are.
        section[at % 32 if at % 2 else at % len(section)] = value
    mutant = bytes(section if cut is None else section[: cut % (len(section) + 1)])
    (line,) = run_driver(sanitized, case(mutant, b"\x5a" * 64, 1, 1), tmp_path)
    assert line.split()[0] in {"0", "1", "2", "9"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(sanitized: Path, tmp_path: Path, data: bytes) -> None:
    (line,) = run_driver(sanitized, case(b"BTAE\x01" + data, b"", 1, 1), tmp_path)
    assert line.split()[0] == "1"


def test_shifts_are_checked() -> None:
    for config in SHAPES:
        section = random_section(config, 14)
        for start, count in shift_ranges(config):
            for at in (start, start + count - 1):
                for value in (0, 16, 255):
                    with pytest.raises(ValueError, match="shift"):
                        btae_predict(section[:at] + bytes([value]) + section[at + 1 :], b"", 0)


@pytest.mark.parametrize(("latents", "windows"), [(b"", 1), (b"12345", 1), (b"1234", -1), (b"", 10**9), (b"", 2**62)])
def test_binding_wants_latents_that_fit(latents: bytes, windows: int) -> None:
    with pytest.raises(ValueError, match="latents"):
        btae_predict(random_section(BTAEConfig(), 15), latents, windows)


def test_padding_bits_are_ignored() -> None:
    config = BTAEConfig(window=8, latents=3, patch=4, layers=1)
    section = random_section(config, 16)
    assert btae_predict(section, b"\xa0", 1) == btae_predict(section, b"\xbf", 1)
    assert btae_predict(section, b"\xa0", 1) != btae_predict(section, b"\x80", 1)
