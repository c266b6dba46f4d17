"""A thumbnailer that needs no images: the tests' products have none."""

from typing import NamedTuple

from oscar.core.thumbnails import AbstractThumbnailer

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAMLCwgAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="


class Thumbnail(NamedTuple):
    """The attribute that Oscar's templates read."""

    url: str = DOT


class DotThumbnailer(AbstractThumbnailer):
    def generate_thumbnail(self, source, **opts):
        return Thumbnail()

    def delete_thumbnails(self, source):
        """There is nothing to delete."""
