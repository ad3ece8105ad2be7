"""The paper's numbers: those of the shared file, found by our names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from synfoc.bench.published import MEAN, Published, load_published
from synfoc.bench.suite import Answering, DataSet, MethodRow, load_suite
from synfoc.case_tables import METRICS
from synfoc.config import Labeled
from synfoc.images.paper_sets import PAPER_SETS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "paper_results.csv"
SUITES = Path(__file__).resolve().parents[2] / "suites"
PROSTATE = ("BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL")
ALL: tuple[Answering, ...] = ("recommended", "unet", "medsam", "fused")


@pytest.fixture(scope="module")
def published() -> Published:
    return load_published()


def data(name: str | None, *domains: str, count: int | None = 20) -> DataSet:
    labeled = tuple(Labeled(domain=domain, count=count) for domain in domains)
    return DataSet(path=Path("x"), labeled=labeled, published=name)


def method(**published: str) -> MethodRow:
    return MethodRow.model_validate({"title": "x", "published": published})


OURS = method(medsam="SynFoC (MedSAM)", unet="SynFoC (U-Net)")
SUPERVISED = method(unet="SupOnly")


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the shared folder beside the project")
def test_the_packaged_file_is_the_shared_one() -> None:
    packaged = files("synfoc.bench").joinpath("published.csv").read_text(encoding="utf-8")
    assert packaged.split() == SHARED.read_text(encoding="utf-8").split()


def test_a_row_of_table_3(published: Published) -> None:
    """SynFoC on Prostate: MedSAM 88.54 at RUNMC and 87.16 on average, U-Net 86.90."""
    prostate, ours = data("prostate", *PROSTATE), OURS
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
        data("prostate", "I2CVB"), Labeled(domain="I2CVB", count=20), OURS, "medsam"
    )
    assert found == 84.89


def test_classes_are_averaged(published: Published) -> None:
    """SupOnly on Domain1 of Fundus: cup 59.54 and disc 73.89."""
    fundus = data("fundus", *(f"Domain{i}" for i in range(1, 5)))
    found = published.column(fundus, fundus.labeled[0], SUPERVISED, "recommended")
    assert found == pytest.approx((59.54 + 73.89) / 2)
    assert published.mean(fundus, SUPERVISED, "recommended") == 61.63


def test_classes_by_their_names(published: Published) -> None:
    """SupOnly on Domain1 of Fundus: cup 59.54 and disc 73.89; on vendorA of M&Ms three classes."""
    fundus, hearts = data("fundus", "Domain1"), data("mnms", "vendorA", count=5)
    one, five = fundus.labeled[0], hearts.labeled[0]
    found = published.classes(fundus, one, SUPERVISED, "unet", nested=True)
    assert found == {"cup": 59.54, "disc": 73.89}
    found = published.classes(hearts, five, SUPERVISED, "unet", nested=False)
    assert found == {"lv": 33.65, "myo": 19.07, "rv": 27.38}


def test_classes_that_the_paper_scores_otherwise_have_no_number(published: Published) -> None:
    """A disc without its cup is a rim. Another count of labels, and a set that it does not have."""
    fundus, ten = data("fundus", "Domain1"), Labeled(domain="Domain1", count=10)
    one = fundus.labeled[0]
    assert published.classes(fundus, one, SUPERVISED, "unet", nested=False) == {}
    assert published.classes(fundus, ten, SUPERVISED, "unet", nested=True) == {}
    other = data(None, "Domain1")
    assert published.classes(other, one, SUPERVISED, "unet", nested=True) == {}


def test_the_classes_of_the_file_are_those_of_the_paper_s_sets(published: Published) -> None:
    for (name, *_), table in published.tables.items():
        known = next(known for known in PAPER_SETS if known.name == name)
        for (domain, _), values in table.items():
            mean = domain == MEAN and len(known.classes) > 1
            assert list(values) == [MEAN] if mean else list(known.classes), (name, domain)


def test_fewer_domains_have_the_mean_of_what_is_printed_for_them(published: Published) -> None:
    """SynFoC (MedSAM): RUNMC 88.54, BMC 85.74. Distances are printed for all six only."""
    two = data("prostate", "RUNMC", "BMC")
    ours = OURS
    assert published.mean(two, ours, "medsam") == pytest.approx((88.54 + 85.74) / 2)
    assert published.mean(two, ours, "medsam", "hd95") is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"medsam": "SynFoC (MedSAM)", "unet": "SynFoC (U-Net)"}, [88.54, 88.09, 88.54, None]),
        ({"unet": "SupOnly"}, [22.11, 22.11, None, None]),
        ({"recommended": "SupOnly", "medsam": "SynFoC (MedSAM)"}, [22.11, None, 88.54, None]),
        ({"unet": "SupOnly?"}, [None] * 4),
        ({}, [None] * 4),
    ],
)
def test_which_row_a_branch_stands_beside(
    published: Published, names: dict[str, str], found: list[float | None]
) -> None:
    """The paper deploys MedSAM, so `recommended` stands beside it, or beside the only network."""
    prostate = data("prostate", "RUNMC")
    assert [
        published.column(prostate, prostate.labeled[0], method(**names), branch) for branch in ALL
    ] == found


def test_a_row_that_is_printed_as_a_mean_only(published: Published) -> None:
    """Fusion by a constant: 85.93 over the six sites, and nothing for some of them."""
    constant = method(medsam="fusion: constant 0.5")
    assert published.mean(data("prostate", *PROSTATE), constant, "medsam") == 85.93
    assert published.mean(data("prostate", "RUNMC"), constant, "medsam") is None


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_name_in_our_suites_is_in_the_paper(published: Published, path: Path) -> None:
    suite = load_suite(path)
    for known in suite.data.values():
        for row in suite.methods.values():
            for branch in row.published if known.published else ():
                assert published.mean(known, row, branch) is not None, (row.title, branch)


def test_the_means_of_table_6(published: Published) -> None:
    """SupOnly: Dice, Jaccard, HD95, ASD with 64 and with 129 labeled images."""
    suite = load_suite(SUITES / "busi.yaml")
    found = {
        key: [published.mean(half, suite.methods["supervised"], "recommended", m) for m in METRICS]
        for key, half in suite.data.items()
    }
    assert found == {
        "busi_64": [59.45, 48.94, 61.10, 25.44],
        "busi_129": [62.81, 52.31, 54.26, 23.29],
    }


@pytest.mark.parametrize("name", ["prostate", "fundus", "mnms", "busi"])
def test_suites_of_the_paper_show_every_mean_that_it_prints(
    published: Published, name: str
) -> None:
    """For each row of the suite as many of the four means as the paper's row has."""
    suite = load_suite(SUITES / f"{name}.yaml")
    for known in suite.data.values():
        for row in suite.methods.values():
            for branch, title in row.published.items():
                table = published.tables[name, known.labeled[0].count or 0, title]
                printed = {metric for domain, metric in table if domain == MEAN}
                shown = {m for m in METRICS if published.mean(known, row, branch, m) is not None}
                assert shown == printed, (row.title, branch)


@pytest.mark.parametrize(
    "labeled",
    [Labeled(domain="RUNMC", count=10), Labeled(domain="RUNMC", patients=20), Labeled(count=20)],
)
def test_other_labels_have_no_published_number(published: Published, labeled: Labeled) -> None:
    prostate = data("prostate", "RUNMC")
    assert published.column(prostate, labeled, SUPERVISED, "recommended") is None


def test_choices_of_different_size_have_the_mean_of_their_columns(published: Published) -> None:
    """BUSI, SupOnly on average: what is printed for 64 and for 129 labeled images, Dice alone."""
    labeled = [Labeled(domain=d, count=n) for n in (64, 129) for d in ("benign", "malignant")]
    both = DataSet(path=Path("x"), labeled=tuple(labeled), published="busi")
    columns = [published.column(both, one, SUPERVISED, "unet") for one in labeled]
    assert None not in columns
    expected = sum(value or 0.0 for value in columns) / 4
    assert published.mean(both, SUPERVISED, "unet") == pytest.approx(expected)
    assert published.mean(both, SUPERVISED, "unet", "hd95") is None


def test_what_is_not_in_the_paper_has_no_mean(published: Published) -> None:
    labeled = (Labeled(domain="RUNMC", count=20), Labeled(domain="BMC", count=10))
    mixed = DataSet(path=Path("x"), labeled=labeled, published="prostate")
    assert published.mean(mixed, SUPERVISED, "unet") is None
    assert published.mean(data(None, "RUNMC"), SUPERVISED, "unet") is None
