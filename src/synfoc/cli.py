"""The command line: parse, call one function, print what it made. No logic of its own.

Exit status: 0 done; 1 done, but something needs attention (unsound data, unreadable images);
2 bad input, or something that stops the work, such as a full disk; 130 stopped by the user. What
was trained or predicted until then is kept.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from synfoc.errors import Interrupted, UserError, visible

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 160
OF_THE_MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ESTALE),
    *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ENODEV),
)
"""Errors that no input causes and no code; any other is our bug and shows its traceback."""
KEPT = "\n\t"
"""Control characters that our own text holds."""
LONGEST = 200
"""Characters of a path that an error shows."""


class _Commands(TyperGroup):
    """The commands; an argument that is refused does nothing to the terminal, either."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _shown():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with _shown():
            return super().invoke(ctx)


@contextmanager
def _shown() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # of click, wherever Typer keeps it
            error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Segment medical images from a few labels on one scanner and many unlabeled images.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data, or make a data set to try.")
weights_app = typer.Typer(no_args_is_help=True, help="Weights of foundation models.")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")


class Device(str, Enum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Branch(str, Enum):
    """Which network answers."""

    recommended = "recommended"
    unet = "unet"
    medsam = "medsam"
    fused = "fused"


class Protocol(str, Enum):
    """How a run is scored."""

    honest = "honest"
    paper = "paper"


class ImageFormat(str, Enum):
    """How the phantom is written."""

    png = "png"
    nifti = "nifti"


class Engine(str, Enum):
    """Where the cells of a suite run."""

    local = "local"
    slurm = "slurm"


class Published(str, Enum):
    """The paper's data sets."""

    prostate = "prostate"
    mnms = "mnms"
    fundus = "fundus"
    busi = "busi"


class SplitRule(str, Enum):
    """How an imported set is split."""

    paper = "paper"
    patient = "patient"


RunArgument = Annotated[Path, Argument(metavar="RUN", help="Folder written by `synfoc train`.")]
CheckpointOption = Annotated[
    str,
    Option(
        "--checkpoint",
        metavar="NAME",
        help="Which state of the networks: best, last, or another of checkpoints/, such as "
        "step_000500.",
    ),
]
DeviceOption = Annotated[Device, Option("--device", help="Where the networks run.")]
SetOption = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. train.steps=500."),
]
DataSetOption = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of the data, e.g. 'data.remap={255: 1}'.",
    ),
]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Print the version where it is asked for."""
    if show:
        from importlib.metadata import version as installed

        print(f"synfoc {installed('synfoc')}")
        raise typer.Exit


@app.command()
def train(
    config: Annotated[Path | None, Argument(help="YAML config, e.g. configs/fundus.yaml.")] = None,
    data: Annotated[
        Path | None,
        Option(
            help="Own data, a folder or a CSV: without a config, or in the place of its data.path."
        ),
    ] = None,
    labeled: Annotated[
        str | None,
        Option(
            metavar="DOMAIN:COUNT",
            help="The first COUNT images of DOMAIN are labeled; COUNT alone where there are no "
            "domains. Left out: what the config says, else all that have a label.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        Option(help="Side in pixels at which both networks work."),
    ] = None,
    steps: Annotated[int | None, Option(help="Optimizer steps.")] = None,
    out: Annotated[Path | None, Option("--out", "-o", help="New folder for the run.")] = None,
    resume: Annotated[
        Path | None, Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    changes: SetOption = None,
    device: Annotated[Device | None, Option(help="Where to train.")] = None,
    devices: Annotated[
        int | None,
        Option(help="Processes that share each batch, one per GPU."),
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train a pair of networks: from a config, from own data, or go on with a run."""
    from synfoc.engine.own_data import compose_config
    from synfoc.engine.parallel import rank_of_process
    from synfoc.engine.train import train as run_training

    console = None if quiet else _console()
    flags = {"steps": steps, "device": device and device.value, "devices": devices}
    chosen = _with_flags(changes or [], {k: v for k, v in flags.items() if v is not None})
    if resume is not None:
        _refuse_beside_resume(config or data or labeled or size or out or chosen)
        _done(run_training(None, resume, resume=True, console=console))
        return
    settings = compose_config(config, data, labeled, size, tuple(chosen))
    target = out or _free_folder(Path("runs"), (config or data or Path("run")).stem)
    if console and data and rank_of_process(settings.config.train.devices) == 0:
        summary = visible(f"settings: {settings.summary}")
        console.print(summary, markup=False, soft_wrap=True)
    _done(run_training(settings.config, target, console=console))


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[
        Path | None,
        Option(
            help="Other data than the run's, a folder or a CSV: its test cases (all where it names "
            "none) without patients labeled in training. Labels are not needed. The scores take "
            "the place of the run's; `synfoc evaluate RUN` brings those back."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="data.remap=VALUE",
            help="What the codes (or data.colors) in the labels of --data mean, where they are not "
            "those of the run, e.g. 'data.remap={255: 1}'; null: they are class indices.",
        ),
    ] = None,
    checkpoint: CheckpointOption = "best",
    protocol: Annotated[
        Protocol | None,
        Option(
            help="honest: mm, original size; paper: pixels at the U-Net's side (default: the one "
            "that goes with the run's rule)"
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for scores, cases and pictures, new or of an earlier evaluation, where "
            "the run is to stay as it is; `synfoc report DIR` makes a page of it.",
        ),
    ] = None,
    as_json: Annotated[
        bool, Option("--json", help="Print metrics.json instead of a table.")
    ] = False,
) -> None:
    """Score a run per domain and branch; where labels are missing, estimate its Dice.

    Exit status 1 where an image or label could not be read: the others are scored.
    """
    from synfoc.engine.evaluate import evaluate as run_evaluation
    from synfoc.report.terminal import print_scores

    console = _console()
    with _bar(console, "evaluate") as bar:
        metrics = run_evaluation(
            run,
            data=data,
            changes=tuple(changes or ()),
            protocol=protocol.value if protocol else None,
            checkpoint=checkpoint,
            device=device.value,
            out=out,
            progress=bar,
        )
    place = out or run
    if as_json:
        _say(json.dumps(metrics, indent=1))
    else:
        print_scores(place, console=_console(stderr=False))
        _say(f"scores -> {place / 'metrics.json'}, cases -> {place / 'evaluation/cases.csv'}")
        if out is not None:
            _say(f"next: synfoc report {shlex.quote(str(out))}")
    for lost in metrics["unreadable"]:
        _tell(visible(f"not scored: {lost['why']}"))
    if metrics["unreadable"]:
        raise typer.Exit(1)


@app.command()
def predict(
    run: RunArgument,
    images: Annotated[
        list[Path], Argument(help="PNG, JPEG, TIFF, BMP, NIfTI, NPY: files or folders.")
    ],
    out: Annotated[Path, Option("--out", "-o", help="Folder for the masks.")],
    branch: Annotated[Branch, Option(help="Which network answers.")] = Branch.recommended,
    checkpoint: CheckpointOption = "best",
    overlay: Annotated[bool, Option("--overlay", help="Also draw outlines on images.")] = False,
    probabilities: Annotated[
        bool, Option("--probabilities", help="Also write soft maps, one per class.")
    ] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace masks that are there.")] = False,
    device: DeviceOption = Device.auto,
) -> None:
    """Segment images with a trained run; predictions.csv lists those to check first on top.

    docs/outputs.md says what is written. Exit status 1 where an image could not be read.
    """
    from synfoc.engine.predict import predict as run_prediction

    console = _console()
    with _bar(console, "predict") as bar:
        rows = run_prediction(
            run,
            images,
            out=out,
            branch=branch.value,
            checkpoint=checkpoint,
            overlay=overlay,
            probabilities=probabilities,
            overwrite=overwrite,
            device=device.value,
            progress=bar,
        )
    failed = [row for row in rows if row.failed]
    _say(f"{len(rows) - len(failed)} masks -> {out}, confidence of each -> {out}/predictions.csv")
    for row in failed:
        _tell(f"{visible(row.image)}: {row.note}")
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    runs: Annotated[
        list[Path],
        Argument(
            metavar="RUN...",
            help="One run, or several to compare; a folder of `synfoc evaluate --out` is one, too.",
        ),
    ],
    out: Annotated[
        Path | None,
        Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="The page (default: report.html in the first run, with pictures/ beside it).",
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run, or about several side by side.

    With --out nothing is written into a run. Exit status 1 where a damaged file was left out.
    """
    from synfoc.report.page import report as write

    made = write(runs, out)
    for error in made.damaged:
        _tell(f"left out: {error}")
    _say(f"report -> {made.page}")
    if made.damaged:
        raise typer.Exit(1)


@app.command()
def bench(
    suite: Annotated[Path, Argument(metavar="SUITE.yaml", help="What is compared.")],
    data: Annotated[
        Path, Option(help="Folder that the data sets of the suite are below.")
    ] = Path(),
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder of the suite (default: bench/NAME).")
    ] = None,
    changes: SetOption = None,
    engine: Annotated[Engine, Option(help="Processes here, or jobs of a cluster.")] = Engine.local,
    workers: Annotated[int, Option(min=1, help="Cells at a time on this machine.")] = 1,
    slurm: Annotated[
        list[str] | None,
        Option(metavar="KEY=VALUE", help="Option of the jobs, e.g. partition=gpu, time=240."),
    ] = None,
    device: DeviceOption = Device.auto,
    tables: Annotated[
        bool, Option("--tables", help="Run nothing; make the tables anew, with the same --set.")
    ] = False,
) -> None:
    """Compare methods: run every cell of a suite, or go on with them, then make the tables."""
    from synfoc.bench.run import run_suite

    failures, files = run_suite(
        suite,
        root=data,
        out=out,
        changes=tuple(changes or ()),
        engine=engine.value,
        workers=workers,
        slurm=slurm or (),
        device=device.value,
        tables_only=tables,
        console=_console(),
    )
    for name, error in failures.items():
        _tell(f"cell {name} failed: {error}")
    for file in files:
        _say(f"tables -> {file}")
    if failures:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, Option("--out", "-o", help="New folder for data, runs, report.")] = Path(
        "demo"
    ),
    device: DeviceOption = Device.auto,
    seed: Annotated[int, Option(help="Seed of the data and the training.")] = 1,
) -> None:
    """Train, evaluate and report on a phantom of several scanners: the whole job in minutes."""
    from synfoc.demo import run_demo

    console = _console(stderr=False)
    page = run_demo(out, device=device.value, seed=seed, console=console)
    _say(f"report -> {page}")


@app.command()
def info(
    as_json: Annotated[bool, Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Tell versions, device, weights at hand, methods and networks; for a report of a bug."""
    from synfoc.engine.info import info as describe
    from synfoc.report.terminal import print_info

    found = describe()
    if as_json:
        _say(json.dumps(found, indent=1))
    else:
        print_info(found, console=_console(stderr=False))


@data_app.command("check")
def data_check(
    path: Annotated[Path, Argument(metavar="DIR|CSV", help="The data to read.")],
    changes: DataSetOption = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Read everything and print what was found; exit status 1 where training would be unsound."""
    from synfoc.config import parse_config
    from synfoc.images.check import check_data
    from synfoc.report.terminal import print_findings

    config = parse_config({"data": {"path": str(path)}}, tuple(changes or ()), source="--set")
    console = _console()
    with _bar(console, "read") as bar:
        findings = check_data(config.data, progress=lambda done, total: bar(done, total, ""))
    if as_json:
        _say(json.dumps(findings.to_dict(), indent=1, ensure_ascii=False))
    else:
        print_findings(findings, console=_console(stderr=False))
    if findings.problems:
        raise typer.Exit(1)


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, Argument(help="New folder.")],
    patients: Annotated[int, Option(help="Patients per scanner, about a third of them test.")] = 12,
    image_format: Annotated[ImageFormat, Option("--format", help="Kind of files.")] = (
        ImageFormat.png
    ),
    seed: Annotated[int, Option(help="Seed; the same one gives the same bytes.")] = 1,
) -> None:
    """Make a data set of several scanners from a seed, with labels."""
    from synfoc.phantom.data_set import write_phantom

    test = max(1, patients // 3)
    folder = write_phantom(
        out,
        train_patients=patients - test,
        test_patients=test,
        seed=seed,
        image_format=image_format.value,
    )
    _say(f"phantom -> {folder}")


@data_app.command("import")
def data_import(
    name: Annotated[Published, Argument(help="Which set.")],
    source: Annotated[Path, Argument(metavar="SRC", help="The unpacked download.")],
    out: Annotated[Path, Argument(metavar="OUT", help="New folder.")],
    split: Annotated[
        SplitRule, Option(help="paper: its rule, slices; patient: a fifth tests, volumes.")
    ] = SplitRule.paper,
    seed: Annotated[int, Option(help="Seed of --split patient.")] = 1,
) -> None:
    """Make a data set of the paper from what its owners hand out."""
    from synfoc.images.imports.dataset import import_data

    with _bar(_console(), "import") as bar:
        made = import_data(name.value, source, out, split=split.value, seed=seed, progress=bar)
    for notice in made.notices:
        _show_note(notice)
    _say(f"{made.count('train')} training and {made.count('test')} test images -> {out}")
    told = " ".join(f"--set {shlex.quote(setting)}" for setting in made.settings)
    _say(f"next: synfoc data check {shlex.quote(str(out))} {told}")


@weights_app.command("list")
def weights_list() -> None:
    """Name the weights that can be used, and which of them are here."""
    from synfoc.models.weights import list_weights
    from synfoc.report.terminal import print_weights

    print_weights(list_weights(), console=_console(stderr=False))


@weights_app.command("get")
def weights_get(name: Annotated[str, Argument(help="A name from `synfoc weights list`.")]) -> None:
    """Fetch weights ahead of training, which else does it by itself.

    litemedsam goes into SYNFOC_HOME (~/.cache/synfoc unless set) and is checked by its SHA-256; the
    others go into the cache of the Hugging Face hub, at a fixed revision. Nodes without a network
    find them there.
    """
    from synfoc.models.weights import get_weights

    _say(f"{name} -> {get_weights(name)}")


@weights_app.command("check")
def weights_check(
    names: Annotated[
        list[str] | None,
        Argument(help="Names from `synfoc weights list`; all of them without a name."),
    ] = None,
) -> None:
    """Compare the weights that are here with their SHA-256; exit status 1 where one is damaged."""
    from synfoc.models.weights import check_weights
    from synfoc.report.terminal import print_weights

    found = check_weights(tuple(names or ()))
    print_weights(found, console=_console(stderr=False))
    if any(status.state == "damaged" for status in found):
        raise typer.Exit(1)


def main() -> NoReturn:
    """Run the command line; bad input ends with status 2 and no traceback.

    Typer ends a command that is stopped outside of training (status 130) or whose reader has gone.
    """
    _open_streams()
    warnings.showwarning = _show_note
    # What libraries will change one day is for developers.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # What a decoder thinks of a file; what it makes unusable is told by us.
    warnings.filterwarnings("ignore", module=r"(PIL|nibabel)\b")
    try:
        app()
    except SystemExit as ended:
        sys.exit(_flushed(ended.code))
    except UserError as error:
        _tell(str(error))
        sys.exit(2)
    except Interrupted as error:
        _tell(str(error))
        sys.exit(130)
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno not in OF_THE_MACHINE:
            raise
        _tell(str(_machine_error(error)))
        _forget_output()
        sys.exit(2)
    sys.exit(_flushed(0))


def _flushed(status: Any) -> Any:
    """Return the status of a command once its output is out.

    A full disk may tell itself this late.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
    except OSError as error:
        _tell(str(_machine_error(error)))
        _forget_output()
        return 2
    return status


def _machine_error(error: OSError | MemoryError) -> UserError:
    """Return what a disk, a network drive or the memory refuses, where nothing else tells it."""
    if isinstance(error, MemoryError):
        return UserError(
            "the memory of this machine does not suffice",
            found=str(error) or "no room for what the command needs",
            expected="more memory, or smaller images",
            fix="end what else uses it, or split the images into several calls",
        )
    name = "the output" if error.filename is None else os.fsdecode(error.filename)
    return UserError(
        f"cannot use {name if len(name) < LONGEST else name[:LONGEST] + ' ...'}",
        found=error.strerror or str(error),
        expected="a place that can be read and written",
        fix="look at its permissions and the room on its disk, then the same command again",
    )


def _open_streams() -> None:
    """Give every stream somewhere to go, and a form to every character of a name."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, as cron and `>&-` leave it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Drop what could not be written, or Python tries it again at its end."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _say(text: str) -> None:
    """Print a result to stdout; what a name could do to the terminal is shown, not done."""
    print(visible(text, keep=KEPT))


def _tell(text: str) -> None:
    """Print an error or a note to stderr, as `_say` does."""
    print(f"synfoc: {visible(text, keep=KEPT)}", file=sys.stderr)


def _show_note(message: Warning | str, *_: object, **__: object) -> None:
    _tell(f"note: {visible(message)}")


def _console(*, stderr: bool = True) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # In a file or a pipe nothing forces a table into 80 columns; fewer than 20 are a mistake.
    columns = os.environ.get("COLUMNS", "")
    usable = columns.isdecimal() and int(columns) >= 20
    free = not stream.isatty() and not usable
    return Console(stderr=stderr, width=PLAIN_WIDTH if free else None)


def _bar(console: Console, what: str) -> Any:
    from synfoc.engine.progress import progress_callback

    return progress_callback(console, what)


def _done(run: Path) -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # one of several processes tells it
    name = shlex.quote(str(run))
    _say(f"run -> {run}\nnext: synfoc evaluate {name}; synfoc report {name}")


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def _with_flags(changes: list[str], flags: dict[str, object]) -> list[str]:
    """Return settings of `--set` with those of flags of the section `train`."""
    for name, value in flags.items():
        key = f"train.{name}"
        twice = [change for change in changes if change.partition("=")[0].strip() == key]
        if twice:
            raise UserError(
                f"{key} is given twice",
                found=f"--{name} {value} and --set {twice[-1]}",
                expected="one of them",
                fix=f"drop --{name}, or the --set",
            )
    return [*changes, *(f"train.{name}={value}" for name, value in flags.items())]


def _refuse_beside_resume(given: object) -> None:
    if given:
        raise UserError(
            "--resume takes its settings from the run",
            found="other options beside --resume",
            expected="synfoc train --resume RUN, alone",
            fix="drop the other options, or start a new run without --resume",
        )


if __name__ == "__main__":
    main()
