"""Compares a built wheel with the source tree: the package must be in it, and nothing else."""

import sys
import zipfile
from pathlib import Path

PACKAGE = "oscar_bitsby"
# What an installed package cannot do without, whatever the source tree holds.
KINDS = {
    "modules": f"{PACKAGE}/apps.py",
    "type marker": f"{PACKAGE}/py.typed",
    "migrations": f"{PACKAGE}/migrations/0001",
    "templates": f"{PACKAGE}/templates/{PACKAGE}/",
    **{
        f"{language} texts": f"{PACKAGE}/locale/{language}/LC_MESSAGES/django.mo"
        for language in ("de", "es", "ru")
    },
}


def source_files(root: Path) -> set[str]:
    """Return the package's files below root, without what Python compiled."""
    return {
        path.relative_to(root).as_posix()
        for path in (root / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def complaints(wheel: Path, root: Path) -> list[str]:
    """Return a sentence for each way in which the wheel is not the package."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = source_files(root)
    found = [f"{name} is not in the wheel" for name in sorted(source - shipped)]
    found += [f"{name} is in the wheel only" for name in sorted(shipped - source)]
    found += [
        f"the wheel has no {kind} ({start}...)"
        for kind, start in KINDS.items()
        if not any(name.startswith(start) for name in shipped)
    ]
    if not found:
        print(f"{wheel.name} holds the package's {len(shipped)} files")
    return found


if __name__ == "__main__":
    problems = complaints(Path(sys.argv[1]), Path(__file__).resolve().parent.parent)
    sys.exit("\n".join(problems) or None)
