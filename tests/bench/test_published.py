"""The paper's numbers: those of the shared file, found by our names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from synfoc.bench.published import Published, load_published
from synfoc.bench.suite import Answering, DataSet, MethodRow
from synfoc.config import Labeled

SHARED = Path(__file__).resolve().parents[3] / "shared" / "paper_results.csv"
PROSTATE = ("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL")
ALL: tuple[Answering, ...] = ("recommended", "unet", "medsam", "fused")


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published()


def data(name: str | None, *domains: str, count: int | None = 20) -> DataSet:
    labeled = tuple(Labeled(domain=domain, count=count) for domain in domains)
    return DataSet(path=Path("x"), labeled=labeled, published=name)


def method(name: str | None, *branches: Answering) -> MethodRow:
    return MethodRow(title="x", published=name, branches=branches or ("recommended",))


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the shared folder beside the project")
def test_the_packaged_file_is_the_shared_one() -> None:
    packaged = files("synfoc.bench").joinpath("published.csv").read_text(encoding="utf-8")
    assert packaged.split() == SHARED.read_text(encoding="utf-8").split()


def test_a_row_of_table_3(published: Published) -> None:
    """SynFoC on Prostate: MedSAM 88.54 at RUNMC and 87.16 on average, U-Net 86.90."""
    prostate, ours = data("prostate", *PROSTATE), method("SynFoC", *ALL)
    runmc = Labeled(domain="RUNMC", count=20)
    assert published.column(prostate, runmc, ours, "medsam") == 88.54
    assert published.mean(prostate, ours, "medsam") == 87.16
    assert published.mean(prostate, ours, "recommended") == 87.16
    assert published.mean(prostate, ours, "unet") == 86.90
    assert published.mean(prostate, ours, "unet", "hd95") == 11.25
    assert published.mean(prostate, ours, "fused") is None


def test_a_domain_with_two_names(published: Published) -> None:
    """The paper's HCRUDB is our I2CVB."""
    found = published.column(
        data("prostate", "I2CVB"), Labeled(domain="I2CVB", count=20), method("SynFoC"), "medsam"
    )
    assert found == 84.89


def test_classes_are_averaged(published: Published) -> None:
    """SupOnly on Domain1 of Fundus: cup 59.54 and disc 73.89."""
    fundus = data("fundus", *(f"Domain{i}" for i in range(1, 5)))
    found = published.column(fundus, fundus.labeled[0], method("SupOnly"), "recommended")
    assert found == pytest.approx((59.54 + 73.89) / 2)
    assert published.mean(fundus, method("SupOnly"), "recommended") == 61.63


def test_fewer_domains_have_the_mean_of_what_is_printed_for_them(published: Published) -> None:
    """SynFoC (MedSAM): RUNMC 88.54, BMC 85.74. Distances are printed for all six only."""
    two = data("prostate", "RUNMC", "BMC")
    ours = method("SynFoC", *ALL)
    assert published.mean(two, ours, "medsam") == pytest.approx((88.54 + 85.74) / 2)
    assert published.mean(two, ours, "medsam", "hd95") is None


@pytest.mark.parametrize(
    ("name", "branches", "found"),
    [
        ("SynFoC (MedSAM)", ALL, [88.54, None, 88.54, None]),
        ("SynFoC (U-Net)", ("unet", "medsam"), [88.09, None]),
        ("SynFoC (MedSAM)", ("unet", "medsam"), [None, 88.54]),
        ("SynFoC", ALL, [88.54, 88.09, 88.54, None]),
        ("SupOnly", ("unet",), [22.11]),
        ("SupOnly", ("recommended", "unet"), [22.11, None]),
        ("SupOnly?", ("unet",), [None]),
        (None, ("unet",), [None]),
    ],
)
def test_which_row_of_a_method_a_name_stands_for(
    published: Published,
    name: str | None,
    branches: tuple[Answering, ...],
    found: list[float | None],
) -> None:
    prostate = data("prostate", "RUNMC")
    row = method(name, *branches)
    values = [published.column(prostate, prostate.labeled[0], row, b) for b in branches]
    assert values == found


@pytest.mark.parametrize(
    "labeled",
    [Labeled(domain="RUNMC", count=10), Labeled(domain="RUNMC", patients=20), Labeled(count=20)],
)
def test_other_labels_have_no_published_number(published: Published, labeled: Labeled) -> None:
    prostate = data("prostate", "RUNMC")
    assert published.column(prostate, labeled, method("SupOnly"), "recommended") is None


def test_choices_of_different_size_have_no_published_mean(published: Published) -> None:
    mixed = DataSet(
        path=Path("x"),
        labeled=(Labeled(domain="RUNMC", count=20), Labeled(domain="BMC", count=10)),
        published="prostate",
    )
    assert published.mean(mixed, method("SupOnly"), "recommended") is None
    unknown = data(None, "RUNMC")
    assert published.mean(unknown, method("SupOnly"), "recommended") is None
