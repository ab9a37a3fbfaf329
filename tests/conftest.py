"""Loads the fixtures: every ``fix_*.py`` beside this file is a small plugin of its own."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE))  # importlib mode leaves the path alone
sys.path.append(str(_HERE.parent))  # for the benchmarks; last, so that the installed ddstore is the one tested

pytest_plugins = [file.stem for file in sorted(_HERE.glob("fix_*.py"))]
