"""Alerts to the merchant in tests: settings, and what was sent."""

from oscar_bitsby.mails import alert_sender
from oscar_bitsby.models import GatewayState

URL = "https://hooks.example.com/services/t0ken-in-the-path"
SECRET = "YWxlcnRzLW9mLXRoZS10ZXN0LXNob3AtMDEyMzQ1Njc="
MAIL = ["owner@example.com", "oncall@example.com"]
BY_MAIL = {"MAIL": MAIL}
BY_POST = {"URL": URL, "SECRET": SECRET}


def send():
    """Send the waiting alerts, as the last step of a run does."""
    GatewayState.ensure_exists()
    alert_sender.send_pending_safely(lambda: None)
