"""What the pages name exists: files, functions, tests, commands, targets, keys, numbers."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from synfoc.cli import app
from synfoc.config import load_config
from synfoc.images.paper_sets import PAPER_SETS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "tests/golden/README.md",
]
FOLDERS = ("src", "tests", "docs", "configs", "benchmarks")


def tracked() -> list[Path]:
    """Files that git knows; the test is skipped outside a checkout."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(page: Path) -> Iterator[str]:
    """What stands in backticks or in a code block."""
    text = text_of(page)
    yield from re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands(group: typer.models.TyperInfo | typer.Typer, prefix: str = "") -> Iterator[str]:
    application = group.typer_instance if isinstance(group, typer.models.TyperInfo) else group
    assert application is not None
    for command in application.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__.replace("_", "-"))
    for inner in application.registered_groups:
        yield f"{prefix}{inner.name}"
        yield from commands(inner, f"{prefix}{inner.name} ")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not target.startswith(("http", "#", "mailto:")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Paths that begin with a folder of the project; braces are alternatives."""
    for code in code_of(page):
        for path in re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./{{}},-]*\w[\w/]*", code):
            for one in alternatives(path.rstrip(".,")):
                assert (ROOT / one).exists(), f"{page.name}: {one}"


def alternatives(path: str) -> list[str]:
    """configs/{a,b}.yaml -> configs/a.yaml, configs/b.yaml."""
    match = re.match(r"(.*)\{(.*)\}(.*)", path)
    return [f"{match[1]}{x}{match[3]}" for x in match[2].split(",")] if match else [path]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_targets_that_a_page_names_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE)
    known = {name.split()[0] for name in commands(app)}
    for code in code_of(page):
        for target in re.findall(r"(?:^|\s)make ([a-z][a-z-]+)", code):
            assert target in targets, f"{page.name}: make {target}"
        for command in re.findall(r"(?:^|[\s/])synfoc ([a-z][a-z-]+)", code, flags=re.MULTILINE):
            assert command in known, f"{page.name}: synfoc {command}"


def test_every_command_and_every_key_is_in_the_reference() -> None:
    page = ROOT / "docs/cli.md"
    if not page.exists():
        pytest.skip("docs/cli.md is not written yet (make docs)")
    text = text_of(page)
    for command in commands(app):
        assert f"`synfoc {command}`" in text, f"run make docs: synfoc {command}"
    config = load_config(ROOT / "configs/demo.yaml").model_dump()
    config["data"] |= {f"labeled.{key}": None for key in config["data"].pop("labeled")}
    for section, keys in config.items():
        for key in keys:
            assert f"`{section}.{key}`" in text, f"run make docs: {section}.{key}"


def test_the_method_page_names_functions_and_tests_that_exist() -> None:
    rows = re.findall(r"`(\w+\.py):(\w+)`", text_of(ROOT / "docs/method.md"))
    assert len(rows) > 30
    for file, name in rows:
        folder = "tests/methods" if file.startswith("test_") else "src/synfoc/methods"
        tree = ast.parse(text_of(ROOT / folder / file))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


def test_departures_are_numbered_without_gaps_and_every_reference_is_one() -> None:
    numbers = [int(n) for n in re.findall(r"\*\*D(\d+)", text_of(ROOT / "docs/departures.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in ROOT.glob("src/synfoc/**/*.py"):
        for number in re.findall(r"departures\.md,\s+D(\d+)", text_of(path)):
            assert int(number) in numbers, path.name


@pytest.mark.parametrize("paper", PAPER_SETS, ids=lambda p: p.name)
def test_the_configs_say_what_the_paper_s_sets_are(paper) -> None:  # type: ignore[no-untyped-def]
    """Two places for the same facts: they must not part."""
    config = load_config(ROOT / f"configs/{paper.name}.yaml")
    assert config.data.set == paper.name
    assert (config.data.channels, config.data.nested) == (paper.channels, paper.nested)
    assert config.data.labeled.domain in paper.domains
    assert config.data.labeled.count in paper.labels
    assert config.unet.side == paper.side
    assert config.augment.brightness == config.augment.contrast == paper.strong
    assert config.train.steps == paper.steps


def test_the_version_is_one() -> None:
    """pyproject.toml and CITATION.cff."""
    version = re.search(r'^version = "(.+)"', text_of(ROOT / "pyproject.toml"), flags=re.MULTILINE)
    assert version
    assert yaml.safe_load(text_of(ROOT / "CITATION.cff"))["version"] == version[1]


def test_the_code_cites_no_section_of_the_method_page() -> None:
    """It numbers none: departures have numbers, and equations those of the paper."""
    for path in ROOT.glob("src/synfoc/**/*.py"):
        assert not re.search(r"method\.md,?\s+[sS]ec", text_of(path)), path.name


def test_no_tracked_file_holds_a_path_of_one_machine() -> None:
    """Home folders and their like; a page may say ~ or a relative path."""
    pattern = re.compile(r"(?<![\w.~/*-])/(?:" + "home|root|Users|work" + r")/\w")
    for path in tracked():
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".cff", ".html", ".json", ""}:
            found = pattern.search(text_of(path))
            assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_tracked_files_are_small() -> None:
    """No data and no weights: at most 1 MB each."""
    for path in tracked():
        assert path.stat().st_size < 1_000_000, path.name
