"""Make Oscar's thumbnails with Pillow, so that the sandbox needs no further package."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.core.files.storage import default_storage
from oscar.core.thumbnails import AbstractThumbnailer
from PIL import Image, UnidentifiedImageError

FOLDER = "thumbnails"


class Thumbnail(NamedTuple):
    """A thumbnail as Oscar's templates expect it."""

    url: str


class PillowThumbnailer(AbstractThumbnailer):
    """Shrink pictures to fit a size, and store the results among the uploaded media."""

    def generate_thumbnail(self, source, **opts):
        """Return a thumbnail that fits opts["size"] ("440x400", "x155" or "100x").

        If the source cannot be read, return its own address: a broken picture must not break
        the page.
        """
        name = str(getattr(source, "name", source))
        target = f"{FOLDER}/{opts['size']}/{name}"
        if not default_storage.exists(target):
            try:
                self.shrink(Path(settings.MEDIA_ROOT, name), target, opts["size"])
            except (OSError, UnidentifiedImageError):
                target = name
        return Thumbnail(default_storage.url(target))

    def shrink(self, original, target, size):
        """Write a thumbnail to a temporary file, then rename it: two requests may write it."""
        width, height = (int(side) if side else 10_000 for side in size.split("x"))
        path = Path(settings.MEDIA_ROOT, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(original) as picture:
            file_format = picture.format
            if picture.mode == "P":
                picture = picture.convert("RGBA" if file_format != "JPEG" else "RGB")
            picture.thumbnail((width, height), Image.Resampling.LANCZOS)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
                picture.save(temporary, format=file_format)
        os.chmod(temporary.name, 0o644)
        os.replace(temporary.name, path)

    def delete_thumbnails(self, source):
        """Remove all thumbnails of a picture."""
        name = str(getattr(source, "name", source))
        folder = Path(settings.MEDIA_ROOT, FOLDER)
        if name and folder.is_dir():
            for size in folder.iterdir():
                (size / name).unlink(missing_ok=True)
