"""Mail servers that do not do what is hoped of them."""

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
