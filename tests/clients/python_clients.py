"""Python's `websockets` and `aiohttp` as subscribers: WebSocket, Server-Sent Events, HTTP streaming, long polling, polling.

    python tests/clients/python_clients.py [BASE_URL]
"""

import asyncio
import json
import os
import sys
import time
import traceback

import aiohttp
import websockets

BASE = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080").rstrip("/")
WEBSOCKET = BASE.replace("http", "ws", 1)
LIMIT_SECONDS = 60
TEXTS = ["plain", "", "two\nlines", "grüße 你好 🎺 \u2028", "</script>", "x" * 300_000]


def fresh_topic(name):
    return f"test/{name}-{time.time_ns():x}-{os.getpid()}"


async def publish(http, topic, body, content_type="text/plain; charset=utf-8", name=None):
    query = {"topic": topic} | ({"name": name} if name else {})
    data = body if isinstance(body, bytes) else body.encode()
    headers = {"Content-Type": content_type}
    async with http.post(f"{BASE}/events", params=query, data=data, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["id"]


async def place(http, topic):
    async with http.get(f"{BASE}/events", params={"topic": topic, "transport": "poll"}) as answer:
        return (await answer.json())["cursor"]


async def websockets_hears_text_and_bytes(http):
    topic = fresh_topic("py-raw")
    async with websockets.connect(f"{WEBSOCKET}/events?topic={topic}", max_size=None) as socket:
        for text in TEXTS:
            await publish(http, topic, text)
            assert await socket.recv() == text
        await publish(http, topic, b"\x00\xff", "application/octet-stream")
        assert await socket.recv() == b"\x00\xff"
        await asyncio.wait_for(await socket.ping(b"payload"), 5)


async def websockets_speaks_stentor_v1_and_resumes(http):
    topic = fresh_topic("py-v1")
    cursor = await place(http, topic)
    ids = [await publish(http, topic, f"event {i}") for i in range(50)]
    url = f"{WEBSOCKET}/events"
    async with websockets.connect(url, subprotocols=["stentor.v1"], max_size=None) as socket:
        assert socket.subprotocol == "stentor.v1"
        await socket.send(json.dumps({"subscribe": [topic], "cursor": cursor, "ref": 1}))
        heard = []
        while len(heard) < 50:
            item = json.loads(await socket.recv())
            if "topic" in item:
                heard.append(item["id"])
        assert heard == ids, heard
        # In fragments, as `websockets` sends an iterable.
        await socket.send(iter(['{"pi', 'ng":', "7}"]))
        assert json.loads(await socket.recv()) == {"pong": 7}


async def aiohttp_speaks_stentor_v1_compressed(http):
    topic = fresh_topic("py-deflate")
    url = f"{BASE}/events?topic={topic}"
    async with http.ws_connect(url, protocols=["stentor.v1"], compress=15, max_msg_size=0) as socket:
        assert socket.protocol == "stentor.v1"
        assert "cursor" in await socket.receive_json()
        for text in TEXTS:
            event_id = await publish(http, topic, text)
            assert await socket.receive_json() == {"id": event_id, "topic": topic, "data": text}
        await socket.send_json({"ping": "x" * 3000})
        assert (await socket.receive_json())["pong"] == "x" * 3000


async def aiohttp_reads_server_sent_events(http):
    topic = fresh_topic("py-sse")
    headers = {"Accept": "text/event-stream"}
    async with http.get(f"{BASE}/events", params={"topic": topic}, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        assert "no-cache" in answer.headers["Cache-Control"]
        assert answer.headers["X-Accel-Buffering"] == "no"

        async def block():
            fields = {}
            while line := (await answer.content.readuntil(b"\n")).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            return fields

        assert int((await block())["retry"]) > 0
        assert (await block())["event"] == "stentor.cursor"
        for text in TEXTS:
            event_id = await publish(http, topic, text, name="quote")
            assert await block() == {"event": "quote", "data": text, "id": event_id}
    # The same by `Last-Event-ID`: what comes after the first.
    headers["Last-Event-ID"] = event_id
    later = await publish(http, topic, "later")
    async with http.get(f"{BASE}/events", params={"topic": topic}, headers=headers) as answer:
        text = b""
        while b"later" not in text:
            text += await answer.content.readany()
        text += await answer.content.readuntil(b"\n\n") if b"later\nid" not in text else b""
        assert f"data: later\nid: {later}\n".encode() in text, text


async def aiohttp_reads_lines_of_json(http):
    topic = fresh_topic("py-stream")
    headers = {"Accept": "application/x-ndjson"}
    async with http.get(f"{BASE}/events", params={"topic": topic}, headers=headers) as answer:
        assert answer.content_type == "application/x-ndjson"
        first = await answer.content.readline()
        assert len(first) >= 1024 and json.loads(first)["cursor"] == answer.headers["Stentor-Cursor"]
        for text in TEXTS:
            event_id = await publish(http, topic, text)
            line = await answer.content.readuntil(b"\n")
            assert json.loads(line) == {"id": event_id, "topic": topic, "data": text}


async def aiohttp_long_polls_without_losing_or_repeating(http):
    topic = fresh_topic("py-long-poll")
    cursor = await place(http, topic)
    ids, heard = [], []

    async def publisher():
        for i in range(200):
            ids.append(await publish(http, topic, f"event {i}"))

    publishing = asyncio.create_task(publisher())
    while not publishing.done() or len(heard) < len(ids):
        query = {"topic": topic, "cursor": cursor, "wait": 2}
        async with http.get(f"{BASE}/events", params=query) as answer:
            body = await answer.json()
        assert "gap" not in body, body
        heard += [event["id"] for event in body["events"]]
        cursor = body["cursor"]
    await publishing
    assert heard == ids

    started = time.monotonic()
    async with http.get(f"{BASE}/events", params={"topic": topic, "cursor": cursor, "wait": 1}) as answer:
        assert (await answer.json())["events"] == []
    assert 0.8 < time.monotonic() - started < 5


async def aiohttp_polls_with_an_etag(http):
    topic = fresh_topic("py-poll")
    query = {"topic": topic, "transport": "poll"}
    async with http.get(f"{BASE}/events", params=query) as answer:
        tag = answer.headers["ETag"]
    async with http.get(f"{BASE}/events", params=query, headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
    event_id = await publish(http, topic, "new")
    for condition in (tag, f"W/{tag}"):
        async with http.get(f"{BASE}/events", params=query, headers={"If-None-Match": condition}) as answer:
            assert answer.status == 200
            assert [event["id"] for event in (await answer.json())["events"]] == [event_id]


TESTS = [
    websockets_hears_text_and_bytes,
    websockets_speaks_stentor_v1_and_resumes,
    aiohttp_speaks_stentor_v1_compressed,
    aiohttp_reads_server_sent_events,
    aiohttp_reads_lines_of_json,
    aiohttp_long_polls_without_losing_or_repeating,
    aiohttp_polls_with_an_etag,
]


async def main():
    failures = 0
    for test in TESTS:
        claim = test.__name__.replace("_", " ")
        try:
            # Buffers for lines of 300,000 bytes.
            async with aiohttp.ClientSession(read_bufsize=1 << 20) as http:
                await asyncio.wait_for(test(http), LIMIT_SECONDS)
            print(f"ok     {claim}")
        except Exception:
            failures += 1
            print(f"FAILED {claim}\n{traceback.format_exc()}", file=sys.stderr)
    sys.exit(1 if failures else 0)


asyncio.run(main())
