"""Training: the only package that needs torch, and nothing that reads stored data imports it.

``btae`` is one model, ``losses`` what it minimises, ``train`` how; ``net`` and ``train_net`` are the same of the other,
the density net, ``inet`` those of mode interp's net; ``quantize`` makes the bytes that the C core decodes.
"""

from __future__ import annotations

from ddstore.errors import NotInstalled

try:
    import cryptorandom  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise NotInstalled(
        f"training needs the package {error.name!r}",
        remedy="Install it with: pip install 'ddstore[train]'. Everything but training works without it.",
    ) from error

from ddstore.model.btae import BTAE, BTAEConfig
from ddstore.model.inet import train_inet
from ddstore.model.net import NetConfig
from ddstore.model.train import Progress, TrainedBTAE, draw_sample, encode_latents, train_btae
from ddstore.model.train_net import Stretch, TrainedNet, train_net

__all__ = [
    "BTAE",
    "BTAEConfig",
    "NetConfig",
    "Progress",
    "Stretch",
    "TrainedBTAE",
    "TrainedNet",
    "draw_sample",
    "encode_latents",
    "train_btae",
    "train_inet",
    "train_net",
]
