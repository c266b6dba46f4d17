"""Context that the templates of the sandbox need besides Oscar's."""

from django.conf import settings


def simulator(request):
    """Return the address of the simulator, which the footer shows."""
    return {"simulator_url": settings.SIMULATOR_URL}
