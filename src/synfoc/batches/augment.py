"""Weak and strong views of a whole batch on its device, one resampling per view.

    weak:    zoom and crop -> rotation -> flip -> elastic      composed into ONE sampling grid
    strong:  brightness -> contrast -> blur                    on the weak view, always

Random numbers come from the generator that is passed in, on the CPU, so that every device gets
the same batch; what is left is arithmetic that runs where the images are.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from synfoc.batches.batch import to_device
from synfoc.batches.resize import center_indices, to_gray
from synfoc.config import Augment, Interval
from synfoc.errors import UserError


class WeakViews:
    """Sampling grids of the weak view at one side. [authors' code, but for D22]

    A grid says for each pixel of the view where in the image it comes from. The four transforms
    are walked backwards from the view to the image, so the image is read once:

        source = zoom(rotate(flip(pixel + elastic(pixel))))

    Two differences from resampling four times, as the authors do: nothing is blurred four times,
    and what one transform pushes out of the frame is not lost to the next, so black (and
    background) is only what lies outside the IMAGE. For the same reason a label is background
    there also under the elastic transform, where the authors extend the label's edge over
    black pixels: image and label always move together.
    """

    def __init__(self, augment: Augment, side: int, device: torch.device) -> None:
        self.augment, self.side = augment, side
        self._smooth = elastic_smoothing(side, augment.elastic_sigma).to(device)
        self._centers = ((2 * torch.arange(side) + 1) / side - 1).to(device)

    def grids(self, batch: int, generator: torch.Generator) -> Float[Tensor, "B 2 R R"]:
        """Draw one sampling grid per image.

        Args:
            batch: number of images B.
            generator: on the CPU; as many numbers are drawn whatever the coins show.

        Returns:
            Source x (first) and y of every pixel; -1 and 1 are the outer edges of the image.
        """
        zoom, turn, flip, elastic = (
            torch.rand(4, batch, generator=generator) < self.augment.probability
        )
        matrix, shift = self._affine(batch, generator, zoom, turn, flip)
        cells = self._smooth.shape[1]
        noise = 2 * torch.rand(batch, 2, cells * cells, generator=generator) - 1
        # Alpha is a multiple of the side, and the grid's unit is half a side.
        strength = 2 * self.augment.elastic_alpha * elastic.float()
        # By hand and not as a matrix product, which autocast would round.
        noise = (matrix[:, :, :, None] * noise[:, None]).sum(2) * strength.view(-1, 1, 1)
        return self._compose(matrix, shift, noise.view(batch, 2, cells, cells))

    def _affine(
        self, batch: int, generator: torch.Generator, zoom: Tensor, turn: Tensor, flip: Tensor
    ) -> tuple[Float[Tensor, "B 2 2"], Float[Tensor, "B 2"]]:
        """Matrix and shift from a pixel of the view to the image, in units of half the side."""
        factor = _uniform((batch, 2), self.augment.zoom, generator)
        corner = 2 * torch.rand(batch, 2, generator=generator) - 1
        limit = self.augment.degrees
        degrees = torch.randint(-limit, limit + 1, (batch,), generator=generator)

        shrink = torch.where(zoom[:, None], 1 / factor, 1.0)
        angle = torch.deg2rad(degrees * turn)
        rows = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()]
        matrix = shrink[:, :, None] * torch.stack(rows, 1).view(-1, 2, 2)
        matrix[:, :, 0] *= torch.where(flip, -1.0, 1.0)[:, None]
        # The crop's corner is uniform over every place where the crop fits the scaled image.
        return matrix, corner * (1 - shrink)

    def _compose(
        self, matrix: Float[Tensor, "B 2 2"], shift: Float[Tensor, "B 2"], noise: Tensor
    ) -> Float[Tensor, "B 2 R R"]:
        smooth, centers = self._smooth, self._centers
        affine = to_device(torch.cat([matrix, shift[:, :, None]], 2), smooth.device)
        along_x = affine[:, :, :1] * centers
        along_y = affine[:, :, 1:2] * centers + affine[:, :, 2:]
        straight = along_y[..., None] + along_x[:, :, None]
        # A place needs all its digits: no autocast, and only the small displacement goes through a
        # product, which TF32 would round.
        with torch.autocast(smooth.device.type, enabled=False):
            rows = (smooth @ to_device(noise, smooth.device)).view(-1, smooth.shape[1])
            straight.view(-1, self.side).addmm_(rows, smooth.mT)
        return straight


def elastic_smoothing(
    side: int, sigma: float, cells: int | None = None
) -> Float[Tensor, "side cells"]:
    """Matrix A with `A noise A^T` = Gaussian-smoothed noise of the whole side.

    With as many cells as pixels this is `scipy.ndimage.gaussian_filter(noise, sigma * side,
    mode="constant")`, number by number. With fewer, one number stands for the pixels of its cell
    and is scaled so that the field keeps its spread; at five cells per sigma the covariance of the
    field differs by 0.2 % (tests/batches/test_augment.py) and the work falls by side / cells.

    Args:
        side: pixels of a row.
        sigma: width of the Gaussian as a share of the side; cut off at four sigma, as in scipy.
        cells: numbers of noise in a row; None: five per sigma.
    """
    width = sigma * side
    cells = min(side, math.ceil(5 / sigma)) if cells is None else cells
    radius = int(4 * width + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    total = torch.exp(-0.5 * (offsets / width) ** 2).sum()
    pixels = torch.arange(side)
    distance = (pixels[:, None] - pixels).double()
    weights = torch.exp(-0.5 * (distance / width) ** 2) / total * (distance.abs() <= radius)
    cell = pixels * cells // side
    sums = torch.zeros(side, cells, dtype=torch.float64).index_add_(1, cell, weights)
    # A cell of m pixels holds one number instead of m, whose sum has sqrt(m) times its spread.
    return (sums / torch.bincount(cell, minlength=cells).double().sqrt()).float()


def warp_images(
    images: Float[Tensor, "B c R R"], grids: Float[Tensor, "B 2 R R"]
) -> Float[Tensor, "B c R R"]:
    """Images sampled bilinearly at the grids; black outside."""
    places = grids.permute(0, 2, 3, 1)
    return functional.grid_sample(images, places, padding_mode="zeros", align_corners=False)


def warp_labels(
    labels: Shaped[Tensor, "B R R"], grids: Float[Tensor, "B 2 R R"], side: int
) -> Shaped[Tensor, "B side side"]:
    """Labels sampled at the nearest pixel; background outside.

    The same as warping at R and then taking the nearest pixels for `side`, in one read.

    Returns:
        Class indices as int64, ready for a cross entropy.
    """
    if side != grids.shape[-1]:
        index = center_indices(grids.shape[-1], side, grids.device)
        grids = grids[:, :, index[:, None], index]
    places = grids.permute(0, 2, 3, 1)
    sampled = functional.grid_sample(
        labels[:, None].float(), places, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return sampled[:, 0].long()


def strong_views(
    images: Float[Tensor, "B c h w"], augment: Augment, generator: torch.Generator
) -> Float[Tensor, "B c h w"]:
    """Brightness, contrast and blur of weak views, each drawn per image. [authors' code]

    Brightness and contrast are Pillow's ImageEnhance: multiply; blend with the image's mean gray;
    both cut to [0, 1]. They leave out its rounding to 8 bits.

    Args:
        images: in [0, 1]; not changed.
        augment: ranges of the two factors and of the blur.
        generator: on the CPU.
    """
    batch = len(images)
    brightness = _uniform((batch, 1, 1, 1), augment.brightness, generator)
    contrast = _uniform((batch, 1, 1, 1), augment.contrast, generator)
    sigma = _uniform((batch,), augment.blur, generator)
    views = (images * to_device(brightness, images.device)).clamp_(0, 1)
    # The mean is taken first: gray is a weighted sum of the channels.
    gray = to_gray(views.mean((2, 3), keepdim=True))
    views = torch.lerp(gray, views, to_device(contrast, images.device)).clamp_(0, 1)
    return gaussian_blur(views, sigma)


def gaussian_blur(
    images: Float[Tensor, "B c h w"], sigma: Float[Tensor, " B"]
) -> Float[Tensor, "B c h w"]:
    """Blur each image with its own Gaussian; the image is mirrored at its edges.

    The kernel reaches four times the largest sigma, as scipy's does: the authors' 51 taps at 512
    pixels reach 12.5 times, but what lies between weighs 6e-5, a sixtieth of an 8-bit gray level.

    Args:
        images: any range.
        sigma: width in pixels, one per image, on the CPU.
    """
    if len(images) == 0:
        return images
    if images.is_cuda:
        return _blur(images, sigma)
    # The CPU is faster where one channel stays in its cache, and each has its own radius.
    planes = zip(images.flatten(0, 1), sigma.repeat_interleave(images.shape[1]), strict=True)
    return torch.cat([_blur(p[None, None], s[None]) for p, s in planes]).view_as(images)


def _blur(images: Float[Tensor, "B c h w"], sigma: Float[Tensor, " B"]) -> Tensor:
    radius = min(math.ceil(4 * float(sigma.max())), min(images.shape[-2:]) - 1)
    reach = torch.arange(radius + 1)
    weights = torch.exp(-0.5 * (reach / sigma.double().clamp(min=1e-3)[:, None]) ** 2)
    weights /= 2 * weights.sum(1, keepdim=True) - 1
    kernel = to_device(weights.to(images.dtype), images.device)[..., None, None, None].unbind(1)
    pair = torch.empty_like(images)
    for axis, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        length = images.shape[axis]
        padded = functional.pad(images, padding, mode="reflect")
        images = padded.narrow(axis, radius, length) * kernel[0]
        # A sum over shifts: several times faster on the CPU than a grouped convolution.
        for r in range(1, radius + 1):
            before, after = (padded.narrow(axis, radius + s, length) for s in (-r, r))
            images.addcmul_(torch.add(before, after, out=pair), kernel[r])
    return images


def draw_regions(
    batch: int, side: int, area: Interval, generator: torch.Generator
) -> Bool[Tensor, "B P P"]:
    """Draw one rectangle per image, into which a labeled image is pasted. [Eq. 1; D8]

    The area is drawn once; aspect (height over width) and corner are drawn anew until the
    rectangle fits, which makes small ones more likely near the edges.

    Args:
        batch: number of images B.
        side: P in pixels.
        area: least and largest area as a share of the image.
        generator: on the CPU.

    Returns:
        True inside the rectangle, on the CPU.

    Raises:
        UserError: areas outside 0..0.9; larger ones hardly ever fit.
    """
    if not 0 < area[0] <= area[1] <= 0.9:
        raise UserError(
            "the pasted region cannot have this area",
            found=f"method.paste_area = {list(area)}",
            expected="two shares of the image, 0 < smallest <= largest <= 0.9",
            fix="the authors use [0.02, 0.4]",
        )
    area_px = _uniform((batch, 1), area, generator).double() * side**2
    found = torch.zeros(batch, 4, dtype=torch.int64)
    missing = torch.ones(batch, dtype=torch.bool)
    tries = 64
    while missing.any():
        aspect = _uniform((batch, tries), (0.3, 1 / 0.3), generator).double()
        w, h = (area_px / aspect).sqrt().long(), (area_px * aspect).sqrt().long()
        x, y = torch.randint(side, (2, batch, tries), generator=generator)
        fits = (x + w <= side) & (y + h <= side)
        first = fits.int().argmax(1)
        drawn = torch.stack([x, y, x + w, y + h], 2)[torch.arange(batch), first]
        hit = missing & fits.any(1)
        found[hit], missing = drawn[hit], missing & ~hit
    left, top, right, bottom = found.view(batch, 4, 1, 1).unbind(1)
    pixels = torch.arange(side)
    rows, columns = pixels.view(1, side, 1), pixels.view(1, 1, side)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _uniform(shape: tuple[int, ...], interval: Interval, generator: torch.Generator) -> Tensor:
    low, high = interval
    return low + (high - low) * torch.rand(shape, generator=generator)
