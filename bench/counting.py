"""Count the queries and the requests to Bitsby of each request, and report them in headers."""

import contextlib

from django.db import connection


class CountQueries:
    """Must be the outermost middleware, so that sessions and logins are counted too."""

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
    """Counts the statements that Django sends to the database, except BEGIN and COMMIT."""

    def __init__(self):
        self.queries = 0
        self.texts = []

    def __call__(self, execute, sql, params, many, context):
        self.queries += 1
        self.texts.append(sql)
        return execute(sql, params, many, context)


@contextlib.contextmanager
def count_requests():
    """Yield a list, to which the paths of requests to Bitsby in the block are appended."""
    try:
        from oscar_bitsby.gateway.transport import Transport
    except ImportError:
        yield []
        return
    sent, post = [], Transport.post

    def counted(self, path, fields):
        sent.append(path)
        return post(self, path, fields)

    Transport.post = counted
    try:
        yield sent
    finally:
        Transport.post = post
