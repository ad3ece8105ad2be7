"""One way only: a module imports from its own row and the rows above; light modules stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LAYERS = """
errors environment
answers config config_errors label_colors storage yaml_text
records headers case_tables
example_files
runs
images
phantom
batches models
methods
engine
report
bench
cli
"""
ENTRANCES = {"__main__": "cli", "demo": "cli"}
LIGHT = (
    "errors",
    "environment",
    "answers",
    "config",
    "config_errors",
    "label_colors",
    "storage",
    "yaml_text",
    "records",
    "headers",
    "case_tables",
    "example_files",
    "runs",
    "images",
    "phantom",
    "report",
    "cli",
)

SOURCE = Path(__file__).resolve().parents[1] / "src" / "synfoc"
FILES = {
    ".".join(("synfoc", *path.relative_to(SOURCE).with_suffix("").parts)): path
    for path in sorted(SOURCE.rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}
ROWS = {name: row for row, names in enumerate(LAYERS.split("\n")) for name in names.split()}


def part(module: str) -> str:
    """synfoc.images.files -> images."""
    name = module.split(".")[1]
    return ENTRANCES.get(name, name)


def imports(path: Path, *, at_load: bool = False) -> Iterator[str]:
    """Modules of the package that a file imports; at_load: not those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if at_load and id(node) in inside:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.names[0].name != "*", f"star import in {path.name}"
            assert node.level == 0, f"relative import in {path.name}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {n if n in MODULES else node.module for n in names}
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path: Path, *, at_load: bool = False) -> set[str]:
    return {name for name in imports(path, at_load=at_load) if name.split(".")[0] == "synfoc"}


def assert_runs(program: str) -> None:
    """In a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-600:]


INNER = [name for name in MODULES if name != "synfoc"]


def test_every_part_has_its_row() -> None:
    assert {part(name) for name in INNER} <= ROWS.keys()


@pytest.mark.parametrize("module", INNER)
def test_a_module_imports_only_from_its_own_row_and_the_rows_above(module: str) -> None:
    own = ROWS[part(module)]
    for other in ours(MODULES[module]):
        if other == "synfoc":
            assert part(module) == "cli", f"{module} imports the whole package"
            continue
        assert ROWS[part(other)] <= own, f"{module} must not import {other}"


def test_the_method_knows_tensors_and_batches_only() -> None:
    """Models are callables, constants are arguments."""
    for module, path in MODULES.items():
        if module.startswith("synfoc.methods."):
            others = {name for name in ours(path) if not name.startswith("synfoc.methods.")}
            assert others <= {"synfoc.batches.batch"}, module


def test_no_cycles() -> None:
    """Counting what is imported when a module loads."""
    graph = {name: ours(path, at_load=True) - {name} for name, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_light_modules_load_without_torch() -> None:
    """A report opens, --help answers and data are checked on a laptop without waiting for torch."""
    light = [name for name in INNER if name.split(".")[1] in LIGHT]
    program = "\n".join(
        [
            "import importlib, sys",
            *(
                f"importlib.import_module({name!r})\n"
                f"heavy = {{'torch', 'transformers', 'lightning_fabric'}} & set(sys.modules)\n"
                f"assert not heavy, ({name!r}, heavy)"
                for name in sorted(light)
            ),
        ]
    )
    assert_runs(program)


def test_the_package_itself_loads_without_torch() -> None:
    """`import synfoc` is quick: its public names load what they need when they are used."""
    program = "import synfoc, sys; assert 'torch' not in sys.modules"
    assert_runs(program)


def test_the_guide_for_contributors_names_the_same_layers() -> None:
    text = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"```text{LAYERS}```" in text
