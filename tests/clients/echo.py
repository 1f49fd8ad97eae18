"""What `websockets` sends to the example `echo` comes back, with every way to offer permessage-deflate.

    python tests/clients/echo.py ws://127.0.0.1:9001/
"""

import asyncio
import os
import sys
import traceback

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate

URL = sys.argv[1]
STEP_SECONDS = 30
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1_000_000]
OFFERS = {
    "no compression": None,
    "takeover both ways": Deflate(client_max_window_bits=True),
    "no takeover": Deflate(server_no_context_takeover=True, client_no_context_takeover=True),
    "takeover of the server alone": Deflate(client_no_context_takeover=True),
    "small windows": Deflate(server_max_window_bits=9, client_max_window_bits=9),
}


def opened(offer):
    extensions = None if offer is None else [offer]
    return connect(URL, compression=None, extensions=extensions, max_size=None, ping_interval=None)


async def every_size_comes_back(offer):
    async with opened(offer) as socket:
        agreed = socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in agreed) == (offer is not None), agreed
        for size in SIZES:
            for sent in (os.urandom(size), "añ€😀" * (size // 10)):
                await socket.send(sent)
                assert await socket.recv() == sent, f"{size} bytes did not come back"


async def fragments_come_back_as_one_message(offer):
    async with opened(offer) as socket:
        for fragments in (["añ", "", "€", "😀"], [b"\x00", b"\xff" * 70_000, b""]):
            await socket.send(fragments)
            assert await socket.recv() == fragments[0][:0].join(fragments)


async def pings_are_answered_between_messages(offer):
    async with opened(offer) as socket:
        for payload in (b"", b"a", os.urandom(125)):
            pong = await socket.ping(payload)
            await pong
            await socket.send(payload)
            assert await socket.recv() == payload


async def a_context_lasts_over_many_messages(offer):
    async with opened(offer) as socket:
        texts = [f"message {index} " * (index % 50) for index in range(2_000)]

        async def send():
            for text in texts:
                await socket.send(text)

        sending = asyncio.create_task(send())
        for text in texts:
            assert await socket.recv() == text
        await sending


async def the_largest_message_and_one_byte_more(offer):
    # No `async with`: leaving it closes again, and `websockets` 17.4 trips over a transport that is gone by then.
    socket = await opened(offer)
    sent = os.urandom(1024) * (MESSAGE_BYTES_MAX // 1024)
    await socket.send(sent)
    assert await socket.recv() == sent
    try:
        await socket.send(sent + b"!")
        await socket.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None and closed.rcvd.code == 1009, closed
    else:
        raise AssertionError("a message over the limit came back")


async def closes_are_answered_with_their_code():
    for code in (1000, 1001, 3000, 4999):
        socket = await opened(None)
        await socket.close(code, "reason")
        assert socket.close_code == code, socket.close_code


async def main():
    tests = [("closes are answered with their code", closes_are_answered_with_their_code)]
    for name, offer in OFFERS.items():
        for claim in (
            every_size_comes_back,
            fragments_come_back_as_one_message,
            pings_are_answered_between_messages,
            a_context_lasts_over_many_messages,
            the_largest_message_and_one_byte_more,
        ):
            words = claim.__name__.replace("_", " ")
            tests.append((f"{words}: {name}", lambda claim=claim, offer=offer: claim(offer)))
    failures = 0
    for name, work in tests:
        try:
            await asyncio.wait_for(work(), STEP_SECONDS)
            print(f"ok     {name}", flush=True)
        except Exception:
            failures += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    return failures


sys.exit(1 if asyncio.run(main()) else 0)
