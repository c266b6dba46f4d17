"""Proves that an installed wheel works in the shop of DJANGO_SETTINGS_MODULE; .ci/run calls it.

The shop has been migrated and its static files collected. Any failure ends with a traceback.
"""

import os
import sys
from importlib.resources import files
from pathlib import Path

import django

HERE = Path(__file__).resolve().parent


def files_in(folder):
    """Return the names of all files in a folder of the installed package."""
    root = Path(str(files("oscar_bitsby"))) / folder
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def prove_installed_from_wheel():
    """The package comes from site-packages and brings what modules do not show."""
    import oscar_bitsby

    package = Path(oscar_bitsby.__file__).parent
    assert "site-packages" in package.parts, package
    assert (package / "py.typed").is_file()
    assert list(package.glob("migrations/0001_*.py"))


def prove_checks(configured):
    """A configured shop gets no complaint, an unconfigured one warnings, each with a remedy."""
    from django.core.checks import WARNING, run_checks

    ours, others = [], []
    for message in run_checks():
        (ours if message.id and message.id.startswith("oscar_bitsby.") else others).append(message)
    serious = [message for message in others if message.level >= WARNING]
    assert not serious, serious
    if configured:
        assert not ours, ours
    else:
        assert ours
        assert all(message.level == WARNING and message.hint for message in ours), ours


def prove_database():
    """The tables that the migrations made fit the models."""
    from django.apps import apps
    from django.core.management import call_command

    call_command("makemigrations", "oscar_bitsby", check=True, dry_run=True, verbosity=0)
    for model in apps.get_app_config("oscar_bitsby").get_models():
        assert not model._default_manager.exists()


def prove_templates():
    """Every template in the wheel compiles, with the template tags and parents that it names."""
    from django.template.loader import get_template

    names = files_in("templates")
    assert names
    for name in names:
        get_template(name)
    return len(names)


def prove_static_files():
    """All that the wheel ships as static files was collected."""
    from django.conf import settings

    names = files_in("static")
    for name in names:
        assert (settings.STATIC_ROOT / name).is_file(), name
    return len(names)


def prove_translations():
    """Each catalogue of translations in the wheel is there in the form that Django reads."""
    sources = list((Path(str(files("oscar_bitsby"))) / "locale").glob("*/LC_MESSAGES/django.po"))
    for source in sources:
        assert source.with_suffix(".mo").is_file(), source
    return len(sources)


def prove_pages():
    """The shop's pages open, and ours refuse a link that nobody signed and an empty delivery."""
    from django.test import Client
    from django.urls import reverse

    client = Client()
    for name in ("catalogue:index", "basket:summary"):
        assert client.get(reverse(name)).status_code == 200, name
    for name in ("order", "pay", "state"):
        response = client.get(reverse(f"oscar_bitsby:{name}", args=["not-a-token"]))
        assert response.status_code == 404, (name, response)
    response = client.post(reverse("oscar_bitsby:webhook"), b"", content_type="application/json")
    assert response.status_code in {400, 404, 503}, response


def prove_staff_pages():
    """The admin's order page and our dashboard pages open for a member of staff."""
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.urls import reverse

    superuser = get_user_model().objects.create_superuser("admin", "admin@example.com", "secret")
    client = Client()
    client.force_login(superuser)
    for name in (
        "admin:order_order_add",
        "oscar_bitsby:dashboard-inbox",
        "oscar_bitsby:dashboard-invoices",
        "oscar_bitsby:dashboard-overview",
        "oscar_bitsby:dashboard-export",
    ):
        assert client.get(reverse(name)).status_code == 200, name
    superuser.delete()


def main():
    """Run all proofs in the order in which a shop meets them."""
    sys.path.insert(0, str(HERE))
    django.setup()
    from django.conf import settings

    configured = hasattr(settings, "OSCAR_BITSBY")
    prove_installed_from_wheel()
    prove_checks(configured)
    prove_database()
    templates, static, translations = prove_templates(), prove_static_files(), prove_translations()
    prove_pages()
    prove_staff_pages()
    print(
        f"{os.environ['DJANGO_SETTINGS_MODULE']}: an empty shop works with "
        f"{templates} templates, {static} static files and {translations} translations"
    )


if __name__ == "__main__":
    main()
