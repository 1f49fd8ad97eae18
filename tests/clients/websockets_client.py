"""The WebSocket client `websockets` (Python): every payload, compression, pieces, pings, closing.

    python tests/clients/websockets_client.py BASE_URL
"""

import json

from common import HARD_BYTES, HARD_TEXTS, fresh_topic, place_of, prove, publish, url
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


async def payloads_come(**options):
    topic = fresh_topic("websockets")
    async with connect(url("ws", topic=topic), max_size=None, **options) as socket:
        for text in HARD_TEXTS:
            await publish(topic, text)
            assert await socket.recv() == text, text[:50]
        for data in HARD_BYTES:
            await publish(topic, data, "application/octet-stream")
            assert await socket.recv() == data, data[:50]


async def plain():
    """every payload comes as it is"""
    await payloads_come(compression=None)


async def compressed():
    """every payload comes as it is with permessage-deflate, for each window"""
    await payloads_come(compression="deflate")
    for bits in range(9, 16):
        factory = ClientPerMessageDeflateFactory(server_max_window_bits=bits, client_max_window_bits=bits)
        await payloads_come(compression=None, extensions=[factory])


async def pieces():
    """a message in pieces is put together, also in the middle of a character"""
    topic = fresh_topic("websockets-pieces")
    async with connect(url("ws", topic=topic), subprotocols=["stentor.v1"]) as socket:
        assert socket.subprotocol == "stentor.v1"
        assert list(json.loads(await socket.recv())) == ["cursor"]
        text = json.dumps({"ping": "grüße 🎺" * 200}, ensure_ascii=False)
        await socket.send(text[i : i + 7] for i in range(0, len(text), 7))
        assert json.loads(await socket.recv()) == {"pong": "grüße 🎺" * 200}


async def pings():
    """pings are answered, also many at once"""
    async with connect(url("ws", topic=fresh_topic("websockets-pings"))) as socket:
        for waiter in [await socket.ping(f"{i}") for i in range(50)]:
            await waiter


async def closing():
    """a close is answered with its code"""
    socket = await connect(url("ws", topic=fresh_topic("websockets-close")))
    await socket.close(3456, "enough")
    assert socket.close_code == 3456, socket.close_code


async def refused():
    """a refusal is told by the close code"""
    socket = await connect(url("ws", topic="a//b"))
    try:
        await socket.recv()
        raise AssertionError("a malformed topic was taken")
    except ConnectionClosed as closed:
        assert closed.rcvd is not None and closed.rcvd.code == 4400, closed


async def resumed():
    """with a cursor it goes on where it was"""
    topic = fresh_topic("websockets-resume")
    cursor = await place_of(topic)
    published, heard = [], []
    for round_ in range(5):
        published += [await publish(topic, f"{round_}.{i}") for i in range(10)]
        address = url("ws", topic=topic, cursor=cursor)
        async with connect(address, subprotocols=["stentor.v1"]) as socket:
            # All but the last three, which are for the next round; in the last round all of them.
            wanted = len(published) - (0 if round_ == 4 else 3)
            while len(heard) < wanted:
                event = json.loads(await socket.recv())
                if "id" in event:
                    heard.append(event["id"])
                    cursor = event["id"]
    assert heard == published, (heard, published)


prove(plain, compressed, pieces, pings, closing, refused, resumed)
