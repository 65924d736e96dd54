"""aiomqtt, gmqtt and amqtt's client: what their users do first.

usage: with_asyncio.py TCP WS TLS WSS CAFILE, with ports on loopback
"""

import asyncio
import contextlib
import ssl
import sys

import aiomqtt
import gmqtt
from amqtt.client import MQTTClient

PATIENCE = 20


async def with_aiomqtt(tcp, tls, cafile):
    for port, context in ((tcp, None), (tls, ssl.create_default_context(cafile=cafile))):
        for version in (aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5):
            named = {"hostname": "127.0.0.1", "port": port, "protocol": version, "tls_context": context}
            async with aiomqtt.Client(identifier="aiomqtt", **named) as client:
                await client.subscribe("aiomqtt/#", qos=2)
                for qos in (0, 1, 2):
                    await client.publish(f"aiomqtt/{qos}", payload=f"message {qos}", qos=qos)
                    message = await asyncio.wait_for(anext(client.messages), PATIENCE)
                    assert (message.topic.value, message.payload, message.qos) == (f"aiomqtt/{qos}", f"message {qos}".encode(), qos)


async def with_gmqtt(tcp, tls, cafile):
    for port, context in ((tcp, False), (tls, ssl.create_default_context(cafile=cafile))):
        for version in (gmqtt.constants.MQTTv311, gmqtt.constants.MQTTv50):
            client, messages = gmqtt.Client("gmqtt"), asyncio.Queue()
            subscribed = asyncio.Event()
            client.on_message = lambda c, topic, payload, qos, properties: messages.put_nowait((topic, payload, qos)) or 0
            client.on_subscribe = lambda c, mid, qos, properties: subscribed.set()
            await client.connect("127.0.0.1", port, ssl=context, version=version)
            client.subscribe("gmqtt/#", qos=2)
            await asyncio.wait_for(subscribed.wait(), PATIENCE)
            for qos in (0, 1, 2):
                client.publish(f"gmqtt/{qos}", f"message {qos}", qos=qos)
                assert await asyncio.wait_for(messages.get(), PATIENCE) == (f"gmqtt/{qos}", f"message {qos}".encode(), qos)
            # What the server still says, such as PUBCOMP, is an error to Python once it has said goodbye in TLS.
            with contextlib.suppress(ssl.SSLError):
                await client.disconnect()


async def with_amqtt(tcp, ws, tls, wss, cafile):
    for scheme, port in (("mqtt", tcp), ("ws", ws), ("mqtts", tls), ("wss", wss)):
        client = MQTTClient(client_id="amqtt", config={"auto_reconnect": False})
        await client.connect(f"{scheme}://127.0.0.1:{port}/mqtt", cafile=cafile if scheme.endswith("s") and scheme != "ws" else None)
        assert await client.subscribe([("amqtt/#", 2)]) == [2]
        for qos in (0, 1, 2):
            await client.publish(f"amqtt/{qos}", f"message {qos}".encode(), qos=qos)
            message = await asyncio.wait_for(client.deliver_message(), PATIENCE)
            assert (message.topic, bytes(message.data), message.qos) == (f"amqtt/{qos}", f"message {qos}".encode(), qos)
        await client.unsubscribe(["amqtt/#"])
        await client.disconnect()


async def main():
    *ports, cafile = sys.argv[1:]
    tcp, ws, tls, wss = map(int, ports)
    for name, work in (
        ("aiomqtt", with_aiomqtt(tcp, tls, cafile)),
        ("gmqtt", with_gmqtt(tcp, tls, cafile)),
        ("amqtt", with_amqtt(tcp, ws, tls, wss, cafile)),
    ):
        await asyncio.wait_for(work, 3 * PATIENCE)
        print(name, "done", flush=True)


asyncio.run(main())
