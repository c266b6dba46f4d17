"""The URLs of the pages, of the commands of tests, and of the API."""

from django.urls import path, re_path

from . import views

urlpatterns = [
    path("", views.overview),
    path("webhooks", views.switch_webhooks),
    path("invoices/pay/<path:uid>", views.payment_page),
    path("_control/<path:command>", views.control),
    # Unknown ones are API requests, too: they are logged and refused.
    re_path("", views.call_api),
]
