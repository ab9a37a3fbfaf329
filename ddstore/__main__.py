"""``python -m ddstore``: the command line, wherever the ``ddstore`` program itself is not on the path."""

from __future__ import annotations

from ddstore.cli import main

if __name__ == "__main__":
    main()
