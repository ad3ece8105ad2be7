"""A SAM of `transformers` to compare with."""

from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def hub_sam(tmp_path: Path) -> tuple[Any, Path]:
    """A small random SamModel for images of 64 pixels, and the folder where it is saved."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 64,
            "window_size": 3,
            "global_attn_indexes": [1],
            "output_channels": 16,
            "num_pos_feats": 8,
            "mlp_dim": 40,
            "initializer_range": 0.3,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 24,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 12,
        },
        initializer_range=0.3,
    )
    reference = SamModel(config).eval()
    with torch.no_grad():
        for p in reference.parameters():
            p.normal_(std=0.3)
    reference.save_pretrained(tmp_path / "hub folder")
    return reference, tmp_path / "hub folder"
