"""Floods a shop with forged deliveries about real invoices, from a process of its own.

Arguments: the webhook's URL, ids separated by commas, seconds, requests a second.
"""

import json
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from urllib.parse import urlsplit

THREADS = 6


def flood(url, ids, seconds, rate):
    """Send at the rate, or as fast as the shop answers; return the count of each status."""
    parts, answers, lock = urlsplit(url), Counter(), threading.Lock()
    start, turn = time.monotonic(), iter(range(int(seconds * rate)))

    def work():
        while True:
            with lock:
                number = next(turn, None)
            if number is None or time.monotonic() - start > seconds:
                return
            time.sleep(max(0, start + number / rate - time.monotonic()))
            body = json.dumps({"invoice": {"id": ids[number % len(ids)], "status": "paid"}})
            connection = HTTPConnection(parts.netloc, timeout=30)
            try:
                connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
                status = connection.getresponse().status
            except OSError as error:
                status = type(error).__name__
            finally:
                connection.close()
            with lock:
                answers[status] += 1

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    found = flood(sys.argv[1], sys.argv[2].split(","), float(sys.argv[3]), float(sys.argv[4]))
    print(json.dumps({str(status): number for status, number in found.items()}))
