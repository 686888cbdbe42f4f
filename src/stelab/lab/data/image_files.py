"""Image files of any kind and origin as grey or RGB pixels: right, or refused.

Read are BMP, GIF, JPEG, JPEG 2000, PNG, PBM to PPM, TIFF and WebP of at most 2**25 pixels and 2**27
bytes; of several frames, the first. Where grey is asked for, colours are weighed by how bright they
look (ITU-R 601-2); where RGB is, all three are what is grey. Pixels of 16 bits are divided by 257,
in PNG and PGM, where white is 65,535. Refused, as what they show is not known: other pixels of more
than 8 bits (which is white?), and pixels that are transparent (on what?).
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageMode, UnidentifiedImageError
from torch import Tensor

from stelab.engine.errors import InputError, first_line
from stelab.engine.files import read_bounded
from stelab.engine.terminal import visible, visible_path

# Not EPS, for which Pillow would start Ghostscript.
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_WHITE_IS_65535 = ("PNG", "PPM")
_MOST_PIXELS = 2**25
_MOST_BYTES = 2**27
_TOO_LARGE = f"it has more than {_MOST_PIXELS} pixels"


def image_paths(folder: Path, *, key: str = "images") -> list[Path]:
    """Return the files of a folder, sorted by name, without hidden ones."""
    try:
        paths = sorted(p for p in folder.iterdir() if not (p.is_dir() or p.name.startswith(".")))
    except (OSError, ValueError) as error:
        raise InputError(f"{key} must be a folder, got '{visible_path(folder)}'") from error
    if not paths:
        raise InputError(f"{visible_path(folder)} holds no images")
    return paths


def read_image(path: Path, *, channels: int, size: tuple[int, int]) -> Tensor:
    """Read an image file: uint8 pixels ``(channels, height, width)``, 255 white.

    Args:
        path: The file; what it shows is stretched to `size`.
        channels: 1 for grey, 3 for RGB.
        size: Height and width.

    Raises:
        InputError: It is not a file, none of the known formats, damaged, too large, or not known
            to look like anything.
    """
    try:
        content = io.BytesIO(read_bounded(path, limit=_MOST_BYTES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a file says beside its pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=_FORMATS) as image:
                read = _grey_or_rgb(image, channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _refused(path, _TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise _refused(path, f"it is none of {', '.join(_FORMATS)}") from error
    # Whatever Pillow's readers raise on bytes that were made to confuse them.
    except Exception as error:
        raise _refused(path, first_line(error)) from error
    height, width = size
    if read.size != (width, height):
        read = read.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(read)).reshape(height, width, channels).permute(2, 0, 1)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"{visible_path(path)} is not a readable image: {visible(reason)}")


def _grey_or_rgb(image: Image.Image, channels: int) -> Image.Image:
    """Return 8 bits a channel; size and mode are checked before anything is decoded."""
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(_TOO_LARGE)
    if image.mode == "LAB":
        raise ValueError("what colours its LAB pixels are is not known: save them as RGB")
    deep = ImageMode.getmode(image.mode).typestr not in ("|u1", "|b1")
    if deep and image.format not in _WHITE_IS_65535:
        raise ValueError(
            f"where white is among its {image.mode} pixels is not known: save them with 8 bits, or "
            "with 16 as PNG"
        )
    if image.has_transparency_data:
        opacity = None if deep else np.asarray(image.convert("RGBA").getchannel("A"))
        if opacity is None or opacity.min() < 255:
            raise ValueError(
                "what is behind its transparent pixels is not known: save it without them"
            )
    mode = "L" if channels == 1 else "RGB"
    if not deep:
        return image.convert(mode)
    pixels = np.asarray(image).astype(np.uint16)  # divided by 257, which maps 65,535 to 255
    return Image.fromarray((pixels // 257 + (pixels % 257 > 128)).astype(np.uint8)).convert(mode)
