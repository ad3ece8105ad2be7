"""What every test shares: shape checks on the pure parts, the shared folder, quiet threads."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from PIL import Image

settings.register_profile("here", deadline=None, derandomize=True)  # noisy machines
settings.load_profile("here")
# Not models.lora and models.unet: their checks make a small network's step a third slower.
CHECKED = ["synfoc.methods", "synfoc.batches", "synfoc.engine.evidence"]
NETWORKS = ("attention", "dropping", "prompted", "sam", "tiny_vit", "vit")
CHECKED += [f"synfoc.models.{name}" for name in NETWORKS]
hook = install_import_hook(CHECKED, "beartype.beartype")

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


VOID = {"meta", "input", "br", "hr", "img"}


class Wellformed(HTMLParser):
    """Collects text and ids; fails on a tag that is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for name in ("src", "href", "xlink:href"):
            assert (found.get(name) or "#").startswith(("data:", "#")), found

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def read_page() -> Callable[[Path], tuple[str, str]]:
    """Read an HTML page: its source and its text, after checks that every page must pass."""

    def read(page: Path) -> tuple[str, str]:
        html = page.read_text(encoding="utf-8")
        parsed = Wellformed(html)
        assert len(parsed.ids) == len(set(parsed.ids))
        assert not re.search(r"https?://|url\((?!#)|@import|<script|<link", html)
        return html, parsed.text

    return read


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
