"""Thumbnails of nothing: Oscar's templates ask for some, and the tests' goods have no pictures."""

from __future__ import annotations

from typing import NamedTuple

from oscar.core.thumbnails import AbstractThumbnailer

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAMLCwgAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="


class Thumbnail(NamedTuple):
    """What Oscar's templates read."""

    url: str = DOT


class DotThumbnailer(AbstractThumbnailer):
    def generate_thumbnail(self, source, **opts):
        return Thumbnail()

    def delete_thumbnails(self, source):
        """There is none to delete."""
