"""Drawn images as files."""

import io
from pathlib import Path

from PIL import Image

from nascli.files import write_bytes


def save_image(image: Image.Image, path: Path, **options: int) -> None:
    """Write an image whole or not at all, in the format that the file's name ends in.

    Args:
        options: Pillow's, such as `quality`.

    Raises:
        CannotWriteError: See `nascli.files.open_whole`.
    """
    encoded = io.BytesIO()  # Pillow writes to a file by itself, and its errors there have no reason
    image.save(encoded, Image.registered_extensions()[path.suffix.lower()], **options)
    write_bytes(path, encoded.getvalue())
