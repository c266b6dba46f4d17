"""The app's URLs, which the shop includes under a prefix such as ``bitsby/``."""

from django.urls import path

from oscar_bitsby import webhook
from oscar_bitsby.buyer import refund_address, reorder, views
from oscar_bitsby.staff.dashboard import (
    actions,
    bind,
    dismissal,
    export,
    inbox,
    invoices,
    overview,
    refunds,
)

app_name = "oscar_bitsby"

urlpatterns = [
    path("webhook/", webhook.webhook, name="webhook"),
    path("webhook/<str:token>/", webhook.webhook, name="webhook"),
    path("orders/<str:token>/", views.OrderView.as_view(), name="order"),
    path("orders/<str:token>/pay/", views.PayView.as_view(), name="pay"),
    path("orders/<str:token>/state/", views.StateView.as_view(), name="state"),
    path("orders/<str:token>/again/", reorder.ReorderView.as_view(), name="again"),
    path("refunds/<str:token>/", refund_address.RefundAddressView.as_view(), name="refund"),
    path("dashboard/", inbox.PaymentReviewView.as_view(), name="dashboard-inbox"),
    path("dashboard/export/", export.ExportView.as_view(), name="dashboard-export"),
    path("dashboard/invoices/", invoices.InvoiceListView.as_view(), name="dashboard-invoices"),
    path(
        "dashboard/invoices/download/",
        invoices.InvoiceDownloadView.as_view(),
        name="dashboard-invoices-download",
    ),
    path(
        "dashboard/invoices/<int:pk>/refresh/",
        actions.InvoiceActionView.as_view(),
        {"action": "refresh"},
        name="dashboard-invoice-refresh",
    ),
    path(
        "dashboard/invoices/<int:pk>/cancel/",
        actions.InvoiceActionView.as_view(),
        {"action": "cancel"},
        name="dashboard-invoice-cancel",
    ),
    path("dashboard/orders/<int:order_pk>/bind/", bind.BindView.as_view(), name="dashboard-bind"),
    path(
        "dashboard/payments/dismiss/",
        dismissal.DismissView.as_view(),
        name="dashboard-dismiss",
    ),
    path(
        "dashboard/payments/<int:pk>/refund/",
        refunds.RefundPaymentView.as_view(),
        name="dashboard-refund-payment",
    ),
    path(
        "dashboard/payments/<int:pk>/<slug:action>/",
        actions.PaymentActionView.as_view(),
        name="dashboard-payment",
    ),
    path(
        "dashboard/orders/<int:order_pk>/refund/",
        refunds.RefundOrderView.as_view(),
        name="dashboard-refund-order",
    ),
    path("dashboard/overview/", overview.OverviewView.as_view(), name="dashboard-overview"),
    path("dashboard/refunds/", refunds.RefundListView.as_view(), name="dashboard-refunds"),
    path("dashboard/refunds/<int:pk>/", refunds.RefundView.as_view(), name="dashboard-refund"),
]
