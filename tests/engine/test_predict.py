"""Prediction: names and geometry of the masks, the order of the list, what is never overwritten."""

import csv
import json
import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.fakes import Fake, networks_of
from synfoc.batches.batch import Sides
from synfoc.engine import predict as module
from synfoc.engine.estimate import Calibration
from synfoc.engine.inference import Segmenter
from synfoc.engine.mask_names import find_images
from synfoc.engine.overlay import COLORS, draw_overlay
from synfoc.engine.predict import deployed_answer, predict
from synfoc.engine.prediction_table import Prediction, urgency
from synfoc.errors import UserError


class Bright(Fake):
    """Class 1 where the image is brighter than a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        z = 4 * torch.sign(x.mean(1, keepdim=True) - self.threshold)
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose U-Net sees all above 0.25 and whose MedSAM all above 0.75."""
    unet, medsam = Bright(0.25), Bright(0.75)
    networks = networks_of(
        Sides(16, 16, 16), unet=unet, unet_teacher=unet, medsam=medsam, medsam_teacher=medsam
    )
    loaded = SimpleNamespace(
        networks=networks,
        config=SimpleNamespace(data=SimpleNamespace(nested=False, slice_axis=None)),
        classes=("bright",),
        channels=1,
        device=torch.device("cpu"),
        precision="fp32",
        step=7,
    )
    monkeypatch.setattr(module, "load_run", lambda run, **_: loaded)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_text('{"recommended": "unet"}')
    return folder


def picture(path: Path, *columns: int, size: tuple[int, int] = (16, 16)) -> Path:
    """A gray PNG of vertical stripes of equal width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.repeat(np.array(columns, np.uint8), size[1] // len(columns))
    Image.fromarray(np.tile(row, (size[0], 1))).save(path)
    return path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_training_recommends_is_asked(run: Path) -> None:
    segmenter = Segmenter.of_run(module.load_run(run))

    def asked(**summary: str) -> tuple[str, str]:
        return deployed_answer(summary, segmenter)

    assert asked(recommended="unet") == ("unet", "student")
    assert asked(recommended="medsam", recommended_role="teacher") == ("medsam", "teacher")
    assert asked() == ("medsam", "student"), "of a run that has not ended: the paper's choice"
    only = replace(segmenter.networks, branches=(segmenter.networks["unet"],))
    alone = replace(segmenter, networks=only)
    assert deployed_answer({}, alone) == ("unet", "student"), "the only network there is"
    with pytest.raises(UserError, match="recommends no branch"):
        asked(recommended="both")


def test_images_are_never_replaced_by_their_masks(run: Path, tmp_path: Path) -> None:
    """Not even with overwrite: `a.png` in its own folder would become the mask of itself."""
    image = picture(tmp_path / "scans" / "a.png", 0, 255)
    picture(tmp_path / "scans" / "b.jpg", 0, 255)
    before = image.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="would replace the images"):
            predict(run, [image], out=image.parent, overwrite=overwrite)
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    with pytest.raises(UserError, match="would replace the images"):
        predict(run, [image], out=tmp_path / "link", overwrite=True)
    assert image.read_bytes() == before
    predict(run, [tmp_path / "scans/b.jpg"], out=tmp_path / "scans")
    assert (tmp_path / "scans/b.png").is_file()


def test_files_that_no_decoder_reads_are_rows_and_the_others_get_masks(
    run: Path, tmp_path: Path
) -> None:
    """Surface data, a web page, a half array and a picture cut short, beside two that are whole.

    Of the array with its channels first a note says how it was read.
    """
    scans = tmp_path / "scans"
    picture(scans / "good.png", 0, 255)
    np.save(scans / "first.npy", np.full((3, 16, 16), 200, np.uint8))
    header = nib.Nifti2Header()
    header["intent_code"] = 3006
    (scans / "a.dscalar.nii").write_bytes(header.binaryblock + bytes(600))
    (scans / "b.nii.gz").write_text("<html>not found</html>")
    (scans / "c.npy").write_bytes((scans / "first.npy").read_bytes()[:200])
    (scans / "d.png").write_bytes((scans / "good.png").read_bytes()[:45])
    with pytest.warns(UserWarning, match="read as color, channels first: 1 of the images"):
        rows = predict(run, scans, out=tmp_path / "out")
    assert sorted(Path(row.image).name for row in rows if row.failed) == [
        "a.dscalar.nii", "b.nii.gz", "c.npy", "d.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "first.png", "good.png",
    ]  # fmt: skip


def test_paths_may_be_texts(run: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 0, 255)
    (row,) = predict(str(run), str(tmp_path / "in"), out=str(tmp_path / "out"))
    assert not row.failed


def test_a_folder_of_masks_is_told(run: Path, tmp_path: Path) -> None:
    picture(tmp_path / "set/image/a.png", 0, 255)
    picture(tmp_path / "set/mask/a.png", 0, 1)
    with pytest.raises(UserError, match=r"taken for labels: .*mask"):
        predict(run, [tmp_path / "set/mask"], out=tmp_path / "out")


def test_a_folder_becomes_masks_of_the_same_names_and_sizes(run: Path, tmp_path: Path) -> None:
    images = tmp_path / "my images é"
    picture(images / "a" / "one.png", 0, 255, size=(20, 32))
    picture(images / "b" / "one.png", 255, 0, 0, 0)
    rows = predict(run, [images], out=tmp_path / "out")
    mask = np.array(Image.open(tmp_path / "out" / "a" / "one.png"))
    assert mask.shape == (20, 32) and mask.dtype == np.uint8
    assert (mask == np.tile(np.repeat([0, 1], 16), (20, 1))).all()
    assert sorted(row.mask for row in rows) == ["a/one.png", "b/one.png"]
    assert [row.foreground for row in sorted(rows, key=lambda r: r.mask)] == [0.5, 0.25]
    assert {type(row.foreground) for row in rows} == {float}


def test_what_to_check_comes_first(run: Path, tmp_path: Path) -> None:
    """Unreadable, then empty, then by the agreement of the branches, where nothing is estimated.

    sure: both see the 128 bright pixels of 256. unsure: the U-Net sees 128, MedSAM 64:
    (2 * 64 + 1) / (128 + 64 + 1.001) = .6684.
    """
    picture(tmp_path / "in" / "sure.png", 0, 255)
    picture(tmp_path / "in" / "unsure.png", 0, 0, 128, 255)
    picture(tmp_path / "in" / "empty.png", 0, 0)
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    rows = predict(run, [tmp_path / "in"], out=tmp_path / "out")
    assert [Path(row.image).stem for row in rows] == ["broken", "empty", "unsure", "sure"]
    assert [row.failed for row in rows] == [True, False, False, False]
    assert rows[1].note == "empty mask"
    assert rows[2].confidence == pytest.approx(0.6684, abs=1e-4)
    assert rows[3].confidence == pytest.approx(1, abs=1e-4)
    table = rows_of(tmp_path / "out")
    assert [row["confidence"] for row in table] == ["", "1.0000", "0.6684", "1.0000"]
    assert "broken.png" in table[0]["note"] and table[0]["mask"] == ""
    assert not (tmp_path / "out" / "broken.png").exists()


def test_a_low_estimate_goes_before_a_low_agreement() -> None:
    """Agreement says as much of the weaker network as of the one that answers."""

    def row(image: str, estimated: float | None, confidence: float) -> Prediction:
        return Prediction(
            image=image, mask="m.png", confidence=confidence, certainty=0.9,
            estimated_dice=estimated, foreground=0.2, slice=None, note="",
        )  # fmt: skip

    rows = [
        row("weak U-Net", 0.95, 0.3),
        row("wrong", 0.5, 0.8),
        row("equal, less agreed", 0.95, 0.2),
        row("no estimate", None, 0.7),
    ]
    assert [r.image for r in sorted(rows, key=urgency)] == [
        "wrong",
        "no estimate",
        "equal, less agreed",
        "weak U-Net",
    ]


def test_dice_is_estimated_where_the_run_was_calibrated(run: Path, tmp_path: Path) -> None:
    """p = .982 = 1 / (1 + e^-4) on 128 bright pixels of 256, 1 - p elsewhere.

    Expected Dice 2 * 128 p / (128 + 128 p + 128 (1 - p)) = p; the estimate is 2 p - 1 =
    .964. Nothing bright: what empty masks were worth.
    """
    picture(tmp_path / "in" / "half.png", 0, 255)
    picture(tmp_path / "in" / "none.png", 0, 0)
    (row, _) = predict(run, [tmp_path / "in"], out=tmp_path / "before")
    assert row.estimated_dice is None
    summary = {"recommended": "unet", "best_step": 7}
    summary["calibration"] = {"unet": {"student": asdict(Calibration(-1, 2, 0, empty=0.3))}}
    (run / "summary.json").write_text(json.dumps(summary))
    empty, half = predict(run, [tmp_path / "in"], out=tmp_path / "out")
    assert half.estimated_dice == pytest.approx(1 - 2 / (1 + math.exp(4)), abs=1e-6)
    assert empty.estimated_dice == pytest.approx(0.3)
    assert [r["estimated_dice"] for r in rows_of(tmp_path / "out")] == ["0.3000", "0.9640"]


def test_a_nifti_volume_keeps_affine_and_shape(run: Path, tmp_path: Path) -> None:
    """3 slices of 16 x 16; the branches differ on one: there the row points."""
    voxels = np.zeros((16, 16, 3), np.float32)
    voxels[:8] = 1
    voxels[8:12, :, 1] = 0.5
    affine = np.diag([0.5, 0.7, 8.0, 1.0])
    path = tmp_path / "heart.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), path)
    (row,) = predict(run, [path], out=tmp_path / "out", probabilities=True, overlay=True)
    mask = nib.load(tmp_path / "out" / "heart.nii.gz")
    assert np.allclose(mask.affine, affine)
    assert (np.asarray(mask.dataobj) == (voxels > 0.25)).all()
    assert row.slice == 1
    soft = nib.load(tmp_path / "out" / "heart_probabilities.nii.gz")
    assert soft.shape == (16, 16, 3, 2)
    assert np.allclose(np.asarray(soft.dataobj).sum(-1), 1, atol=1e-5)
    assert (tmp_path / "out" / "heart_overlay.png").is_file()


def test_existing_masks_stop_everything_before_it_begins(run: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 0, 255)
    picture(tmp_path / "in" / "b.png", 0, 255)
    out = tmp_path / "out"
    picture(out / "b.png", 7, 7)
    with pytest.raises(UserError, match="already holds masks") as error:
        predict(run, [tmp_path / "in"], out=out)
    assert error.value.found == "b.png"
    assert [p.name for p in out.iterdir()] == ["b.png"]
    predict(run, [tmp_path / "in"], out=out, overwrite=True)
    assert np.array(Image.open(out / "b.png")).max() == 1


def test_the_list_keeps_masks_of_earlier_calls(run: Path, tmp_path: Path) -> None:
    a, b, c = (picture(tmp_path / "in" / f"{name}.png", 0, 255) for name in "abc")
    out = tmp_path / "out"
    predict(run, [a, b, c], out=out)
    first = {row["mask"]: row for row in rows_of(out)}
    picture(b, 0, 0)  # another image under the same name
    (out / "c.png").unlink()
    with pytest.raises(UserError, match="already holds masks"):
        predict(run, [b], out=out)
    (row,) = predict(run, [b], out=out, overwrite=True)
    assert row.note == "empty mask", "what is returned is of this call alone"
    empty, kept = rows_of(out)
    assert (empty["mask"], empty["note"]) == ("b.png", "empty mask")
    assert kept == first["a.png"]
    predict(run, [picture(tmp_path / "in" / "d.png", 0, 255)], out=out)
    assert [row["mask"] for row in rows_of(out)][1:] == ["a.png", "d.png"], "nothing is replaced"


@pytest.mark.parametrize(
    "table",
    [
        b"image,score\nx.png,1\n",
        b"image,mask,confidence,certainty,estimated_dice,foreground,slice,note\na,b.png,high,,,,,\n",
        "Bild;Maske\nM\u00fcller.png;x\n".encode("cp1252"),
        b"image,mask\n,",
    ],
)
def test_a_list_that_others_wrote_is_replaced_with_a_word(
    run: Path, tmp_path: Path, table: bytes
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.csv").write_bytes(table)
    image = picture(tmp_path / "a.png", 0, 255)
    with pytest.raises(UserError, match="not as synfoc wrote it"):
        predict(run, [image], out=out)
    assert [path.name for path in out.iterdir()] == ["predictions.csv"]
    with pytest.warns(UserWarning, match="not as synfoc wrote it"):
        predict(run, [image], out=out, overwrite=True)
    assert [row["mask"] for row in rows_of(out)] == ["a.png"]


def test_a_list_that_a_spreadsheet_saved_is_still_read(run: Path, tmp_path: Path) -> None:
    """It makes 3 into 3.0."""
    out = tmp_path / "out"
    picture(out / "b.png", 1, 1)
    (out / "predictions.csv").write_text(
        "image,mask,confidence,certainty,estimated_dice,foreground,slice,note\n"
        "b.nii.gz,b.png,0.5,0.9,,0.25,3.0,\n"
    )
    predict(run, [picture(tmp_path / "a.png", 0, 255)], out=out, overwrite=True)
    assert {row["mask"]: row["slice"] for row in rows_of(out)} == {"a.png": "", "b.png": "3"}


def test_masks_inside_the_input_folder_are_not_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 0, 255)
    picture(tmp_path / "masks" / "a.png", 0, 1)
    (tmp_path / "notes.txt").write_text("not an image")
    assert find_images([tmp_path], tmp_path / "masks").images == {Path("a.png"): tmp_path / "a.png"}


def test_labels_among_images_are_not_images(tmp_path: Path) -> None:
    """As training reads a flat folder: x_mask is the label of x, seg that of a single image."""
    picture(tmp_path / "flat" / "x.png", 0, 255)
    picture(tmp_path / "flat" / "x_mask.png", 0, 1)
    picture(tmp_path / "flat" / "y_mask.png", 0, 255)
    picture(tmp_path / "sub-01" / "T1.png", 0, 255)
    picture(tmp_path / "sub-01" / "seg.png", 0, 1)
    with pytest.warns(UserWarning, match=r"look like labels .*x_mask.png.*seg.png"):
        found = find_images([tmp_path], tmp_path / "out")
    assert sorted(map(str, found.images)) == ["flat/x.png", "flat/y_mask.png", "sub-01/T1.png"]
    label = tmp_path / "flat" / "x_mask.png"
    assert find_images([label], tmp_path / "out").images == {Path("x_mask.png"): label}


def test_labels_beside_images_are_not_images(tmp_path: Path) -> None:
    """A data set can be named as it is; a lone folder `mask` is taken as images."""
    picture(tmp_path / "A" / "test" / "image" / "a.png", 0, 255)
    picture(tmp_path / "A" / "test" / "mask" / "a.png", 0, 1)
    picture(tmp_path / "A" / "test" / "mask_of_another_reader" / "a.png", 0, 1)
    picture(tmp_path / "B" / "mask" / "b.png", 0, 255)
    with pytest.warns(UserWarning, match=r"look like labels .*A/test/mask"):
        found = find_images([tmp_path], tmp_path / "out")
    assert list(found.images) == [Path("A/test/image/a.png"), Path("B/mask/b.png")]


def test_folders_whose_names_only_begin_like_labels_are_images(tmp_path: Path) -> None:
    for folder in ("images", "gtx_clinic", "segmented_ct", "maskless"):
        picture(tmp_path / folder / "a.png", 0, 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_images([tmp_path], tmp_path / "out").images) == 4


def test_masks_may_go_above_the_images(tmp_path: Path) -> None:
    """`--out .` does not make masks of all that lies below."""
    picture(tmp_path / "in" / "a.png", 0, 255)
    assert list(find_images([tmp_path / "in"], tmp_path).images) == [Path("a.png")]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "x" / "a.png", 0, 1), picture(tmp_path / "y" / "a.png", 0, 1)
    with pytest.raises(UserError, match="two images would get the mask a"):
        find_images([one, two], tmp_path / "out")
    assert len(find_images([tmp_path], tmp_path / "out").images) == 2
    assert len(find_images([one, one], tmp_path / "out").images) == 1


def test_other_suffixes_of_one_name_are_refused_too(tmp_path: Path) -> None:
    """a.png and a.bmp would both become a.png."""
    picture(tmp_path / "a.png", 0, 1), picture(tmp_path / "a.bmp", 0, 1)
    with pytest.raises(UserError, match="two images"):
        find_images([tmp_path], tmp_path / "out")


def test_an_image_named_like_the_picture_of_another_is_refused(run: Path, tmp_path: Path) -> None:
    """a_overlay.png would be both the mask of one image and the picture of the other."""
    picture(tmp_path / "in" / "a.png", 0, 255), picture(tmp_path / "in" / "a_overlay.png", 0, 255)
    with pytest.raises(UserError, match="two files would get the name a_overlay"):
        predict(run, [tmp_path / "in"], out=tmp_path / "out", overlay=True)
    assert not (tmp_path / "out").exists()
    assert len(predict(run, [tmp_path / "in"], out=tmp_path / "out")) == 2


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images to segment"):
        find_images([tmp_path], tmp_path / "out")
    with pytest.raises(UserError, match="no image at"):
        find_images([tmp_path / "gone.png"], tmp_path / "out")


def test_progress_counts_to_the_end(run: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", 0, 255)
    picture(tmp_path / "in" / "b.png", 0, 255)
    seen: list[tuple[int, int]] = []
    predict(
        run, [tmp_path / "in"], out=tmp_path / "out", progress=lambda d, n, _: seen.append((d, n))
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_an_overlay_is_an_outline_in_the_class_color() -> None:
    """A 128 px image is shown 4 times as large; the middle of the part keeps its gray."""
    image = np.full((128, 128, 1), 0.5, np.float32)
    label = np.zeros((128, 128), np.uint8)
    label[32:96, 32:96] = 1
    picture = draw_overlay(image, label, classes=1)
    assert picture.shape == (512, 512, 3)
    assert tuple(picture[128, 200]) == COLORS[0]
    assert tuple(picture[256, 256]) == tuple(picture[0, 0]) == (128, 128, 128)


def test_a_name_that_is_not_utf8_is_refused_before_the_first_mask(tmp_path: Path) -> None:
    """predictions.csv could not hold it."""
    (tmp_path / "b\udce4r.png").touch()
    with pytest.raises(UserError, match="a file name is not UTF-8"):
        find_images([tmp_path], tmp_path / "out")


def test_what_was_done_before_an_error_is_listed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the second mask: the first one is there, and so is its row."""
    for name in "ab":
        picture(tmp_path / "in" / f"{name}.png", 0, 255)
    write = module.write_label

    def full(path: Path, *rest: object) -> Path:
        if path.name == "b.png":
            raise UserError("no space left", found="", expected="", fix="")
        return write(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_label", full)
    with pytest.raises(UserError, match="no space left"):
        predict(run, [tmp_path / "in"], out=tmp_path / "out")
    assert [row["mask"] for row in rows_of(tmp_path / "out")] == ["a.png"]


def test_the_confidence_of_a_volume_is_that_of_all_its_slices_as_one(
    run: Path, tmp_path: Path
) -> None:
    """Both see 128 pixels of the first slice; of the second the U-Net sees 64 and MedSAM none.

    (2 * 128 + 1) / (192 + 128 + 1.001); a mean over slices would count the small part as the large.
    """
    voxels = np.zeros((2, 16, 16), np.float32)
    voxels[0, :8] = 1
    voxels[1, :4] = 0.5
    np.save(tmp_path / "v.npy", voxels)
    (row,) = predict(run, [tmp_path / "v.npy"], out=tmp_path / "out")
    assert row.slice == 1
    assert row.confidence == pytest.approx(257 / 321.001, abs=1e-6)
