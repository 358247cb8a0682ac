"""Views made harder to recognise, in five severities.

Noise, blur, fog, brightness, contrast, pixelation and JPEG after ImageNet-C (Hendrycks and
Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", arXiv
1903.12261), with the strengths of its published generator; rotation is added here. ImageNet-C is a
data set of images that were corrupted once, at 224 pixels, and stored as JPEG of quality 85. Here a
view is corrupted as it is cut, at the resolution of the model, and lengths, such as the radius of a
blur, are those at 224 pixels times the view's side over 224. So figures are of the same kind, and
not the same. Host side, uint8 in and out.
"""

import dataclasses
import io
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 224
"""Of the images, in pixels, for which lengths are given."""

Pixels = np.ndarray
"""Float32 [height, width, C] in [0, 1]."""


def gaussian_noise(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Adds to each value a normal one with a standard deviation of 0.08 to 0.38."""
    del scale
    strength = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return image + strength * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Counts of photons, Poisson, of which white has 60, 25, 12, 5 or 3."""
    del scale
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def impulse_noise(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Makes a share of 3% to 27% of all values black or white, as many of each."""
    del scale
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = rng.random(image.shape, np.float32)
    return np.where(drawn < share, (drawn < share / 2).astype(np.float32), image)


def speckle_noise(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Gaussian noise in proportion to the value, with a standard deviation of 15% to 60% of it."""
    del scale
    strength = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
    return image + image * strength * rng.standard_normal(image.shape, np.float32)


def gaussian_blur(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """A Gaussian with a standard deviation of 1, 2, 3, 4 or 6 pixels at 224."""
    del rng
    return _convolved(image, _gaussian((1, 2, 3, 4, 6)[severity - 1] * scale))


def defocus_blur(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """The mean over a disk with a radius of 3, 4, 6, 8 or 10 pixels at 224, antialiased."""
    del rng
    return _convolved(image, _disk((3, 4, 6, 8, 10)[severity - 1] * scale))


def zoom_blur(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """The mean of the image and of its centre enlarged step by step up to 1.10 or 1.30 times."""
    del scale, rng
    last, step = ((0.1, 0.01), (0.15, 0.01), (0.2, 0.02), (0.25, 0.02), (0.3, 0.03))[severity - 1]
    factors = 1 + step * np.arange(round(last / step) + 1)
    total = image + sum(_zoomed(image, factor) for factor in factors)
    return total / (len(factors) + 1)


def fog(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """A cloud of light, 1.5 to 3 times as bright as white, and all of it scaled back.

    ImageNet-C draws the cloud by the diamond-square algorithm; here it is a sum of smooth noise in
    octaves, with the same loss of amplitude from one to the next, 2 to 1.4.
    """
    del scale
    strength, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    brightest = image.max()
    lit = image + strength * _cloud(image.shape[:2], decay, rng)[..., None]
    return lit * (brightest / (brightest + strength))


def brightness(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Adds 0.1 to 0.5 to the value of hue, saturation and value, which are kept but for that."""
    del scale, rng
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    value = image.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1)
    # With hue and saturation kept, all channels grow in proportion; black has neither.
    return np.where(value > 0, image * (brighter / np.maximum(value, 1e-6)), brighter)


def contrast(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Leaves 40% to 5% of each value's distance from its channel's mean."""
    del scale, rng
    left = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = image.mean(axis=(0, 1), keepdims=True)
    return mean + left * (image - mean)


def pixelate(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Shrinks the sides to 60% to 25%, by the mean of boxes, and enlarges them again."""
    del scale, rng
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    small = max(int(width * share), 1), max(int(height * share), 1)

    def coarse(picture: Image.Image) -> Image.Image:
        shrunk = picture.resize(small, Image.Resampling.BOX)
        return shrunk.resize((width, height), Image.Resampling.BOX)

    return _through_pillow(image, coarse)


def jpeg(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Compressed as JPEG of quality 25, 18, 15, 10 or 7, and decoded again."""
    del scale, rng
    quality = (25, 18, 15, 10, 7)[severity - 1]

    def compressed(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return _through_pillow(image, compressed)


def rotation(image: Pixels, severity: int, scale: float, rng: np.random.Generator) -> Pixels:
    """Turned by 15, 30, 45, 60 or 90 degrees, to one side or the other; corners are mid-grey."""
    del scale
    degrees = (15, 30, 45, 60, 90)[severity - 1] * (1 if rng.random() < 0.5 else -1)

    def turned(picture: Image.Image) -> Image.Image:
        grey = 128 if picture.mode == "L" else (128, 128, 128)
        return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=grey)

    return _through_pillow(image, turned)


CORRUPTIONS: dict[str, Callable[[Pixels, int, float, np.random.Generator], Pixels]] = {
    one.__name__: one
    for one in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise),
        *(gaussian_blur, defocus_blur, zoom_blur),
        *(fog, brightness, contrast, pixelate, jpeg, rotation),
    )
}
"""By name: functions of an image, its severity, a length of one pixel at 224, and random numbers.

What they return is clipped to [0, 1].
"""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption of one severity, of all images; picklable.

    Raises:
      ValueError: if there is no such corruption or severity.
    """

    name: str
    severity: int
    seed: int = 0
    side: int = SIDE
    """Of the images, in pixels, for which lengths are as given; those of others are scaled."""

    def __post_init__(self):
        if self.name not in CORRUPTIONS:
            raise ValueError(
                f"there is no corruption {self.name!r}; there are {', '.join(CORRUPTIONS)}"
            )
        if self.severity not in SEVERITIES:
            raise ValueError(f"severities are {SEVERITIES}, not {self.severity}")

    def __call__(self, view: np.ndarray, index: int) -> np.ndarray:
        """The view, uint8 [height, width, C], corrupted.

        Args:
          view: of an image.
          index: the image's number; what is drawn is keyed by the seed, the corruption, and it, and
            is the same for all severities.
        """
        rng = np.random.default_rng((self.seed, zlib.crc32(self.name.encode()), index))
        scale = min(view.shape[:2]) / self.side
        image = view.astype(np.float32) / 255
        found = CORRUPTIONS[self.name](image, self.severity, scale, rng)
        return np.round(np.clip(found, 0, 1) * 255).astype(np.uint8)


def _through_pillow(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    grey = image.shape[-1] == 1
    pixels = np.round(image * 255).astype(np.uint8)
    changed = np.asarray(change(Image.fromarray(pixels[..., 0] if grey else pixels)), np.float32)
    return (changed[..., None] if grey else changed) / 255


def _zoomed(image: Pixels, factor: float) -> Pixels:
    """The centre, 1/factor of each side, enlarged to the whole."""
    height, width = image.shape[:2]
    across, down = width / factor, height / factor
    box = (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2

    def enlarged(channel: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(channel)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))

    return np.stack([enlarged(image[..., c]) for c in range(image.shape[-1])], axis=-1)


def _gaussian(sigma: float) -> np.ndarray:
    reach = int(np.ceil(4 * sigma))
    places = np.arange(-reach, reach + 1)
    one = np.exp(-(places**2) / (2 * max(sigma, 1e-6) ** 2))
    return np.outer(one, one) / one.sum() ** 2


def _disk(radius: float) -> np.ndarray:
    """The share of each pixel that a disk covers, sampled at 8×8 points."""
    reach, fine = int(np.ceil(radius)), 8
    places = np.arange((2 * reach + 1) * fine)
    places = (places + 0.5) / fine - reach - 0.5
    inside = (places[:, None] ** 2 + places[None] ** 2 <= max(radius, 0.5) ** 2).astype(float)
    side = 2 * reach + 1
    covered = inside.reshape(side, fine, side, fine).mean(axis=(1, 3))
    return covered / covered.sum()


def _convolved(image: Pixels, kernel: np.ndarray) -> Pixels:
    """Each channel convolved with a symmetric kernel, the image mirrored at its edges."""
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, size)[..., None]
    whole = np.fft.irfft2(spectrum, size, axes=(0, 1))
    # The circle's wrapped part is within the padding.
    return whole[2 * reach :, 2 * reach :].astype(np.float32)


def _cloud(shape: tuple[int, int], decay: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise from 0 to 1, float32 [height, width]."""
    height, width = shape
    total, cells, amplitude = np.zeros(shape, np.float32), 2, 1.0
    while cells <= 2 * max(shape):
        drawn = Image.fromarray(rng.random((cells + 1, cells + 1), np.float32))
        smooth = drawn.resize((width, height), Image.Resampling.BICUBIC)
        total += np.float32(amplitude) * np.asarray(smooth)
        cells, amplitude = 2 * cells, amplitude / decay
    total -= total.min()
    return total / max(total.max(), 1e-6)
