"""Mail servers that do not do what is hoped of them."""

from smtplib import SMTPServerDisconnected

from django.core.mail.backends.base import BaseEmailBackend


class Refusing(BaseEmailBackend):
    """Takes no mail at all."""

    def send_messages(self, messages):
        raise ConnectionRefusedError("no mail today")


class Slow(BaseEmailBackend):
    """Takes so long that other things happen meanwhile: ``meanwhile()``, once."""

    meanwhile = None

    def send_messages(self, messages):
        meanwhile, Slow.meanwhile = Slow.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return len(messages)


class Dying(BaseEmailBackend):
    """Takes the mail, and the process ends before it hears of that."""

    def send_messages(self, messages):
        raise SystemExit("killed")


class HangingUp(BaseEmailBackend):
    """Breaks the connection off in the middle: nobody knows whether it took the mail."""

    def send_messages(self, messages):
        raise SMTPServerDisconnected("Connection unexpectedly closed")
