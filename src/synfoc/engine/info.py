"""What this installation can do on this machine: for people, bug reports and assistants."""

from __future__ import annotations

from typing import Any

import torch

from synfoc.config import METHODS
from synfoc.engine.machine import choose_device, choose_precision, free_memory_gib
from synfoc.environment import environment
from synfoc.images.formats import IMAGE_SUFFIXES
from synfoc.models.build import CONVENTIONAL, SHAPES
from synfoc.models.weights import list_weights

OF_ONE_CALL = ("command", "started")
"""Keys of `environment` that say what one call was, not what the machine is."""

OF_WEIGHTS = ("name", "what", "source", "megabytes", "state")
OF_METHODS = ("title", "networks", "unlabeled", "teacher")


def info() -> dict[str, Any]:
    """Describe versions, device, weights, methods and networks; nothing is fetched or written.

    Returns:
        {versions, python, platform, cpus, memory_gib, commit, device: {kind, name, precision,
        free_gib}, weights: [{name, what, source, megabytes, state}], methods: {name: {title,
        networks, unlabeled, teacher}}, networks: {conventional, foundation}, formats}.
    """
    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    machine = {key: value for key, value in environment().items() if key not in OF_ONE_CALL}
    return {
        **machine,
        "device": {
            "kind": device.type,
            "name": name,
            "precision": choose_precision("auto", device),
            "free_gib": round(free_memory_gib(device), 1),
        },
        "weights": [_chosen(status, OF_WEIGHTS) for status in list_weights()],
        "methods": {name: _chosen(about, OF_METHODS) for name, about in METHODS.items()},
        "networks": {"conventional": list(CONVENTIONAL), "foundation": list(SHAPES)},
        "formats": list(IMAGE_SUFFIXES),
    }


def _chosen(record: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}
