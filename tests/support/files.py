"""Files that cannot be written."""

import errno


class FullDisk:
    """A file on a disk that is full."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name):
        return getattr(self.file, name)
