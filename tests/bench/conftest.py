"""A suite of two methods on small squares, each cell of which takes a second."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

SUITE = {
    "name": "squares",
    "base": {
        "method": {"batch": 2, "branches": "unet"},
        "unet": {"side": 32, "width": 4},
        "train": {
            "steps": 6,
            "precision": "fp32",
            "log_every": 2,
            "evaluate_every": 3,
            "evaluate_images": 4,
            "checkpoint_every": 2,
        },
    },
    "data": {
        "squares": {
            "path": ".",
            "labeled": [{"domain": "alpha", "count": 4}, {"domain": "beta", "count": 4}],
        }
    },
    "methods": {
        "supervised": {"title": "Supervised U-Net", "settings": {"method": {"name": "supervised"}}},
        "synfoc": {"title": "U-Net alone", "branches": ["recommended"]},
    },
    "seeds": [1],
    "protocols": ["honest", "paper"],
}


@pytest.fixture
def suite_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the suite with some keys replaced."""

    def write(**changes: object) -> Path:
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump(SUITE | changes))
        return path

    return write
