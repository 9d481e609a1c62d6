"""Formats of images: endings, whether they can be decoded here, recognition by content."""

import functools
from pathlib import Path

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

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@functools.cache
def register_plugins() -> None:
    """Let Pillow read HEIF (iPhone's images) where the package pillow-heif is installed."""
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    pillow_heif.register_heif_opener()


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


def is_image_by_content(path: Path) -> bool:
    """Whether a file whose ending says nothing begins as an image that can be decoded here."""
    name = path.name.lower()
    if name.endswith(_BACKUPS) or path.suffix.lower() in _TEXTS:
        return False
    try:
        with path.open("rb") as file:
            found = _recognize_start(file.read(32))
    except OSError:
        return False
    return found is not None and _ENDINGS[found].split()[0] in image_endings()


def _recognize_start(start: bytes) -> str | None:
    """The format of a file with these first bytes."""
    magic = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"qoif": "QOI"}
    magic |= {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\0\0\0\x0cjP  \r\n": "JPEG2000", b"\xff\x4f\xff\x51": "JPEG2000"}
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        return "BMP"
    if start[4:8] == b"ftyp":
        return "AVIF" if start[8:12] in (b"avif", b"avis") else "HEIF" if start[8:12] in _HEIF_BRANDS else None
    return next((name for first, name in magic.items() if start.startswith(first)), None)
