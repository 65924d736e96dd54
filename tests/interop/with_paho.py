"""Paho for Python, 1.x and 2.x: every version of the protocol over every transport.

usage: with_paho.py TCP WS TLS WSS CAFILE, with ports on loopback
"""

import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 20
TRANSPORTS = {"tcp": ("tcp", False), "ws": ("websockets", False), "tls": ("tcp", True), "wss": ("websockets", True)}
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Client:
    """A client whose callbacks put what they are told into queues."""

    def __init__(self, port, client_id, version="5", transport="tcp", cafile=None, **connect):
        kind, tls = TRANSPORTS[transport]
        self.version = version
        self.events = {name: queue.Queue() for name in ("connect", "message", "subscribe", "unsubscribe", "publish", "disconnect")}
        options = {"client_id": client_id, "protocol": VERSIONS[version], "transport": kind}
        will = connect.pop("will", None)
        clean = connect.pop("clean", True)
        if version != "5":
            options["clean_session"] = clean
        else:
            connect["clean_start"] = clean
        if hasattr(mqtt, "CallbackAPIVersion"):
            options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        self.client = mqtt.Client(**options)
        if tls:
            self.client.tls_set(cafile)
        if will:
            self.client.will_set(**will)
        put = self.events
        # The last two of these are the reason and the properties in every version of Paho that has them.
        self.client.on_connect = lambda c, u, flags, reason, *rest: put["connect"].put((flags, reason, rest[-1] if rest else None))
        self.client.on_message = lambda c, u, message: put["message"].put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, *rest: put["subscribe"].put(list(codes))
        self.client.on_unsubscribe = lambda c, u, mid, *rest: put["unsubscribe"].put(mid)
        self.client.on_publish = lambda c, u, mid, *rest: put["publish"].put((mid, rest))
        self.client.on_disconnect = lambda *said: put["disconnect"].put(said)
        self.client.connect("127.0.0.1", port, keepalive=connect.pop("keepalive", 60), **connect)
        self.client.loop_start()
        self.flags, self.reason, self.properties = self.next("connect")
        assert not failed(self.reason), self.reason

    def next(self, kind):
        return self.events[kind].get(timeout=PATIENCE)

    def silence(self, kind="message", seconds=0.3):
        try:
            found = self.events[kind].get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"unwanted: {found.topic} {found.payload}")

    def subscribe(self, *args, **named):
        self.client.subscribe(*args, **named)
        return [value(code) for code in self.next("subscribe")]

    def publish(self, topic, payload, qos=0, retain=False, **properties):
        more = {"properties": props(PacketTypes.PUBLISH, **properties)} if properties else {}
        self.client.publish(topic, payload, qos, retain, **more).wait_for_publish(PATIENCE)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Ends without a word, as a network does."""
        self.client.loop_stop()
        self.client.socket().close()


def value(code):
    return getattr(code, "value", code)


def failed(reason):
    return value(reason) != 0


def props(packet, **named):
    properties = Properties(packet)
    for name, each in named.items():
        setattr(properties, name, each)
    return properties


def session_present(client):
    flags = client.flags
    return bool(flags["session present"] if isinstance(flags, dict) else flags.session_present)


def round_trips(ports, cafile):
    """Messages of each QoS and many sizes, from each version to each, over each transport."""
    for transport, port in ports.items():
        for version in VERSIONS:
            with_tls = {"cafile": cafile, "transport": transport}
            sub = Client(port, f"sub-{transport}-{version}", version, **with_tls)
            assert sub.subscribe("trip/+/#", 2) == [2]
            for sender in VERSIONS:
                pub = Client(port, f"pub-{transport}-{sender}", sender, **with_tls)
                for qos in (0, 1, 2):
                    for size in (0, 1, 127, 128, 16_384, 200_000):
                        payload = bytes(at % 251 for at in range(size))
                        pub.publish(f"trip/{sender}/{qos}", payload, qos)
                        got = sub.next("message")
                        assert (got.topic, got.payload, got.qos) == (f"trip/{sender}/{qos}", payload, qos), (transport, version)
                pub.leave()
            sub.client.unsubscribe("trip/+/#")
            sub.next("unsubscribe")
            sub.leave()


def sessions(port):
    """What was missed is there, once, in order; a clean session forgets it."""
    for version in VERSIONS:
        kept = {"properties": props(PacketTypes.CONNECT, SessionExpiryInterval=600)} if version == "5" else {}
        first = Client(port, f"kept-{version}", version, clean=False, **kept)
        assert not session_present(first)
        first.subscribe(f"kept/{version}", 2)
        first.leave()
        pub = Client(port, "keeper", version)
        for at in range(20):
            pub.publish(f"kept/{version}", str(at), 1 + at % 2)
        again = Client(port, f"kept-{version}", version, clean=False, **kept)
        assert version == "3.1" or session_present(again)
        got = [(message.qos, int(message.payload)) for message in (again.next("message") for _ in range(20))]
        # QoS 2 reaches the callback an exchange later than QoS 1, so each has its own order.
        assert sorted(got) == sorted((1 + at % 2, at) for at in range(20)), got
        for qos in (1, 2):
            own = [at for each, at in got if each == qos]
            assert own == sorted(own), got
        again.silence()
        again.leave()
        fresh = Client(port, f"kept-{version}", version, clean=True)
        assert not session_present(fresh)
        pub.publish(f"kept/{version}", "lost", 1)
        fresh.silence()
        fresh.leave()
        pub.leave()


def retained(port):
    for version in VERSIONS:
        pub = Client(port, "retainer", version)
        for qos in (0, 1, 2):
            pub.publish(f"state/{qos}", f"{version} {qos}", qos, retain=True)
        sub = Client(port, "state", version)
        sub.subscribe("state/#", 2)
        got = sorted((m.topic, m.payload.decode(), m.qos, bool(m.retain)) for m in (sub.next("message") for _ in range(3)))
        assert got == [(f"state/{qos}", f"{version} {qos}", qos, True) for qos in (0, 1, 2)], got
        for qos in (0, 1, 2):
            pub.publish(f"state/{qos}", "", 1, retain=True)
            assert not sub.next("message").retain
        late = Client(port, "late", version)
        late.subscribe("state/#", 2)
        late.silence()
        for client in (pub, sub, late):
            client.leave()


def wills(port):
    watcher = Client(port, "watcher")
    watcher.subscribe("gone/#", 2)
    for version in VERSIONS:
        will = {"topic": f"gone/{version}", "payload": "lost", "qos": 1}
        Client(port, f"lost-{version}", version, will=will).vanish()
        got = watcher.next("message")
        assert (got.topic, got.payload) == (f"gone/{version}", b"lost")
        Client(port, f"polite-{version}", version, will=will).leave()
    watcher.silence()
    delayed = {"topic": "gone/later", "payload": "lost", "qos": 1, "properties": props(PacketTypes.WILLMESSAGE, WillDelayInterval=2)}
    kept = props(PacketTypes.CONNECT, SessionExpiryInterval=60)
    Client(port, "late", will=delayed, clean=True, properties=kept).vanish()
    watcher.silence(seconds=1)
    back = Client(port, "late", clean=False, properties=kept, will=delayed)
    watcher.silence(seconds=2)
    back.vanish()
    assert watcher.next("message").topic == "gone/later"
    watcher.leave()


def of_version_5(port):
    """Request and response, user properties, expiry, options, identifiers, aliases, shares, refusals."""
    pub, sub = Client(port, "five-pub"), Client(port, "")
    assert sub.properties.AssignedClientIdentifier
    options = SubscribeOptions(qos=2, noLocal=True, retainAsPublished=True)
    assert sub.subscribe("five/a", options=options, properties=props(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=7)) == [2]
    named = {"UserProperty": [("k", "1"), ("j", "2"), ("k", "3")], "ContentType": "text/plain", "PayloadFormatIndicator": 1}
    asked = {"ResponseTopic": "five/answer", "CorrelationData": b"\x00\x01", "MessageExpiryInterval": 100}
    pub.publish("five/a", "hi", 1, retain=True, **named, **asked)
    got = sub.next("message")
    assert got.retain and got.properties.UserProperty == named["UserProperty"], got.properties
    assert got.properties.SubscriptionIdentifier == [7] and got.properties.CorrelationData == b"\x00\x01"
    assert got.properties.ContentType == "text/plain" and got.properties.ResponseTopic == "five/answer"
    assert 98 <= got.properties.MessageExpiryInterval <= 100 and got.properties.PayloadFormatIndicator == 1
    sub.publish("five/a", "mine", 1)
    sub.silence()
    # Retain handling: a subscription that was there gets nothing with 1, any gets nothing with 2.
    for handling, wanted in ((1, 0), (2, 0), (0, 1)):
        sub.subscribe("five/a", options=SubscribeOptions(qos=1, retainHandling=handling))
        for _ in range(wanted):
            assert sub.next("message").payload == b"hi"
        if not wanted:
            sub.silence()
    pub.publish("five/a", "", 1, retain=True)
    sub.next("message")
    # A topic alias of the client's own, and those of the server.
    pub.publish("five/alias", "1", 1, TopicAlias=3)
    aliased = Client(port, "aliased", properties=props(PacketTypes.CONNECT, TopicAliasMaximum=2, ReceiveMaximum=1))
    aliased.subscribe("five/+", 1)
    for at in range(5):
        pub.publish("", str(at), 1, TopicAlias=3)
    assert [aliased.next("message").payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    shares = [Client(port, f"share-{at}") for at in range(2)]
    for share in shares:
        share.subscribe("$share/g/jobs/+", 1)
    for at in range(10):
        pub.publish(f"jobs/{at}", str(at), 1)
    time.sleep(0.5)
    assert sum(share.events["message"].qsize() for share in shares) == 10
    assert all(share.events["message"].qsize() for share in shares)
    # Taken over, and told so.
    other = Client(port, "share-0")
    said = shares[0].next("disconnect")
    # Paho 1.x keeps the reason to itself.
    assert not hasattr(mqtt, "CallbackAPIVersion") or any(value(each) == 0x8E for each in said if hasattr(each, "value")), said
    for client in (pub, sub, aliased, other, shares[1]):
        client.leave()


def main():
    *ports, cafile = sys.argv[1:]
    ports = dict(zip(TRANSPORTS, map(int, ports)))
    for name, part in {
        "round trips": lambda: round_trips(ports, cafile),
        "sessions": lambda: sessions(ports["tcp"]),
        "retained": lambda: retained(ports["tcp"]),
        "wills": lambda: wills(ports["tcp"]),
        "version 5": lambda: of_version_5(ports["tcp"]),
    }.items():
        part()
        print(name, "done", flush=True)


main()
