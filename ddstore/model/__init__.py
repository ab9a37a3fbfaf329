"""Training: the only package that needs torch, and nothing that reads stored data imports it.

``btae`` is the model, ``losses`` what it minimises, ``train`` how, ``quantize`` the bytes the C core decodes.
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
from ddstore.model.train import Progress, TrainedBTAE, encode_latents, train_btae

__all__ = ["BTAE", "BTAEConfig", "Progress", "TrainedBTAE", "encode_latents", "train_btae"]
