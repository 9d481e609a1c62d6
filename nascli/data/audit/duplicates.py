"""Images that are there more than once: equal files by their SHA-256, nearly equal ones by a perceptual hash.

The hash has a bit for each step to the right and downward in 9 x 9 pixels of gray (a difference hash): scaling, another
quality or a change of brightness turns few of its 128 bits. Hashes that differ in 8 bits agree in one of 9 bands: only
images that share a band are compared; what the hash takes for equal is confirmed on 18 x 18 pixels in color.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascli.config import MAX_MEGAPIXELS
from nascli.data.images.decoding import ImageSource, decode_image, open_source
from nascli.errors import CorruptFileError

Place = tuple[int, int]
"""A split and an image in it, by their positions."""

_MAX_DISTANCE = 8
"""Bits by which two hashes of one image may differ."""
_MIN_CORRELATION = 0.985
"""Least correlation of the small images of one image."""
_MIN_CONTRAST = 4.0
"""Least standard deviation, of 255, of an image that can be told from others by its look: a flat one is like any."""
_MIN_STEP = 2
"""Least difference of two neighbors in gray that is a step: noise is none."""
_SMALL = (18, 18)
_PAIRS = 1 << 16
"""Pairs that are compared at a time."""
_COUNTS = np.array([bin(number).count("1") for number in range(1 << 16)], dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """An image, told from others.

    Args:
        size: Width and height, upright.
        digest: SHA-256 of its file.
        look: bool (128,), a step each; None where it is too flat to tell.
        small: uint8 (18, 18, 3).
        notes: Kind and example of each remark on how it was decoded.
    """

    size: tuple[int, int]
    digest: bytes
    look: NDArray[np.bool_] | None
    small: NDArray[np.uint8]
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Duplicates:
    """Images that are one, in order; `files` are equal numbers where their files are equal."""

    places: tuple[Place, ...]
    files: tuple[int, ...]


def take_fingerprint(
    source: ImageSource, annotated_size: tuple[int, int] | None = None, max_megapixels: int = MAX_MEGAPIXELS
) -> Fingerprint:
    """Decode an image and describe it; arguments and errors are those of `decode_image`."""
    notes: list[tuple[str, str]] = []
    image = decode_image(
        source,
        max_megapixels=max_megapixels,
        annotated_size=annotated_size,
        note=lambda *note: notes.append(note),
    )
    file: Any
    with open_source(source) as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    small = image.resize(_SMALL, Image.Resampling.BOX, reducing_gap=2.0)
    pixels = np.asarray(small)
    gray = np.asarray(small.convert("L").resize((9, 9), Image.Resampling.BOX)).astype(np.int16)
    steps = np.stack((np.diff(gray[:8], axis=1), np.diff(gray[:, :8], axis=0)), -1) >= _MIN_STEP
    return Fingerprint(
        image.size, digest, steps.ravel() if pixels.std() >= _MIN_CONTRAST else None, pixels, tuple(notes)
    )


def take_fingerprints(
    sources: Sequence[tuple[ImageSource, tuple[int, int] | None, int]],
    on_image: Callable[[int, int], None] | None = None,
) -> list[Fingerprint | CorruptFileError]:
    """The fingerprints of many images, by several threads; an error for each that cannot be decoded.

    Args:
        sources: The arguments of `take_fingerprint`.
        on_image: Called with the images done and all of them.
    """

    def take(source: tuple[ImageSource, tuple[int, int] | None, int]) -> Fingerprint | CorruptFileError:
        try:
            return take_fingerprint(*source)
        except CorruptFileError as error:
            return error

    found: list[Fingerprint | CorruptFileError] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for each in threads.map(take, sources):
            found.append(each)
            if on_image:
                on_image(len(found), len(sources))
    return found


def find_duplicates(fingerprints: Mapping[Place, Fingerprint]) -> list[Duplicates]:
    """Groups of images that are equal or nearly equal, in the order of their first."""
    places, prints = list(fingerprints), list(fingerprints.values())
    first: dict[bytes, int] = {}
    originals = np.array([first.setdefault(each.digest, place) for place, each in enumerate(prints)], dtype=np.int64)
    roots = originals.copy()
    seen = [place for place in first.values() if prints[place].look is not None]
    if seen:
        roots[seen] = np.array(seen)[_join_alike([prints[place] for place in seen])]
        roots = roots[originals]
    groups: dict[int, list[int]] = {}
    for place, root in enumerate(roots.tolist()):
        groups.setdefault(root, []).append(place)
    return [
        Duplicates(tuple(places[member] for member in group), tuple(originals[group].tolist()))
        for group in groups.values()
        if len(group) > 1
    ]


def _join_alike(prints: Sequence[Fingerprint]) -> NDArray[np.int64]:
    """For each image the first one that it is nearly equal to, perhaps by others in between."""
    looks = np.stack([each.look for each in prints if each.look is not None])
    packed = np.packbits(looks, axis=1).view(np.uint16)
    small = np.stack([each.small.ravel() for each in prints])
    roots = np.arange(len(prints))
    for one, other in _pair_by_bands(looks):
        open_ = roots[one] != roots[other]
        one, other = one[open_], other[open_]
        near = _COUNTS[packed[one] ^ packed[other]].sum(1) <= _MAX_DISTANCE
        one, other = one[near], other[near]
        alike = _correlate(small[one], small[other]) >= _MIN_CORRELATION
        for a, b in zip(one[alike].tolist(), other[alike].tolist(), strict=True):
            if roots[a] != roots[b]:
                low, high = sorted((int(roots[a]), int(roots[b])))
                roots[roots == high] = low
    return roots


def _pair_by_bands(looks: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of positions that agree in a band of bits, some at a time; a band has bits from all over the image."""
    for first in range(_MAX_DISTANCE + 1):
        bits = looks[:, first :: _MAX_DISTANCE + 1]
        band = bits @ (1 << np.arange(bits.shape[1]))
        order = np.argsort(band, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            rows = max(1, _PAIRS // len(bucket))
            for start in range(0, len(bucket) - 1, rows):
                one, other = np.triu_indices(min(rows, len(bucket) - start), 1, len(bucket) - start)
                yield bucket[start + one], bucket[start + other]


def _correlate(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The correlation of each row with the row beside it."""
    a, b = (each - each.mean(1, keepdims=True, dtype=np.float32) for each in (one, other))
    product = np.einsum("ij,ij->i", a, b) / np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(product, dtype=np.float64)
