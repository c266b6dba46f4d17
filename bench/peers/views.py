"""The bare view: one indexed SELECT."""

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt

from oscar_bitsby.models import BitsbyInvoice


@csrf_exempt
def bare(request, invoice_id):
    """Select one row by its unique id, without reading the request's body."""
    rows = BitsbyInvoice.objects.filter(bitsby_id=invoice_id)
    status = rows.values_list("status", flat=True).first()
    return HttpResponse(status or "unknown", content_type="text/plain; charset=utf-8")
