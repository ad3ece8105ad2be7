"""What every test shares: shape checks on the pure parts, the shared folder, quiet threads."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

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
