"""SAM as it was published, asked with boxes: a guide that is never trained.

MedSAM and LiteMedSAM learned to draw what is in a box, with mask token 0. Nothing of that is
changed here: no LoRA, all mask tokens of the checkpoint, the prompt encoder's own corners.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from synfoc.models.lora import MergedLoRA
from synfoc.models.sam import PromptFreeSam


class BoxSam(nn.Module):
    """Images and boxes to one logit map per box; above 0 is what the box holds.

    Args:
        sam: a network whose mask tokens are those of its checkpoint; frozen here, and its LoRA is
            taken away.
    """

    def __init__(self, sam: PromptFreeSam) -> None:
        super().__init__()
        sam.lora = MergedLoRA()
        self.sam = sam.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(
        self, x: Float[Tensor, "B c S S"], boxes: Float[Tensor, "B n 4"]
    ) -> Float[Tensor, "B n L L"]:
        """Logits of what is in each box.

        Args:
            x: images in [0, 1], gray or color.
            boxes: left, top, right, bottom of the outermost pixels, in pixels of S.

        Raises:
            UserError: the images have another side than S.
        """
        n = boxes.shape[1]
        # A place needs all its digits.
        with torch.autocast(x.device.type, enabled=False):
            corners, _ = self.sam.prompt_encoder(None, None, boxes.float(), None)
        embedding = self.sam.embed(x).repeat_interleave(n, 0)
        masks = self.sam.decode(embedding, corners.flatten(0, 1))[:, 0]
        return masks.view(len(x), n, *masks.shape[1:])
