"""The page where a buyer gives the address for a refund."""

from django.http import Http404, HttpRequest, HttpResponse
from django.views.generic import View


class RefundAddressView(View):
    """Holds the place of the page, so that its URL has a name."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        raise Http404
