"""Runs functions at the same time, in threads with database connections of their own."""

import threading

from django.db import connections


def run_together(*jobs):
    """Run the jobs in threads that start together; return what each returned or raised."""
    barrier = threading.Barrier(len(jobs))
    results = [None] * len(jobs)

    def run(number, job):
        try:
            connections["default"].ensure_connection()
            barrier.wait(20)
            results[number] = job()
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread did not finish: a deadlock?"
    return results


def failures(results, *allowed):
    """Return the exceptions among the results that are not of an allowed kind."""
    return [r for r in results if isinstance(r, Exception) and not isinstance(r, allowed)]
