// MQTT.js over TCP, TLS and WebSocket, with every version of the protocol that it speaks.
//
// usage: node with_mqttjs.mjs TCP WS TLS WSS CAFILE, with ports on loopback; MODULES is the folder that holds mqtt

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.env.MODULES}/`)("mqtt");
const [tcp, ws, tls, wss, cafile] = process.argv.slice(2);
const urls = {
  mqtt: `mqtt://127.0.0.1:${tcp}`,
  ws: `ws://127.0.0.1:${ws}/mqtt`,
  mqtts: `mqtts://127.0.0.1:${tls}`,
  wss: `wss://127.0.0.1:${wss}/mqtt`,
};

const versions = [
  { protocolVersion: 3, protocolId: "MQIsdp" },
  { protocolVersion: 4 },
  { protocolVersion: 5, properties: { sessionExpiryInterval: 60 } },
];

// A message that comes is waited for, however early or late.
function inbox(client) {
  const waiting = [];
  const messages = [];
  client.on("message", (topic, payload, packet) => {
    const message = { topic, payload, packet };
    waiting.length ? waiting.shift()(message) : messages.push(message);
  });
  return () => (messages.length ? Promise.resolve(messages.shift()) : new Promise((resolve) => waiting.push(resolve)));
}

for (const [scheme, url] of Object.entries(urls)) {
  for (const version of versions) {
    const clientId = `js-${scheme}-${version.protocolVersion}`;
    const options = { ...version, clientId, ca: readFileSync(cafile), reconnectPeriod: 0 };
    const client = await mqtt.connectAsync(url, options);
    const next = inbox(client);
    const granted = await client.subscribeAsync(`${clientId}/#`, { qos: 2 });
    assert.equal(granted[0].qos, 2);
    for (const qos of [0, 1, 2]) {
      for (const size of [0, 1, 125, 126, 65_535, 65_536, 300_000]) {
        const payload = Buffer.alloc(size, qos + 1);
        await client.publishAsync(`${clientId}/${size}`, payload, { qos });
        const got = await next();
        assert.equal(got.topic, `${clientId}/${size}`);
        assert.ok(got.payload.equals(payload), `${scheme} ${size}`);
        assert.equal(got.packet.qos, qos);
      }
    }
    if (version.protocolVersion === 5) {
      const properties = { userProperties: { a: ["1", "2"], b: "3" }, contentType: "text/plain", correlationData: Buffer.from("c") };
      await client.publishAsync(`${clientId}/p`, "x", { qos: 1, properties });
      const { packet } = await next();
      assert.deepEqual({ ...packet.properties.userProperties }, properties.userProperties);
      assert.equal(packet.properties.contentType, "text/plain");
      assert.ok(packet.properties.correlationData.equals(properties.correlationData));
    }
    await client.unsubscribeAsync(`${clientId}/#`);
    await client.endAsync();
  }
  console.log(scheme, "done");
}

// The server's topic aliases; not with QoS 2, as MQTT.js 5.16 forgets the topic between PUBLISH and PUBREL.
const aliased = await mqtt.connectAsync(urls.mqtt, { protocolVersion: 5, clientId: "js-alias", properties: { topicAliasMaximum: 3 } });
const next = inbox(aliased);
await aliased.subscribeAsync("js-alias/#", { qos: 1 });
for (let at = 0; at < 40; at++) {
  const topic = `js-alias/${(at * at) % 5}`;
  await aliased.publishAsync(topic, "x", { qos: at % 2 });
  assert.equal((await next()).topic, topic);
}
await aliased.endAsync();
console.log("aliases done");
