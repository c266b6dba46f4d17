"""Says in a header of each answer how many queries it took, and how many requests to Bitsby."""

import contextlib

from django.db import connection


class CountQueries:
    """The outermost middleware, so that sessions and logins are counted too."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        counter = Counter()
        with connection.execute_wrapper(counter), count_requests() as requests:
            response = self.get_response(request)
            if hasattr(response, "render") and not response.is_rendered:
                response.render()
        response["X-Bench-Queries"] = str(counter.queries)
        response["X-Bench-Requests"] = str(len(requests))
        return response


class Counter:
    """Counts what Django sends to the database; BEGIN and COMMIT go another way."""

    def __init__(self):
        self.queries = 0
        self.texts = []

    def __call__(self, execute, sql, params, many, context):
        self.queries += 1
        self.texts.append(sql)
        return execute(sql, params, many, context)


@contextlib.contextmanager
def count_requests():
    """Note the paths of the requests to Bitsby that are sent in the block."""
    try:
        from oscar_bitsby.gateway.transport import Transport
    except ImportError:
        yield []
        return
    sent, post = [], Transport.post

    def noted(self, path, fields):
        sent.append(path)
        return post(self, path, fields)

    Transport.post = noted
    try:
        yield sent
    finally:
        Transport.post = post
