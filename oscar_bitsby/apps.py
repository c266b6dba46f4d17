"""The app's configuration, which registers the checks and extends the shop at startup."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class BitsbyConfig(AppConfig):
    """Add ``"oscar_bitsby"`` to ``INSTALLED_APPS``, after Oscar's own apps."""

    name = "oscar_bitsby"
    label = "oscar_bitsby"
    verbose_name = _("Bitsby payments")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # These modules need the models, which are not loaded earlier.
        from oscar_bitsby.buyer.order_notice import extend_buyer_pages
        from oscar_bitsby.checkout import patching
        from oscar_bitsby.mails import event_types
        from oscar_bitsby.ops import checks
        from oscar_bitsby.staff.dashboard.hook import extend_dashboard

        checks.register_checks()
        patching.extend_checkout()
        extend_dashboard()
        extend_buyer_pages()
        post_migrate.connect(event_types.ensure_all_exist, sender=self)
        if apps.is_installed("django.contrib.admin"):
            from oscar_bitsby.staff.order_admin import extend_order_admin

            extend_order_admin()
