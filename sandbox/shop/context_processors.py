"""What the sandbox's templates know beside Oscar's own."""

from django.conf import settings


def simulator(request):
    """Name the simulator's address for the footer."""
    return {"simulator_url": settings.SIMULATOR_URL}
