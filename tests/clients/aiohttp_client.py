"""The HTTP client `aiohttp` (Python): each transport, one after the other, with one cursor.

    python tests/clients/aiohttp_client.py BASE_URL
"""

import json

import aiohttp
from common import HARD_BYTES, HARD_TEXTS, fresh_topic, place_of, prove, publish, url

TIMEOUT = aiohttp.ClientTimeout(total=25)


async def hear(session, transport, topic, cursor, count):
    """Hears `count` events of `topic` after `cursor` over one transport: each as its envelope."""
    address = url(topic=topic, cursor=cursor, transport=transport, format="json")
    if transport == "websocket":
        async with session.ws_connect(address, protocols=["stentor.v1"], max_msg_size=0) as socket:
            return await take(count, [json.loads(m.data) async for m in until(socket, count)])
    async with session.get(address) as response:
        assert response.status == 200, await response.text()
        if transport in ("poll", "long-poll"):
            return await take(count, (await response.json())["events"])
        items = lines(response.content, transport)
        events = []
        async for item in items:
            if "id" in item:
                events.append(item)
            if len(events) == count:
                return events
    raise AssertionError(f"{transport} ended after {len(events)} of {count}")


async def until(socket, count):
    """The messages of a WebSocket up to its `count`th event."""
    async for message in socket:
        if '"id"' in message.data[:8]:
            count -= 1
            yield message
        if count == 0:
            return


async def take(count, events):
    assert len(events) == count, f"{len(events)} events instead of {count}"
    return events


async def lines(content, transport):
    """The JSON items of a stream, an event stream or an iframe."""
    buffer = b""
    async for part in content.iter_any():
        buffer += part
        *whole, buffer = buffer.split(b"\n")
        for line in whole:
            line = line.decode()
            if transport == "sse" and line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))
            elif transport == "stream" and line.strip():
                yield json.loads(line)
            elif transport == "iframe" and line.startswith("<script>e("):
                yield json.loads(line.removeprefix("<script>e(").removesuffix(")</script>"))


async def transports():
    """every payload comes over every transport, which take turns with one cursor"""
    topic = fresh_topic("aiohttp")
    cursor = await place_of(topic)
    async with aiohttp.ClientSession(timeout=TIMEOUT, read_bufsize=1 << 22) as session:
        for transport in ["websocket", "sse", "long-poll", "poll", "iframe", "stream"]:
            # Small ones first: one answer of a poll has about 1 MiB.
            for body, content_type in [(text, "text/plain") for text in HARD_TEXTS[:-1]] + [
                (data, "application/octet-stream") for data in HARD_BYTES
            ]:
                published = await publish(topic, body, content_type)
                [event] = await hear(session, transport, topic, cursor, 1)
                assert event["id"] == published and event["topic"] == topic, (transport, event)
                if isinstance(body, str):
                    assert event["data"] == body, (transport, event["data"][:50])
                else:
                    assert event["base64"] == encoded(body), (transport, event["base64"][:50])
                cursor = event["id"]
            await publish(topic, HARD_TEXTS[-1])
            [event] = await hear(session, transport, topic, cursor, 1)
            assert event["data"] == HARD_TEXTS[-1], (transport, len(event["data"]))
            cursor = event["id"]


def encoded(data):
    import base64

    return base64.b64encode(data).decode()


async def conditional():
    """a poll with the last ETag is answered 304 until there is something new"""
    topic = fresh_topic("aiohttp-etag")
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        async with session.get(url(topic=topic)) as response:
            tag = response.headers["ETag"]
        async with session.get(url(topic=topic), headers={"If-None-Match": tag}) as response:
            assert response.status == 304, response.status
        published = await publish(topic, "news")
        async with session.get(url(topic=topic), headers={"If-None-Match": tag}) as response:
            assert [event["id"] for event in (await response.json())["events"]] == [published]


async def held():
    """a long poll is held until there is an event, and then for no longer"""
    topic = fresh_topic("aiohttp-held")
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        async with session.get(url(topic=topic, wait=1)) as response:
            answer = await response.json()
            assert answer["events"] == [], answer
        cursor = answer["cursor"]
        published = await publish(topic, "while away")
        async with session.get(url(topic=topic, wait=20, cursor=cursor)) as response:
            assert [event["id"] for event in (await response.json())["events"]] == [published]


prove(transports, conditional, held)
