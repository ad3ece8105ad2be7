"""Cases to look at: the image, the label's contour and each branch's contour.

On the page the image is embedded once and contours are vector paths over it, so they stay sharp at
any zoom and can be switched off. `write_pictures` draws the same as PNG files.

Color says who drew it (label or prediction), dashes say which class. The two colors differ in
lightness too, and each line has a dark rim, so that it is visible on bright and on dark tissue.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from synfoc.answers import BRANCH_NAMES, BRANCHES, BranchName
from synfoc.example_files import Example
from synfoc.runs import RunFolder
from synfoc.storage import refuse_folder, replacing

LABEL_COLOR, PREDICTION_COLOR = "#56C8FF", "#FFA31A"
DASHES = ((), (4, 2), (1.5, 1.5), (6, 2, 1.5, 2))
SIDE = 384
PNG_BYTES = 60_000


def example_html(example: Example, key: str, branches: Sequence[BranchName]) -> str:
    """One case as a row of panels: the plain image, then one panel per branch.

    Args:
        example: the case.
        key: unique in the page; names the embedded image.
        branches: the columns; a branch that the example lacks is left out.
    """
    small = _shrink(example)
    h, w = small.label.shape
    frame = f'viewBox="0 0 {w} {h}"'
    if (tall := _pixel_height(example)) != 1:
        frame += f' preserveAspectRatio="none" style="aspect-ratio: {w / (h * tall):.3f}"'
    case, kind = escape(example.case), escape(example.kind)
    # Image and label stand once in the page; every branch's panel refers to them.
    image = f'<image id="{key}" width="{w}" height="{h}" href="{_data_uri(small.image)}"/>'
    label = f'<defs><g id="{key}-label">{_paths(small.label, "label")}</g></defs>'
    both = f'<use href="#{key}"/><use href="#{key}-label" class="label-lines"/>'
    panels = [_panel(label + image, frame, f"{case}: image", "image")]
    for branch in branches:
        if branch in small.masks:
            lines = _paths(small.masks[branch], "prediction")
            drawn = f'{both}<g class="prediction-lines">{lines}</g>'
            name, dice = BRANCH_NAMES[branch], example.dice.get(branch)
            score = "–" if dice is None else f"{100 * dice:.1f}"
            alt = f"{case}: {name}, Dice {score} percent"
            panels.append(_panel(drawn, frame, alt, f"{name} <b>{score}</b>"))
    return (
        f'<figure class="case"><figcaption><span class="kind">{kind}</span> '
        f"<code>{case}</code></figcaption>"
        f'<div class="panels">{"".join(panels)}</div></figure>'
    )


def legend_html(classes: Sequence[str]) -> str:
    """Return what colors and dashes mean, with a switch for each of the two contours."""
    switches = "".join(
        f'<label><input type="checkbox" id="show-{who}" checked>'
        f'<svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
        f'<path class="rim" d="M1 4H23"/><path class="{who}" d="M1 4H23"/></svg>{text}</label>'
        for who, text in (("label", "label"), ("prediction", "prediction"))
    )
    lines = "".join(
        f'<span><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
        f'<path class="ink" d="M1 4H23"{_dash(i)}/></svg>{escape(name)}</span>'
        for i, name in enumerate(classes)
    )
    return f'<p class="legend">{switches}{lines if len(classes) > 1 else ""}</p>'


def write_pictures(run: RunFolder, examples: Sequence[Example]) -> list[Path]:
    """Draw examples as PNG: one file per domain, and the median cases together.

    Args:
        run: its folder `pictures` takes the files.
        examples: those of the run.

    Returns:
        Paths of the files, `overview.png` first; [] without examples.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    if not examples:
        return []
    domains = list(dict.fromkeys(e.domain for e in examples))
    medians = [e for e in examples if e.kind == "median"] or list(examples[:1])
    files = {run.pictures / "overview.png": medians}
    for domain in domains:
        path = run.pictures / run.example(domain, "cases").with_suffix(".png").name
        files[path] = [e for e in examples if e.domain == domain]
    for path in files:
        refuse_folder(path)  # before the first is written
    return [_write_png(path, shown) for path, shown in files.items()]


def contours(label: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Outlines of every class.

    Args:
        label: (h, w), class indices; 0 is background.

    Yields:
        (class index, points (n, 2) as x, y in pixels, pixel (0, 0) covering 0..1). What a class
        encloses of other classes counts to its inside: their own outline is drawn anyway.
    """
    for k in np.unique(label[label > 0]):
        region = label == k
        region |= binary_fill_holes(region) & (label > 0)
        # One empty pixel around, so that outlines at the image's border close.
        edges = contour_generator(z=np.pad(region, 1).astype(np.float64))
        for line in edges.lines(0.5):
            points = np.asarray(line) - 0.5
            # Points in the middle of a straight stretch say nothing.
            turn = np.abs(np.diff(points, 2, axis=0)).max(1, initial=0) > 1e-6
            yield int(k), points[np.r_[True, turn, True]]


def _panel(drawn: str, frame: str, alt: str, caption: str) -> str:
    return (
        f'<div><svg {frame} role="img" aria-label="{alt}">{drawn}</svg>'
        f"<small>{caption}</small></div>"
    )


def _paths(label: NDArray[np.uint8], who: str) -> str:
    shapes = []
    for k, points in contours(label):
        moves = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        shapes.append((f'd="M{moves}"', _dash(k - 1)))
    rims = "".join(f'<path class="rim" {d}/>' for d, _ in shapes)
    lines = "".join(f'<path class="{who}" {d}{dash}/>' for d, dash in shapes)
    return rims + lines


def _dash(i: int) -> str:
    dash = DASHES[i % len(DASHES)]
    return f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""


def _pixel_height(example: Example) -> float:
    """Height of a pixel over its width, 1 where no spacing is known."""
    rows, columns = example.spacing or (1.0, 1.0)
    return rows / columns


def _shrink(example: Example) -> Example:
    """At most SIDE pixels: the image smoothed, labels by their nearest pixel."""
    h, w = example.label.shape
    if max(h, w) <= SIDE:
        return example
    scale = SIDE / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))

    def nearest(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))

    image = Image.fromarray(example.image).resize(size, Image.Resampling.LANCZOS)
    masks = {branch: nearest(mask) for branch, mask in example.masks.items()}
    return replace(example, image=np.asarray(image), label=nearest(example.label), masks=masks)


def _data_uri(image: NDArray[np.uint8]) -> str:
    """PNG, or JPEG where that is too large for a page that holds dozens."""
    buffer, picture, kind = io.BytesIO(), Image.fromarray(image), "png"
    picture.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > PNG_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        picture.save(buffer, format="JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _write_png(path: Path, examples: Sequence[Example]) -> Path:
    branches = [b for b in BRANCHES if any(b in e.masks for e in examples)]
    columns = 1 + len(branches)
    figure = Figure(figsize=(2.1 * columns, 2.3 * len(examples) + 0.35), layout="constrained")
    for row, example in enumerate(examples):
        for column, branch in enumerate([None, *branches]):
            axes = figure.add_subplot(len(examples), columns, row * columns + column + 1)
            _draw(axes, example, branch)
    figure.legend(
        handles=[
            Line2D([], [], color=LABEL_COLOR, linewidth=2, label="label"),
            Line2D([], [], color=PREDICTION_COLOR, linewidth=2, label="prediction"),
        ],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    with replacing(path) as part, warnings.catch_warnings():
        # A domain's name in another script: boxes in the title, the picture is right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(part, format="png", dpi=110)
    return path


def _draw(axes: Axes, example: Example, branch: BranchName | None) -> None:
    h, w = example.label.shape
    axes.imshow(example.image, cmap="gray", vmin=0, vmax=255, extent=(0, w, h, 0))
    axes.set_aspect(_pixel_height(example))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if branch is None:
        domain = example.domain or "all cases"
        axes.set_title(f"{domain}, {example.kind}", fontsize=9, parse_math=False)
        return
    dice = example.dice.get(branch)
    score = "–" if dice is None else f"{100 * dice:.1f}"
    axes.set_title(f"{BRANCH_NAMES[branch]}: Dice {score} %", fontsize=9)
    if branch not in example.masks:
        return
    for label, color in (
        (example.label, LABEL_COLOR),
        (example.masks[branch], PREDICTION_COLOR),
    ):
        for k, points in contours(label):
            dash = DASHES[(k - 1) % len(DASHES)]
            axes.plot(
                *points.T,
                color=color,
                linewidth=1.4,
                linestyle=(0, dash) if dash else "-",
                path_effects=[Stroke(linewidth=2.4, foreground="black", alpha=0.6), Normal()],
            )
