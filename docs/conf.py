"""Sphinx's settings for the documentation: ``python -m sphinx -W -b html docs build/docs``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# The API reference imports models, which need a configured shop.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django  # noqa: E402

django.setup()

from django.db.models import Model  # noqa: E402

import oscar_bitsby  # noqa: E402

project = "django-oscar-bitsby"
project_copyright = "the authors of django-oscar-bitsby"
release = version = oscar_bitsby.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]

autodoc_default_options = {"member-order": "bysource"}
autodoc_typehints = "description"
# Inherited docstrings of fields and exceptions describe Django and Python, not the app.
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False


def list_fields(app, what, name, obj, options, lines):
    """Append a model's fields, which have no docstrings of their own, to its description."""
    if not (what == "class" and isinstance(obj, type) and issubclass(obj, Model)):
        return
    lines += ["", "Fields:", ""]
    for field in obj._meta.fields:
        lines.append(f"* ``{field.name}``: {field.verbose_name}")
    lines.append("")


def setup(app):
    app.connect("autodoc-process-docstring", list_fields)
