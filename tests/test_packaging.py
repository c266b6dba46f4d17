"""The published files: changelog, metadata, and nothing that only one machine has."""

import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import oscar_bitsby

ROOT = Path(__file__).resolve().parent.parent

# Folders of one machine, and hosts of package registries, which are of no use elsewhere.
FORBIDDEN = re.compile(
    rb"(?<![\w./~$}-])/(?:root|work|opt|mnt|home/\w+|Users/\w+)/"
    rb"|\bpypi\.(?:org|python\.org)|pythonhosted\.|\bdeb\.debian\.|registry\.npmjs\."
)


def published_files() -> list[Path]:
    """Return the files that git tracks or would track."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_the_changelog_has_a_section_for_the_version():
    """The changelog describes the current version."""
    changelog = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    version = re.escape(oscar_bitsby.__version__)
    ((title, underline),) = re.findall(rf"^({version} \(.+\))\n(-+)$", changelog, re.MULTILINE)
    assert len(title) == len(underline)


#: What refunds need: checksums of addresses (Bitcoin, Tron; Ethereum), and QR codes.
NEEDED_BY_REFUNDS = {"embit", "pycryptodomex", "segno"}
#: CSV files without formulas.
NEEDED_BY_EXPORTS = {"defusedcsv"}


def test_little_more_than_django_oscar_and_requests_is_required():
    """Without extras the package needs these three, and four libraries for refunds and exports."""
    try:
        named = [Requirement(line) for line in requires("django-oscar-bitsby") or []]
    except PackageNotFoundError:
        pytest.skip("the package is not installed")
    everywhere = {requirement.name for requirement in named if requirement.marker is None}
    optional = [requirement for requirement in named if requirement.marker is not None]
    ours = NEEDED_BY_REFUNDS | NEEDED_BY_EXPORTS
    assert everywhere == {"Django", "django-oscar", "requests"} | ours
    assert all("extra ==" in str(requirement.marker) for requirement in optional)


def test_no_file_names_a_folder_or_registry_of_one_machine():
    """No file refers to a folder or a registry that only some machines can reach."""
    found = {
        str(path.relative_to(ROOT)): match.group().decode()
        for path in published_files()
        if (match := FORBIDDEN.search(path.read_bytes()))
    }
    assert found == {}


def test_make_help_lists_every_target():
    """``make help`` lists every target with a description."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE).group(1).split())
    printed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    listed = set(re.findall(r"^  ([a-z-]+) +\w", printed, flags=re.MULTILINE))
    assert listed == targets == phony
    assert "help" in listed
