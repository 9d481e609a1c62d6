"""Formats of images: endings, whether they can be decoded here, recognition by content."""

import functools
import os
import re
from pathlib import Path

from nascli.content import describe_content

_ENDINGS = {
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo",
    "PNG": ".png .apng",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "TGA": ".tga .icb .vda .vst",
    "PCX": ".pcx",
    "SGI": ".sgi",
    "QOI": ".qoi",
    "AVIF": ".avif .avifs",
    "HEIF": ".heic .heif .heics .heifs .hif",
}
"""Pillow's name of each format of photos and drawings, with the endings of its files."""

_FEATURES = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}
"""Formats that Pillow knows and may have been built without."""

_NEVER = (
    ".arw .cr2 .cr3 .dng .nef .nrw .orf .raf .raw .rw2 .srw "  # raw data of cameras
    ".ai .dcm .eps .exr .hdr .jxl .psd .svg .xcf"
)

_BACKUPS = ("~", ".bak", ".old", ".orig", ".part", ".tmp", ".crdownload", ".download")
"""Ends of names of copies and of half a file, which are not looked into."""

_TEXTS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".py", ".ipynb"}
"""Endings of files of which a data set may have one per image, which are not looked into either."""

_KINDS = {
    "a JPEG image": "JPEG",
    "a PNG image": "PNG",
    "a GIF image": "GIF",
    "a WebP image": "WEBP",
    "a TIFF image": "TIFF",
    "a JPEG 2000 image": "JPEG2000",
    "an AVIF image": "AVIF",
    "a HEIC image": "HEIF",
    "a HEIF image": "HEIF",
}
"""Formats by the words of `describe_content`."""


@functools.cache
def register_plugins() -> None:
    """Let Pillow read HEIF (iPhone's images) where the package pillow-heif is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    pillow_heif.register_heif_opener()


@functools.cache
def decodable_formats() -> tuple[str, ...]:
    """Pillow's formats but for EPS: its files are programs, which another program would run."""
    from PIL import Image

    register_plugins()
    Image.init()
    usual = ("JPEG", "PNG")  # tried first
    return *usual, *(name for name in Image.ID if name not in (*usual, "EPS"))


@functools.cache
def image_endings() -> frozenset[str]:
    """Endings, in small letters with their dot, of the image files that can be decoded here."""
    from PIL import Image, features

    register_plugins()
    Image.init()
    missing = {name for name, feature in _FEATURES.items() if not features.check(feature)}
    usable = {name for name in _ENDINGS if name in Image.OPEN} - missing
    return frozenset(ending for name in usable for ending in _ENDINGS[name].split())


@functools.cache
def foreign_endings() -> frozenset[str]:
    """Endings of image files that cannot be decoded here."""
    known = " ".join([_NEVER, *_ENDINGS.values()]).split()
    return frozenset(known) - image_endings()


def lacks_ending(name: str) -> bool:
    """Whether a file's name has no ending of its own: `IMG_1`, `frame.0001`, `a.jpg_large`, `a.png.1`."""
    ending = os.path.splitext(name)[1].lower()
    usual = re.match(r"\.[a-z0-9]*", ending)
    return (
        not ending or ending[1:].isdigit() or (usual is not None and usual[0] != ending and usual[0] in image_endings())
    )


def is_image_by_content(path: Path) -> bool:
    """Whether a file whose ending says nothing begins as an image that can be decoded here."""
    if path.name.lower().endswith(_BACKUPS) or path.suffix.lower() in _TEXTS:
        return False
    try:
        form = _KINDS.get(describe_content(path))
    except OSError:
        return False
    return form is not None and _ENDINGS[form].split()[0] in image_endings()
