"""E-mail backends that fail or are slow."""

from smtplib import SMTPServerDisconnected

from django.core.mail.backends.base import BaseEmailBackend


class Refusing(BaseEmailBackend):
    """Refuses every connection."""

    def send_messages(self, messages):
        raise ConnectionRefusedError("no mail today")


class Slow(BaseEmailBackend):
    """Calls ``meanwhile`` once before it accepts the first e-mail."""

    meanwhile = None

    def send_messages(self, messages):
        meanwhile, Slow.meanwhile = Slow.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return len(messages)


class Dying(BaseEmailBackend):
    """Accepts the e-mail, and the process dies before it gets the response."""

    def send_messages(self, messages):
        raise SystemExit("killed")


class HangingUp(BaseEmailBackend):
    """Closes the connection while sending, so that the result is unknown."""

    def send_messages(self, messages):
        raise SMTPServerDisconnected("Connection unexpectedly closed")
