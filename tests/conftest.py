"""What every test shares: shape checks on the pure parts, the shared folder, quiet threads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from PIL import Image

settings.register_profile("here", deadline=None, derandomize=True)  # noisy machines
settings.load_profile("here")
hook = install_import_hook(["synfoc.methods", "synfoc.batches.batch"], "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of tensors that the authors' code made; the test skips where it is absent."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("no ../shared/golden beside the project")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images from several hospitals; the test skips where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the project")
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator for the random numbers of one test."""
    return torch.Generator().manual_seed(7)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scanners, each 8 training and 3 test images of a bright square; labels for all."""
    side = 32
    root = tmp_path_factory.mktemp("data") / "two squares é"
    rng = np.random.default_rng(5)
    for domain, dark in (("alpha", 0), ("beta", 90)):
        for split, count in (("train", 8), ("test", 3)):
            for name in ("image", "mask"):
                (root / domain / split / name).mkdir(parents=True)
            for i in range(count):
                label = np.zeros((side, side), np.uint8)
                y, x = rng.integers(2, 14, 2)
                label[y : y + 14, x : x + 14] = 1
                image = label * 100 + dark + rng.integers(0, 60, label.shape)
                Image.fromarray(image.astype(np.uint8)).save(
                    root / domain / split / f"image/{i}.png"
                )
                Image.fromarray(label).save(root / domain / split / f"mask/{i}.png")
    return root
