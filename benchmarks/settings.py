"""The sizes that are measured: the demo's, and the two that the authors' code was timed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synfoc.batches.batch import Sides
from synfoc.config import Config, parse_config


@dataclass(frozen=True)
class Setting:
    """Networks with random weights, and a batch."""

    weights: str
    side: int
    """S, of the foundation model."""
    unet_side: int
    """P."""
    width: int
    """Of the U-Net's first level."""
    batch: int
    """B labeled images and as many unlabeled ones."""
    channels: int
    classes: int
    """K, with the background."""

    @property
    def sides(self) -> Sides:
        """S, L, P: LiteMedSAM answers at the side of its images, SAM's ViT at a quarter."""
        logits = self.side if "lite" in self.weights else self.side // 4
        return Sides(self.side, logits, self.unet_side)

    def changes(self) -> list[str]:
        """As settings of `synfoc train --set`."""
        return [
            f"data.channels={self.channels}",
            f"unet.side={self.unet_side}",
            f"unet.width={self.width}",
            f"medsam.weights={self.weights}",
            f"medsam.side={self.side}",
            f"method.batch={self.batch}",
        ]

    def config(self, data: Path, changes: tuple[str, ...] = ()) -> Config:
        """A config for phantom data of which eight images of one scanner are labeled."""
        tree = {"data": {"path": str(data), "labeled": {"domain": "scanner_a", "count": 8}}}
        return parse_config(tree, (*self.changes(), *changes), source="benchmark")


SETTINGS = {
    "demo": Setting("random:litemedsam", 112, 112, 16, 2, 1, 3),
    "prostate": Setting("random:vit-b", 512, 384, 64, 4, 1, 2),
    "fundus": Setting("random:vit-b", 512, 256, 64, 4, 3, 3),
}
