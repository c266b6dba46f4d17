"""The addresses of the pages, of the control for tests, and of the API."""

from django.urls import path, re_path

from . import views

urlpatterns = [
    path("", views.overview),
    path("webhooks", views.switch_webhooks),
    path("invoices/pay/<path:uid>", views.payment_page),
    path("_control/<path:command>", views.control),
    # The API refuses and logs unknown addresses, too.
    re_path("", views.call_api),
]
