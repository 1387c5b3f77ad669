'use strict';
// Messages from the cloud, which services send over AMQP and these tests
// through the control endpoint.
const assert = require('node:assert/strict');
const { after, describe, it } = require('node:test');
const { Client } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { host, registry, send, queued, eventually } = require('./hub.cjs');

const open = [];
after(() => Promise.all(open.map((device) => device.close().catch(() => {}))));

const register = async (deviceId) => {
  const { responseBody: device } = await registry.create({ deviceId });
  return `HostName=${host};DeviceId=${deviceId};SharedAccessKey=${device.authentication.symmetricKey.primaryKey}`;
};

/** Connects and collects what arrives. */
const listen = async (connectionString, transport) => {
  const device = Client.fromConnectionString(connectionString, transport);
  open.push(device);
  const messages = [];
  await device.open();
  device.on('message', (message) => {
    messages.push(message);
    device.complete(message);
  });
  return { device, messages };
};

const texts = (messages) => messages.map((m) => m.getData().toString());

for (const [name, transport] of [['MQTT', Mqtt], ['MQTT over WebSockets', MqttWs]]) {
  describe(`a device over ${name}`, () => {
    const id = `hearer-${name.length}`;

    it('is sent messages, with their properties', async () => {
      const { messages } = await listen(await register(id), transport);
      await send(id, { messageId: 'm 1/ü', properties: { 'a b': 'c&d=e', '$.ct': 'text/plain' }, body: 'grüße' });
      await send(id, { bodyBase64: Buffer.from([0, 255, 10]).toString('base64') });
      await eventually('both messages', () => messages.length === 2);
      assert.equal(messages[0].messageId, 'm 1/ü');
      assert.equal(messages[0].contentType, 'text/plain');
      assert.equal(messages[0].properties.getValue('a b'), 'c&d=e');
      assert.equal(messages[0].getData().toString(), 'grüße');
      assert.deepEqual([...messages[1].getData()], [0, 255, 10]);
      await eventually('an empty queue', async () => (await queued(id)).length === 0);
      assert.equal((await registry.getTwin(id)).responseBody.cloudToDeviceMessageCount, 0);
    });

    it('finds what was sent while it was away, in order', async () => {
      const own = `${id}-away`;
      const cs = await register(own);
      const first = await listen(cs, transport);
      await send(own, { body: 'hello' });
      await eventually('a message', () => first.messages.length === 1); // it has subscribed
      await first.device.close();

      const bodies = ['one', 'two', 'three'];
      for (const body of bodies) {
        await send(own, { body });
      }
      assert.equal((await registry.get(own)).responseBody.cloudToDeviceMessageCount, 3);
      const second = await listen(cs, transport);
      await eventually('all messages', () => second.messages.length === 3);
      assert.deepEqual(texts(second.messages), bodies);
      await eventually('an empty queue', async () => (await queued(own)).length === 0);
    });
  });
}

describe('the queue of a device', () => {
  it('holds 50 messages, and can be thrown away', async () => {
    await register('full');
    for (let i = 0; i < 50; i += 1) {
      await send('full', { body: `${i}` });
    }
    await assert.rejects(send('full', { body: 'one too many' }), /DeviceMaximumQueueDepthExceeded/);
    assert.equal((await queued('full')).length, 50);
    const { responseBody: purged } = await new Promise((resolve, reject) => {
      registry._restApiClient.executeApiCall('DELETE', '/devices/full/commands?api-version=2021-04-12', {}, null,
        (err, responseBody) => (err ? reject(err) : resolve({ responseBody })));
    });
    assert.equal(purged.totalMessagesPurged, 50);
    assert.deepEqual(await queued('full'), []);
  });
});
