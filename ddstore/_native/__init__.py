"""The compiled core, as Python sees it. The C sources are in ``core/``, their binding in ``python/``."""

from ddstore._native._ddcore import *  # noqa: F403
