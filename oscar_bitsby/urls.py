"""Where the app's pages are, below the address that the shop mounts them at."""

from __future__ import annotations

from django.urls import path

from oscar_bitsby import views, webhook

app_name = "oscar_bitsby"

urlpatterns = [
    path("webhook/", webhook.webhook, name="webhook"),
    path("webhook/<str:token>/", webhook.webhook, name="webhook"),
    path("orders/<str:token>/", views.OrderView.as_view(), name="order"),
    path("orders/<str:token>/pay/", views.PayView.as_view(), name="pay"),
    path("orders/<str:token>/state/", views.StateView.as_view(), name="state"),
]
