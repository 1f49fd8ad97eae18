"""What the Python client tests share: claims with a time limit, publishing, payloads that are hard to carry."""

import asyncio
import json
import random
import sys
import time
import traceback
import urllib.parse
import urllib.request

BASE = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080").rstrip("/")
CLAIM_SECONDS = 30

# The last has 1 MiB, the most that an event may have.
HARD_TEXTS = [
    "plain",
    "",
    "two\nlines\r\nand\ra third",
    "</script><!--",
    "grüße 你好 🎺 \u2028\u2029",
    "ä" * (1 << 19),
]
HARD_BYTES = [bytes([0, 255, 10, 13, 0xC3]), b"", bytes(range(256)) * 400]


def fresh_topic(name):
    """A topic that no earlier run has used."""
    return f"test/{name}-{time.time_ns():x}-{random.randrange(1 << 20):x}"


def url(scheme="http", **parameters):
    """The resource with these parameters."""
    return f"{scheme}{BASE.removeprefix('http')}/events?{urllib.parse.urlencode(parameters)}"


async def publish(topic, body, content_type="text/plain"):
    """Publishes one event; gives its id."""
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(url(topic=topic), data, {"Content-Type": content_type}, method="POST")

    def post():
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)["id"]

    return await asyncio.to_thread(post)


async def place_of(topic):
    """The place from which a subscriber of `topic` would begin now."""

    def get():
        with urllib.request.urlopen(url(topic=topic), timeout=10) as response:
            return json.load(response)["cursor"]

    return await asyncio.to_thread(get)


def prove(*claims):
    """Runs each claim, an async function whose docstring says it; ends the process with what came of them."""

    async def run():
        failures = 0
        for claim in claims:
            try:
                await asyncio.wait_for(claim(), CLAIM_SECONDS)
                print(f"ok     {claim.__doc__}", flush=True)
            except Exception:
                failures += 1
                print(f"FAILED {claim.__doc__}", file=sys.stderr)
                traceback.print_exc()
        return failures

    sys.exit(1 if asyncio.run(run()) else 0)
