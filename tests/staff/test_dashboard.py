"""The entry in the dashboard's navigation, and what all pages have in common."""

import pytest
from django.urls import reverse
from django.utils import timezone
from oscar.core.loading import get_model

from oscar_bitsby.models import WebhookDelivery
from oscar_bitsby.staff.dashboard.hook import OrderPageMixin, extend_dashboard
from tests.support.staff import (
    EVIL,
    HOSTILE,
    INBOX,
    INVOICES,
    Page,
    act_url,
    assert_escaped,
    bind_url,
    create_payments,
    order_url,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


def test_navigation_shows_the_number_of_payments_to_review(staff):
    """Zero shows no number, more than 99 shows "99+"."""
    index = reverse("dashboard:index")

    text = Page(staff.get(index)).text
    assert "Bitsby" in text
    assert "Bitsby (" not in text
    assert {reverse(INBOX), reverse(INVOICES)} <= set(Page(staff.get(index)).links)
    create_payments(7)
    create_payments(2, resolved_at=timezone.now())
    create_payments(2, review_reason="")
    assert "Bitsby (7)" in Page(staff.get(index)).text
    create_payments(92)
    assert "Bitsby (99)" in Page(staff.get(index)).text
    create_payments(5)
    assert "Bitsby (99+)" in Page(staff.get(index)).text


def test_extending_the_dashboard_is_idempotent(settings, staff):
    """The hooks may run twice: one entry, one mixin."""
    from django.apps import apps

    config = apps.get_app_config("orders_dashboard")
    view, entries = config.order_detail_view, len(settings.OSCAR_DASHBOARD_NAVIGATION)

    extend_dashboard()

    assert config.order_detail_view is view
    assert [parent for parent in view.__mro__ if parent is OrderPageMixin] == [OrderPageMixin]
    assert len(settings.OSCAR_DASHBOARD_NAVIGATION) == entries


def test_dashboard_opens_when_the_number_cannot_be_counted(staff, monkeypatch):
    """The dashboard opens without the number when the payments cannot be counted."""

    def fail(self):
        raise OSError("disk full")

    create_payments(1)
    monkeypatch.setattr("oscar_bitsby.models.PaymentQuerySet.needs_review", fail)

    response = staff.get(reverse("dashboard:index"))

    assert response.status_code == 200
    assert "Bitsby" in Page(response).text
    assert "Bitsby (" not in Page(response).text


def test_shop_without_oscars_order_pages_starts(monkeypatch, settings):
    """Where the dashboard's orders app is not installed, there is nothing to extend."""

    def missing(label):
        raise LookupError(label)

    monkeypatch.setattr("oscar_bitsby.utils.patching.apps.get_app_config", missing)
    settings.OSCAR_DASHBOARD_NAVIGATION = []

    extend_dashboard()

    assert settings.OSCAR_DASHBOARD_NAVIGATION


def test_navigation_is_unchanged_without_settings(staff, settings):
    """A shop that has not set ``OSCAR_BITSBY`` has no entry for it in the dashboard."""
    shown = staff.get(reverse("dashboard:index")).content
    del settings.OSCAR_BITSBY

    hidden = staff.get(reverse("dashboard:index")).content

    assert reverse(INBOX).encode() in shown
    assert reverse(INBOX).encode() not in hidden


def test_markup_from_outside_is_escaped_on_every_page(place, invoice_for, staff):
    """Hashes, addresses, names, ids, errors and reasons do not become markup anywhere."""
    invoice = invoice_for(place(), "expired", uid=EVIL, failure=EVIL)
    WebhookDelivery.objects.create(invoice=invoice, body=EVIL, answered=400, outcome=EVIL)
    (bound,) = create_payments(
        1, invoice=invoice, fiat_value=8, currency="USD", review_reason="short", **HOSTILE
    )
    create_payments(1, **HOSTILE)
    create_payments(1, resolved_at=timezone.now(), resolution="dismissed", **HOSTILE)
    for url in (
        reverse(INBOX),
        reverse(INBOX) + "?show=done",
        reverse(INVOICES),
        order_url(invoice.order_number),
        act_url(bound, "accept"),
        act_url(bound, "dismiss"),
        bind_url("dashboard", invoice.order),
    ):
        response = staff.get(url)
        assert response.status_code == 200, url
        assert_escaped(response)
