"""Cases from folders and from a CSV; labels as class indices; what is told when they do not fit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from synfoc.config import Data
from synfoc.errors import UserError
from synfoc.images import pairing
from synfoc.images.cases import CaseTable, load_cases, load_image, load_label, name_classes
from synfoc.images.files import Stack
from synfoc.images.listing import Listing, list_folder


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 5)) -> Path:
    """A gray PNG of one value but for its first pixel, which is 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, value, np.uint8)
    pixels[0, 0] = 0
    Image.fromarray(pixels).save(path)
    return path


def created(path: Path) -> Path:
    """The path, with its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def load(path: Path, **settings: object) -> CaseTable:
    return load_cases(Data(path=path, **settings))


def ids(table: CaseTable) -> list[str]:
    return [case.id for case in table.cases]


def test_domains_splits_images_and_labels_of_folders(tmp_path: Path) -> None:
    for domain in ("b", "a"):
        for split in ("test", "train"):
            for name in ("2", "1"):
                picture(tmp_path / domain / split / "image" / f"{name}.png")
            picture(tmp_path / domain / split / "mask" / "1.png")
    table = load(tmp_path)
    assert table.domains == ("a", "b")
    assert ids(table)[:4] == ["a/train/1", "a/train/2", "a/test/1", "a/test/2"]
    first, second = table.cases[:2]
    assert (first.domain, first.split) == ("a", "train")
    assert first.labels == (tmp_path / "a/train/mask/1.png",)
    assert second.labels == ()


@pytest.mark.parametrize(
    ("image", "label", "name"),
    [
        ("site/images/x.png", "site/labels/x.png", "site/x"),
        ("site/images/x.png", "site/segmentations/x.png", "site/x"),
        ("site/image/x.png", "site/GT/x.png", "site/x"),
        ("train/img/x.png", "train/masks/x.png", "train/x"),
        ("train/site/image/x.png", "train/site/mask/x.png", "site/train/x"),
        ("image/x.png", "mask/x.png", "x"),
        ("image/x.jpg", "label/x_mask.png", "x"),
        ("x.png", "x_mask.png", "x"),
        ("site/test/x.png", "site/test/x_seg.png", "site/test/x"),
        ("Größe 1/Training/Image/ä ö.png", "Größe 1/Training/Mask/ä ö.png", "Größe 1/train/ä ö"),
    ],
)
def test_other_spellings_of_the_layout(tmp_path: Path, image: str, label: str, name: str) -> None:
    picture(tmp_path / image)
    picture(tmp_path / label)
    (case,) = load(tmp_path).cases
    assert case.id == name
    assert (case.image, case.labels) == (tmp_path / image, (tmp_path / label,))


def test_a_flat_folder_is_all_unlabeled(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "._a.png", ".hidden.png", "notes.txt"):
        picture(tmp_path / "x.png").rename(tmp_path / name)
    table = load(tmp_path)
    assert ids(table) == ["a", "b"]
    assert not any(case.labels for case in table.cases)
    assert table.domains == ()


def test_nnunets_raw_folders(tmp_path: Path) -> None:
    """With labelsTs a train and a test set; without, imagesTs is unlabeled."""
    for domain in ("a", "b"):
        picture(tmp_path / domain / "imagesTr" / "x_1_0000.png")
        picture(tmp_path / domain / "labelsTr" / "x_1.png")
        picture(tmp_path / domain / "imagesTs" / "x_1_0000.png")
    picture(tmp_path / "a" / "labelsTs" / "x_1.png")
    cases = {case.id: case for case in load(tmp_path).cases}
    assert list(cases) == ["a/train/x_1", "a/test/x_1", "b/x_1", "imagesTs/b/x_1"]
    assert cases["a/test/x_1"].labels == (tmp_path / "a/labelsTs/x_1.png",)
    assert cases["b/x_1"].labels == (tmp_path / "b/labelsTr/x_1.png",)
    assert cases["imagesTs/b/x_1"].labels == ()


def test_nnunets_second_channel_is_told(tmp_path: Path) -> None:
    for channel in ("0000", "0001"):
        picture(tmp_path / "imagesTr" / f"x_{channel}.png")
    with pytest.raises(UserError, match="several channels per image"):
        load(tmp_path)


def test_other_folders_beside_image_are_left_alone(tmp_path: Path) -> None:
    picture(tmp_path / "a/train/image/1.png")
    picture(tmp_path / "a/train/mask_disc_cup/1.png")
    picture(tmp_path / "a/val/image/1.png")
    table = load(tmp_path)
    assert ids(table) == ["a/train/1"]
    assert table.cases[0].labels == ()
    assert any("val is not read" in notice for notice in table.notices)


@pytest.mark.parametrize(
    ("files", "note"),
    [
        (["image/2.png", "mask/2.png"], "a is not read: beside image only labels are"),
        (["b/scanner/train/image/2.png"], "b/scanner is not read: it lies within the domain b"),
        (["a/train/image/p1/2.png"], "a/train/image/p1 is not read: put its files into image"),
        (["2.png"], "1 file, e.g. 2.png; there are folders beside them"),
        (["a/train/images/2.png"], "a/train/images is not read: image beside it is"),
        (["a/train/labels/2.png"], "a/train/labels is not read: mask beside it is"),
        (["a/train/outlines/2.png"], "a/train/outlines is not read: beside image only labels are"),
        (["a/train/image/2.dcm"], "1 file, e.g. 2.dcm; DICOM: convert to NIfTI (dcm2niix)"),
        (["b/2.dcm", "b/3.dcm"], "2 files, e.g. 2.dcm; DICOM: convert to NIfTI (dcm2niix)"),
        (["a/train/test/image/2.png"], "a/train/test is not read: beside image only labels are"),
        (["a/train/mask/cup/1.png"], "put its files into mask itself; if it holds one file per cl"),
        (["a/train/cup/1.png"], "such as mask or labels; if it holds one file per class"),
        (["a/train/mask/cup_1.png"], "a/train/mask/cup_1.png; one file per class: list them in a"),
        (["b/1.png", "b/cup_1.png"], "may be those of classes of an image beside them"),
        (["b/image.png", "b/cup.png"], "each is a class: 1, e.g. "),
        (["b/2.png", "b/mask/2.png"], "b/mask is not read: no folder `image` lies beside it"),
        (["imagesTr/2.png", "imagesVal/2.png"], "imagesVal is not read: of nnU-Net's folders"),
    ],
)
def test_files_that_are_not_read_are_noted(tmp_path: Path, files: list[str], note: str) -> None:
    """Beside a sound case, images that the layout has no place for."""
    for name in ("a/train/image/1.png", "a/train/mask/1.png", *files):
        picture(tmp_path / "x.png").rename(created(tmp_path / name))
    (said,) = [n for n in load(tmp_path).notices if note in n]
    assert str(tmp_path) in said


def test_what_is_no_image_needs_no_note(tmp_path: Path) -> None:
    picture(tmp_path / "a/train/image/1.png")
    for name in ("a.txt", "a/train/x.json", "a/train/image/.2.png", "a/train/image/x.md"):
        (tmp_path / name).touch()
    created(tmp_path / "a/train/.hidden/3.png").touch()
    created(tmp_path / "a/train/notes/x.txt").touch()
    assert load(tmp_path).notices == ()


def test_notes_about_unread_folders_are_a_handful(tmp_path: Path) -> None:
    """Of 12 folders five are named; each counts 3 files, whatever lies below."""
    picture(tmp_path / "image/1.png")
    for k in range(12):
        for name in ("a.png", "b.nii.gz", "deep/c.dcm"):
            created(tmp_path / f"image/p{k:02d}" / name).touch()
    *notes, last = load(tmp_path).notices
    assert len(notes) == 5
    assert all(note.endswith("(3 files)") for note in notes)
    assert last == "and 7 more folders with files not read"


def test_both_spellings_of_train_are_read_and_twins_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a/train/image/1.png")
    picture(tmp_path / "a/Training/image/2.png")
    assert ids(load(tmp_path)) == ["a/train/2", "a/train/1"]
    picture(tmp_path / "a/Training/image/1.png")
    with pytest.raises(UserError, match="two images of one name"):
        load(tmp_path)


def test_a_label_that_only_lies_beside_its_image_is_paired_and_told(tmp_path: Path) -> None:
    """One image and `seg` in the folder of each patient: 2 pairs."""
    for patient in ("sub-01", "sub-02"):
        picture(tmp_path / patient / "T1.png")
        picture(tmp_path / patient / "Seg.png")
    table = load(tmp_path)
    assert ids(table) == ["sub-01/T1", "sub-02/T1"]
    assert [case.labels for case in table.cases] == [
        (tmp_path / patient / "Seg.png",) for patient in ("sub-01", "sub-02")
    ]
    told = f"the label of the one image beside them: 2, e.g. {tmp_path / 'sub-01/Seg.png'}"
    assert any(told in notice for notice in table.notices)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["T1", "T2"], ["seg"]),
        (["T1"], ["seg", "mask"]),
        (["T1"], ["T1_seg", "mask"]),
        (["B_001_flair", "B_001_t1"], ["B_001_seg"]),
        (["sub-01_T1w", "sub-01_T2w"], ["sub-01_dseg"]),
    ],
)
def test_a_label_of_nobody_knows_which_image_is_none_and_told(
    tmp_path: Path, images: list[str], labels: list[str]
) -> None:
    """Two images of one label; two labels; another label by name; modalities of one patient."""
    for name in images + labels:
        picture(tmp_path / f"{name}.png")
    table = load(tmp_path)
    assert ids(table) == images
    unclear = [name for name in labels if name != "T1_seg"]
    told = f"not of which: not used; list them in a CSV: {len(unclear)}, e.g. "
    assert any(told in notice for notice in table.notices)


def test_a_label_without_any_image_is_an_image_and_told(tmp_path: Path) -> None:
    for name in ("labels", "mask_of_patient"):
        picture(tmp_path / f"{name}.png")
    table = load(tmp_path)
    assert ids(table) == ["labels", "mask_of_patient"]
    (notice,) = [notice for notice in table.notices if notice.startswith("named like labels, but")]
    assert ": 2, e.g." in notice


def test_a_label_without_image_is_noticed(tmp_path: Path) -> None:
    picture(tmp_path / "image/1.png")
    picture(tmp_path / "mask/2.png")
    (notice,) = load(tmp_path).notices
    assert notice.startswith("label files without an image of their name, not used: 1")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("patient003_f15_s02", "patient003"),
        ("Subject10-s05", "subject10"),
        ("sub-01_ses-1", "sub-01"),
        ("pat 7", "pat 7"),
        ("image_001", None),
        ("IDRiD_02", None),
        ("12_05", None),
        ("pattern5", None),
        ("003_patient", None),
    ],
)
def test_patients_are_guessed_by_one_plain_rule(
    tmp_path: Path, name: str, patient: str | None
) -> None:
    picture(tmp_path / f"{name}.png")
    assert load(tmp_path).cases[0].patient == patient


@pytest.mark.parametrize("above", ["", "train/"])
def test_one_folder_per_patient_is_one_domain(tmp_path: Path, above: str) -> None:
    """Three domains without patients would let each patient train and test."""
    for patient in ("patient001", "patient002", "Patient003"):
        for name in ("s0", "s1"):
            picture(tmp_path / f"{above}{patient}/{name}.png")
            picture(tmp_path / f"{above}{patient}/{name}_mask.png")
    table = load(tmp_path)
    assert table.domains == ()
    assert len({case.id for case in table.cases}) == 6
    assert {case.patient for case in table.cases} == {"patient001", "patient002", "patient003"}
    assert table.notices[0].startswith("patients read from folder names: 3, e.g. patient")


@pytest.mark.parametrize("other", ["hospital/image/1.png", "patient1/test/image/1.png"])
def test_other_folders_named_like_patients_stay_domains(tmp_path: Path, other: str) -> None:
    """Beside a hospital, or split inside."""
    picture(tmp_path / "patient2/image/1.png")
    picture(tmp_path / other)
    assert "patient2" in load(tmp_path).domains


def test_two_hospitals_may_have_the_same_patient_number(tmp_path: Path) -> None:
    for domain in ("a", "b"):
        picture(tmp_path / domain / "image" / "patient1.png")
    first, second = load(tmp_path).cases
    assert first.patient == second.patient
    assert first.group != second.group


def test_domains_that_differ_only_by_case_are_noted(tmp_path: Path) -> None:
    """Two domains in folders as in a CSV: neither is merged or lost."""
    for name in ("siteA", "SITEA", "siteB"):
        picture(tmp_path / name / "image" / "1.png")
    rows = "".join(f"{name}/image/1.png,{name}\n" for name in ("siteA", "SITEA", "siteB"))
    (tmp_path / "set.csv").write_text("image,domain\n" + rows)
    for table in (load(tmp_path), load(tmp_path / "set.csv")):
        assert table.domains == ("SITEA", "siteA", "siteB")
        assert table.notices == (
            "domains that differ only by upper and lower case: SITEA, siteA; they count as 2 "
            "domains",
        )


CSV = """\ufeffImage;Mask;Domain;Split;Patient;Spacing;Comment
a/train/image/2.png;;a;train;;;
a/train/image/1.png;m/1.png | m/1b.png;a;Train;p 1;0.5 x 0.4;two lesions

b/3.png;m/3.png;;test;;;
"""


def test_a_csv_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    """Byte order mark, semicolons, capitals, an empty line, a column more."""
    for name in ("a/train/image/1", "a/train/image/2", "b/3", "m/1", "m/1b", "m/3"):
        picture(tmp_path / f"{name}.png", value=1)
    (tmp_path / "set.csv").write_text(CSV, encoding="utf-8")
    table = load(tmp_path / "set.csv")
    assert ids(table) == ["b/3", "a/train/1", "a/train/2"]
    third, first, second = table.cases
    assert (third.domain, third.split, third.patient) == (None, "test", None)
    assert first.labels == (tmp_path / "m/1.png", tmp_path / "m/1b.png")
    assert (first.patient, first.spacing) == ("p 1", (0.0, 0.5, 0.4))
    assert second.labels == ()
    assert load_image(first).spacing == (0.0, 0.5, 0.4)
    assert load_label(first, table).spacing == (0.0, 0.5, 0.4)


def test_accents_may_be_one_character_or_two(tmp_path: Path) -> None:
    """The disk of a Mac has "o" and two dots; a CSV and the label folder have the letter."""
    two, one = "Ko\u0308ln", "K\u00f6ln"
    picture(tmp_path / two / "image" / f"{two}.png")
    picture(tmp_path / two / "mask" / f"{one}.png")
    (tmp_path / "list.csv").write_text(
        f"image,label\n{one}/image/{one}.png,{one}/mask/{two}.png\n", encoding="utf-8"
    )
    for table in (load(tmp_path), load(tmp_path / "list.csv")):
        (case,) = table.cases
        assert case.image == tmp_path / two / "image" / f"{two}.png"
        assert case.labels == (tmp_path / two / "mask" / f"{one}.png",)


def test_quotation_marks_that_do_not_end_are_told(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,a very long name of a domain\n" for i in range(5000))
    (tmp_path / "set.csv").write_text('image,domain\n"' + rows)
    with pytest.raises(UserError, match=r"line \d+: field larger than field limit") as caught:
        load(tmp_path / "set.csv")
    assert "quotation marks" in caught.value.fix


def test_quotation_marks_that_do_not_end_swallow_no_rows(tmp_path: Path) -> None:
    """Four images, of which the first three would become one."""
    rows = '0.png,,"5 mm lesion\n1.png,,\n2.png,,\n3.png,,x\n'
    for table in ("image,label,notes\n" + rows, '"image,label\n' + 200 * 1024 * "x"):
        (tmp_path / "set.csv").write_text(table)
        with pytest.raises(UserError, match="cannot read the cases") as caught:
            load(tmp_path / "set.csv")
        assert caught.value.fix == "close the quotation marks"


def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    for name in ("0", "1"):
        picture(tmp_path / f"{name}.png")
    rows = '0.png,"5 mm ""lesion"",\nleft"\n1.png,\n'
    (tmp_path / "set.csv").write_text("image,domain\n" + rows)
    assert [case.domain for case in load(tmp_path / "set.csv").cases] == [
        None, '5 mm "lesion",\nleft',
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a/image/b\udce4r.png", "b\udce4r/image/1.png"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, name: str) -> None:
    """A Latin-1 a umlaut: JSON could not hold it when the split is saved."""
    created(tmp_path / name).touch()
    with pytest.raises(UserError, match="a file name is not UTF-8") as caught:
        load(tmp_path)
    assert "b\\udce4r" in caught.value.found
    str(caught.value).encode()


def test_a_folder_that_may_not_be_listed_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "A" / "image" / "1.png")
    (tmp_path / "closed").mkdir()

    def closed(folder: Path) -> Listing:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return list_folder(folder)

    monkeypatch.setattr(pairing, "list_folder", closed)
    table = load(tmp_path)
    assert ids(table) == ["A/1"]
    assert table.notices == (f"{tmp_path / 'closed'} is not read: no permission to list it",)


def test_many_labels_without_images_are_one_note(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}_mask.png")
    notices = load(tmp_path).notices
    assert [notice for notice in notices if "named like labels" in notice and ": 3, e.g." in notice]
    assert len(notices) == 1


def test_a_spacing_of_rows_and_columns_keeps_the_slices_of_a_volume_apart(tmp_path: Path) -> None:
    """NIfTI says 5 mm; NPY says nothing, and nothing must not become 0 mm."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    nib.save(nib.Nifti1Image(np.zeros((16, 16, 4), np.float32), affine), tmp_path / "v.nii.gz")
    np.save(tmp_path / "t.npy", np.zeros((3, 16, 16), np.float32))
    (tmp_path / "set.csv").write_text("image,spacing\nv.nii.gz,0.5 x 0.4\nt.npy,0.5\n")
    array, volume = load(tmp_path / "set.csv").cases
    assert load_image(volume).spacing == (5.0, 0.5, 0.4)
    with pytest.raises(UserError, match="distance between slices"):
        load_image(array)
    (tmp_path / "set.csv").write_text("image,spacing\nt.npy,2 x 0.5 x 0.5\n")
    assert load_image(load(tmp_path / "set.csv").cases[0]).spacing == (2.0, 0.5, 0.5)


def test_a_folder_with_cases_csv_is_read_by_it(tmp_path: Path) -> None:
    picture(tmp_path / "a/train/image/1.png")
    picture(tmp_path / "a/train/image/2.png")
    (tmp_path / "cases.csv").write_text("image,patient\na/train/image/1.png,p1\n")
    table = load(tmp_path)
    assert [(case.id, case.patient) for case in table.cases] == [("a/train/1", "p1")]
    assert table.layout == "CSV cases.csv"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("path,label\n1.png,\n", "columns path, label"),
        ("", "(none)"),
        ("image,split\n1.png,validation\n", "split validation in line 2"),
        ("image,label\n,1.png\n", "line 2 without an image"),
        ("image,label,mask\n1.png,,\n", "two columns for label: label, mask"),
        ("image,patient,Subject ID\n1.png,,\n", "two columns for patient: patient, Subject ID"),
        ("image,label\n\n,\n", "a header and no row below it"),
        ("\n\nimage,split\n1.png,validation\n", "split validation in line 4"),
        ("image\n1.png\n../DIR/1.png\n", "one name twice"),
        ("image\n1.png\nDIR_ABOVE/1.png\n", "one name twice"),
        ("image,label\n1.png,../DIR/1.png\n", "line 2 with the image as its own label: 1.png"),
        ("image\n1.png\n1.png\n", "one name twice"),
        ("image,spacing\n1.png,0\n", "spacing 0 in line 2"),
        ("image,label\n1.png,nowhere.png\n", "1 of 2 missing"),
    ],
)
def test_a_csv_that_cannot_be_understood(tmp_path: Path, text: str, found: str) -> None:
    picture(tmp_path / "1.png")
    text = text.replace("DIR_ABOVE", str(tmp_path)).replace("DIR", tmp_path.name)
    (tmp_path / "set.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        load(tmp_path / "set.csv")
    assert found in caught.value.found


def test_columns_of_other_names_are_noted_with_the_nearest_one(tmp_path: Path) -> None:
    """Obvious spellings are read; `patiant` would let patients leak across the split."""
    picture(tmp_path / "1.png")
    (tmp_path / "set.csv").write_text(
        "image,Split ,Patient ID,pixel_spacing,SEG\n1.png,test,p1,0.5,\n"
    )
    table = load(tmp_path / "set.csv")
    (case,) = table.cases
    assert (case.split, case.patient, case.spacing) == ("test", "p1", (0.0, 0.5, 0.5))
    assert table.notices == ()
    (tmp_path / "set.csv").write_text("image,patiant,age,\n1.png,p1,50,\n")
    (note,) = load(tmp_path / "set.csv").notices
    assert note == "columns that are not read: patiant (did you mean patient?), age"
    for head, told in (("Scanner", "Scanner (did you mean domain?)"), ("domain,center", "center")):
        (tmp_path / "set.csv").write_text(f"image,{head}\n1.png,a,b\n")
        (note,) = load(tmp_path / "set.csv").notices
        assert note == f"columns that are not read: {told}"


def test_a_decimal_comma_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "set.csv").write_text("image;spacing\n1.png;0,5 x 0,4\n")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "set.csv")
    assert caught.value.found == "spacing 0,5 x 0,4 in line 2"
    assert caught.value.fix == "write a point instead of the decimal comma: 0.5 x 0.4"


@pytest.mark.parametrize("head", ["sep=;\n", '"sep=;"\r\n', "\n \n", "sep=;\n\n;;\n"])
def test_lines_before_the_names_of_the_columns_are_passed_over(tmp_path: Path, head: str) -> None:
    """Excel tells the separator in a line of its own; a domain may hold commas then."""
    picture(tmp_path / "1.png")
    (tmp_path / "set.csv").write_text(head + "image;domain\n1.png;a, b, c\n")
    (case,) = load(tmp_path / "set.csv").cases
    assert case.domain == "a, b, c"


@pytest.mark.parametrize(
    ("cell", "fix"),
    [
        ("a\\1.png", "with / instead of \\"),
        ("~/1.png", "~ is taken"),
        ("2.png", "correct the paths"),
    ],
)
def test_a_missing_path_is_told_what_is_odd_about_it(tmp_path: Path, cell: str, fix: str) -> None:
    (tmp_path / "set.csv").write_text(f"image\n{cell}\n")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "set.csv")
    assert fix in caught.value.fix


def test_paths_that_hold_no_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.md").touch()
    for path, found in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "empty", "nothing"),
        (tmp_path / "text", "readme.md"),
        (picture(tmp_path / "1.png"), "a single file that is no CSV"),
    ):
        with pytest.raises(UserError) as caught:
            load(path)
        assert caught.value.found == found


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "image/1.png")
    picture(tmp_path / "image/1.bmp")
    with pytest.raises(UserError, match="two files of one name"):
        load(tmp_path)


def pair(root: Path, codes: list[int], size: tuple[int, int] = (1, 5), **settings: object) -> Stack:
    """A case whose label holds the codes, padded with background."""
    picture(root / "image/1.png", size=(2, 5))
    pixels = np.zeros((size[0] + 1, size[1]), np.uint8)
    pixels[0, : len(codes)] = codes
    (root / "mask").mkdir()
    Image.fromarray(pixels).save(root / "mask/1.png")
    table = load(root, **settings)
    return load_label(table.cases[0], table)


def test_a_code_that_is_no_class_names_the_remap(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        pair(tmp_path, [0, 1, 2, 200], classes=("cup", "disc"))
    error = caught.value
    assert error.what == f"mask {tmp_path / 'mask/1.png'} does not fit the classes"
    assert error.found == "pixel values 0, 1, 2, 200"
    assert "0 background, 1 cup, 2 disc (data.classes)" in str(error)
    assert error.fix == (
        "add --set 'data.remap={200: 0}' (evaluation of a run's own data: data.remap in "
        "its config.yaml), "
        "or correct the file"
    )


def test_a_binary_mask_of_255_names_the_remap_that_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        pair(tmp_path, [255], classes=("lesion",))
    assert caught.value.fix == (
        "add --set 'data.remap={255: 1}' (evaluation of a run's own data: data.remap in "
        "its config.yaml), "
        "or correct the file"
    )


@pytest.mark.parametrize("name", ["background", "Background "])
def test_background_is_no_class(tmp_path: Path, name: str) -> None:
    """It would be 1, and the organ of the labels the second class."""
    picture(tmp_path / "image" / "1.png")
    with pytest.raises(UserError, match="background is no class") as caught:
        load(tmp_path, classes=(name, "cup", "disc"))
    assert caught.value.fix == "leave it out: data.classes=[cup,disc]"


def test_a_remapped_label_fits(tmp_path: Path) -> None:
    label = pair(tmp_path, [0, 1, 2, 255], classes=("cup", "disc"), remap={255: 0})
    assert label.pixels.tolist() == [[[0, 1, 2, 0, 0], [0, 0, 0, 0, 0]]]


def test_a_label_of_another_size_names_both(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        pair(tmp_path, [1], size=(2, 4))
    assert caught.value.found == "3 x 4 in the mask, 2 x 5 in 1.png"


def test_a_label_turned_against_its_image_is_refused(tmp_path: Path) -> None:
    """Equal shapes, but the affines tell another direction."""
    (tmp_path / "image").mkdir()
    (tmp_path / "mask").mkdir()
    data = np.zeros((4, 4, 3), np.uint8)
    nib.save(nib.Nifti1Image(data, np.diag([-1, -1, 3, 1])), tmp_path / "image/1.nii.gz")
    nib.save(nib.Nifti1Image(data, np.diag([1, 1, 3, 1])), tmp_path / "mask/1.nii.gz")
    table = load(tmp_path)
    with pytest.raises(UserError, match="turned against its image"):
        load_label(table.cases[0], table)


AFFINE = np.array([[-1, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, 8, 5], [0, 0, 0, 1.0]])
TILT = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def shifted(axis: int, mm: float) -> np.ndarray:
    """What moves an affine along a world axis."""
    return mm * np.outer(np.eye(4)[axis], [0, 0, 0, 1])


def volumes(
    root: Path,
    affine: np.ndarray,
    label_affine: np.ndarray,
    *,
    shape: tuple[int, ...] = (6, 5, 4),
    units: tuple[str, str] = ("unknown", "unknown"),
) -> Stack:
    """The label of an image, each with its affine."""
    for folder, own, unit in zip(("image", "mask"), (affine, label_affine), units, strict=True):
        (root / folder).mkdir(exist_ok=True)
        file = nib.Nifti1Image(np.ones(shape, np.uint8), own)
        file.header.set_xyzt_units(unit)
        nib.save(file, root / folder / "1.nii.gz")
    table = load(root)
    return load_label(table.cases[0], table)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 5, 1]), np.diag([-1.0, 1, 1, 1])])
@pytest.mark.parametrize("shape", [(6, 6, 5), (6, 6, 6), (6, 6)])
@pytest.mark.parametrize("kinds", [("nii.gz", "npy"), ("npy", "nii.gz")])
def test_npy_and_nifti_of_one_array_are_cut_alike(
    tmp_path: Path, affine: np.ndarray, shape: tuple[int, ...], kinds: tuple[str, str]
) -> None:
    """The label is the image itself, so that every pixel must meet its own code."""
    data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for folder, ending in zip(("image", "mask"), kinds, strict=True):
        path = created(tmp_path / folder / f"1.{ending}")
        np.save(path, data) if ending == "npy" else nib.save(nib.Nifti1Image(data, affine), path)
    table = load(tmp_path)
    image = load_image(table.cases[0])
    for like in (image, None):
        assert np.array_equal(load_label(table.cases[0], table, like=like).pixels, image.pixels)


def test_an_npy_label_of_slices_is_no_label_of_a_nifti(tmp_path: Path) -> None:
    """Cut, both have 4 slices of 6 x 5 pixels; which way they lie nobody says."""
    nib.save(nib.Nifti1Image(np.ones((5, 6, 4), np.uint8), AFFINE), tmp_path / "1.nii.gz")
    np.save(tmp_path / "1_mask.npy", np.ones((4, 6, 5), np.uint8))
    table = load(tmp_path)
    with pytest.raises(UserError, match="has other axes than its image") as caught:
        load_label(table.cases[0], table)
    assert caught.value.found == "shape (4, 6, 5) in the mask, (5, 6, 4) in 1.nii.gz"


def mirrored(affine: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The affine of the same body stored the other way round along an axis."""
    mirror = np.eye(4)
    mirror[axis, axis], mirror[axis, 3] = -1, size - 1
    return affine @ mirror


@pytest.mark.parametrize(
    ("affine", "label", "apart"),
    [
        # 12 mm are 12 voxels of 1 mm, 8 of 1.5 mm and 1.5 of 8 mm.
        (AFFINE, AFFINE + shifted(0, 12), "12 voxels"),
        (AFFINE, AFFINE + shifted(1, 12), "8 voxels"),
        (AFFINE, AFFINE + shifted(2, 12), "1.5 voxels"),
        # Doubled rows: the last of 5 lies where the image would have its ninth.
        (AFFINE, AFFINE @ np.diag([1, 2, 1, 1]), "4 voxels"),
    ],
)
def test_a_label_whose_affine_puts_it_elsewhere_is_refused(
    tmp_path: Path, affine: np.ndarray, label: np.ndarray, apart: str
) -> None:
    with pytest.raises(UserError, match="is off its image") as caught:
        volumes(tmp_path, affine, label)
    assert f"up to {apart} from those of 1.nii.gz" in caught.value.found


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("affine", [AFFINE, TILT @ AFFINE])
def test_a_label_stored_the_other_way_round_is_turned(
    tmp_path: Path, affine: np.ndarray, axis: int
) -> None:
    """One code per voxel: every code meets the voxel of the image that lies where it does."""
    data = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)
    back = mirrored(affine, axis, data.shape[axis])
    for folder, own, stored in (("image", affine, data), ("mask", back, np.flip(data, axis))):
        nib.save(nib.Nifti1Image(stored, own), created(tmp_path / folder / "1.nii.gz"))
    table = load(tmp_path)
    image = load_image(table.cases[0])
    assert np.array_equal(load_label(table.cases[0], table).pixels, image.pixels)


def test_a_flat_nifti_is_held_to_its_affine_too(tmp_path: Path) -> None:
    """Slices do not count in two axes: the third column of the affine may differ."""
    assert volumes(tmp_path, AFFINE, AFFINE @ np.diag([1, 1, 3, 1]), shape=(6, 5)).pixels.all()
    with pytest.raises(UserError, match="up to 7 voxels"):
        volumes(tmp_path, AFFINE, AFFINE + shifted(0, 7), shape=(6, 5))


def test_a_label_that_lost_its_affine_is_told_to_copy_it(tmp_path: Path) -> None:
    """nibabel writes the identity, SimpleITK turns two of its axes."""
    for lost in (np.eye(4), np.diag([-1.0, -1, 1, 1])):
        with pytest.raises(UserError, match="affine of the mask is the identity") as caught:
            volumes(tmp_path, AFFINE, lost)
        assert "copy that of the image" in caught.value.fix
    assert volumes(tmp_path, np.eye(4), np.eye(4)).pixels.all()


def test_what_rounding_does_to_an_affine_is_no_other_place(tmp_path: Path) -> None:
    """A tenth of a degree, 0.4 voxels and a dropped unit pass; 0.6 voxels do not."""
    c, s = np.cos(np.radians(0.1)), np.sin(np.radians(0.1))
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert volumes(tmp_path, AFFINE, turned @ AFFINE).pixels.all()
    assert volumes(tmp_path, AFFINE, AFFINE + shifted(2, 0.4 * 8)).pixels.all()
    with pytest.raises(UserError, match=r"up to 0\.6 voxels"):
        volumes(tmp_path, AFFINE, AFFINE + shifted(2, 0.6 * 8))
    microns = np.diag([1000, 1000, 1000, 1.0]) @ AFFINE
    assert volumes(tmp_path, microns, microns, units=("micron", "unknown")).pixels.all()
    assert volumes(tmp_path, microns, AFFINE, units=("micron", "mm")).pixels.all()


def test_classes_are_read_from_labels_and_gaps_are_told(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2), ("c", 0), ("d", 255)):
        picture(tmp_path / "image" / f"{name}.png")
        picture(tmp_path / "mask" / f"{name}.png", value)
    table = load(tmp_path)
    a, b, c, d = table.cases
    assert table.classes is None
    assert name_classes(table, (a, b, c)).classes == ("class1", "class2")
    notice = "2 classes, from 3 labels; name them in data.classes if there are more"
    assert name_classes(table, (a, b, c)).notices == (*table.notices, notice)
    with pytest.raises(UserError, match=r"--set 'data.remap=\{255: 1\}'"):
        name_classes(table, (d,))
    with pytest.raises(UserError, match=r"255 in .*d\.png(?s:.*)correct the files"):
        name_classes(table, (a, d))
    with pytest.raises(UserError, match="background only"):
        name_classes(table, (c,))
    named = load(tmp_path, classes=("x", "y"))
    assert name_classes(named, (d,)) is named


def test_an_unlabeled_case_has_no_label_to_load(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    table = load(tmp_path)
    with pytest.raises(UserError, match="has no label"):
        load_label(table.cases[0], table)


def test_listing_opens_no_file(tmp_path: Path) -> None:
    """Empty files, which no reader would take."""
    for folder in ("image", "mask"):
        (tmp_path / "a/train" / folder).mkdir(parents=True)
        for k in range(100):
            (tmp_path / "a/train" / folder / f"{k}.nii.gz").touch()
    assert len(load(tmp_path).cases) == 100


def test_a_csv_is_sorted_by_domain_and_what_trains_comes_first(tmp_path: Path) -> None:
    """Train, or no word about it, before test; then by path."""
    rows = ["b1,b,train", "a4,a,test", "a3,a,train", "a2,a,", "a1,a,test"]
    lines = [f"{row.partition(',')[0]}.png,{row.partition(',')[2]}" for row in rows]
    for row in rows:
        picture(tmp_path / f"{row[:2]}.png")
    (tmp_path / "set.csv").write_text("\n".join(["image,domain,split", *lines]))
    found = [case.id for case in load(tmp_path / "set.csv").cases]
    assert found == ["a2", "a3", "a1", "a4", "b1"]


def test_an_empty_patient_in_a_csv_is_nobody_and_not_guessed(tmp_path: Path) -> None:
    """Without the column the file name tells."""
    picture(tmp_path / "patient7_s1.png")
    for text, patient in (
        ("image,patient\npatient7_s1.png,\n", None),
        ("image,patient\npatient7_s1.png,p 1\n", "p 1"),
        ("image\npatient7_s1.png\n", "patient7"),
    ):
        (tmp_path / "set.csv").write_text(text)
        assert load(tmp_path / "set.csv").cases[0].patient == patient


def test_an_empty_name_among_labels_is_none(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,label\na.png,m.png | | n.png\n")
    (case,) = load_cases(Data(path=tmp_path / "list.csv"), missing_ok=True).cases
    assert case.labels == (tmp_path / "m.png", tmp_path / "n.png")


def test_several_labels_of_one_image_are_merged_by_the_largest_index(tmp_path: Path) -> None:
    """1, 2 and 0 in one file, 2, 1 and 1 in the other: 2, 2 and 1, in whatever order."""
    picture(tmp_path / "x.png", size=(2, 3))
    for name, row in (("m1", (1, 2, 0)), ("m2", (2, 1, 1))):
        pixels = np.array([row, (0, 0, 0)], np.uint8)
        Image.fromarray(pixels).save(created(tmp_path / f"m/{name}.png"))
    for cell in ("m/m1.png | m/m2.png", "m/m2.png | m/m1.png"):
        (tmp_path / "set.csv").write_text(f"image,label\nx.png,{cell}\n")
        table = load(tmp_path / "set.csv")
        merged = load_label(table.cases[0], table).pixels
        assert merged.tolist() == [[[2, 2, 1], [0, 0, 0]]]
