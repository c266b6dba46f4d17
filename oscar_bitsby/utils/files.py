"""Files that appear complete or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic_file(name: str) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces one of this name after the block, unless the block fails.

    Raises:
        OSError: it cannot be written, or the name is that of a directory or device.
    """
    # The target of a link is replaced, not the link.
    path = Path(os.path.realpath(name))
    if path.exists() and not path.is_file():
        raise OSError(f"{name} is not a regular file")
    # A file in the same directory is on the same file system: renaming it is atomic.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
