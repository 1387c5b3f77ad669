'use strict';
const { test } = require('node:test');
const { promisify } = require('node:util');
const { Message } = require('azure-iot-device');
const { MqttWs } = require('azure-iot-device-mqtt');
const { assert, registry, caller, register, connect, online, refused, until } = require('./hub');

const call = (id, methodName, payload, extra) =>
  caller.invokeDeviceMethod(id, { methodName, payload, responseTimeoutInSeconds: 10, ...extra }).then((r) => r.result);

test('a method takes and answers any JSON', async (t) => {
  const { id, client } = await online(t);
  client.onDeviceMethod('echo', (request, response) => response.send(201, request.payload));
  await until(() => call(id, 'echo', 0).catch((err) => err), (r) => r.status === 201); // the client subscribes after this call returns
  for (const payload of [{ a: { b: [1] } }, 'text', '{"a":1}', 5, 0.5, true, null, [1, 'two', null], {}, 'ünïcode ✓']) {
    assert.deepEqual(await call(id, 'echo', payload), { status: 201, payload });
  }
});

test('a device\'s own refusal is an answer, and no answer is an error', async (t) => {
  const { id, client } = await online(t);
  client.onDeviceMethod('refuse', (_, response) => response.send(418, { why: 'teapot' }));
  await until(() => call(id, 'refuse').catch((err) => err), (r) => r.status === 418);
  assert.deepEqual(await call(id, 'refuse'), { status: 418, payload: { why: 'teapot' } });
  // The Node client leaves such a call without an answer.
  await refused(call(id, 'nothing', null, { responseTimeoutInSeconds: 5 }), 504, /504101/);
});

test('a device that is away, unknown or silent is an error of its own', async (t) => {
  const { deviceId } = await register();
  await refused(call(deviceId, 'x'), 404, /404103/);
  await refused(call('nobody', 'x'), 404, /404001/);
  await refused(call(deviceId, 'x', null, { responseTimeoutInSeconds: 1 }), 400, /responseTimeoutInSeconds/);
  const { id, client } = await online(t);
  client.onDeviceMethod('hang', () => {});
  await until(async () => (await registry.get(id)).responseBody.connectionState, (s) => s === 'Connected');
  await refused(call(id, 'hang', null, { connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 5 }), 504, /504101/);
});

test('a call waits for a device that connects in time', async (t) => {
  const device = await register();
  const waiting = call(device.deviceId, 'late', { n: 1 }, { connectTimeoutInSeconds: 20 });
  const client = await connect(t, device);
  client.onDeviceMethod('late', (request, response) => response.send(200, request.payload));
  assert.deepEqual(await waiting, { status: 200, payload: { n: 1 } });
});

test('a device connects over web sockets', async (t) => {
  const device = await register();
  const client = await connect(t, device, undefined, MqttWs);
  client.onDeviceMethod('echo', (request, response) => response.send(200, request.payload));
  assert.deepEqual(await call(device.deviceId, 'echo', 'hello', { connectTimeoutInSeconds: 5 }), { status: 200, payload: 'hello' });
});

test('either key lets a device in, another\'s does not, a disabled one is thrown out', async (t) => {
  const device = await register();
  const other = await register();
  const client = await connect(t, device, device.authentication.symmetricKey.secondaryKey);
  await assert.rejects(connect(t, device, other.authentication.symmetricKey.primaryKey), (err) => {
    assert.match(`${err.name} ${err.message}`, /Unauthorized|Not authorized/i);
    return true;
  });
  const thrown = new Promise((resolve) => client.on('disconnect', resolve));
  client.setRetryPolicy(new (require('azure-iot-common').NoRetry)());
  await registry.update({ deviceId: device.deviceId, status: 'disabled' });
  await thrown;
  await until(async () => (await registry.get(device.deviceId)).responseBody.connectionState, (s) => s === 'Disconnected');
});

test('telemetry is accepted', async (t) => {
  const { client } = await online(t);
  const message = new Message(JSON.stringify({ temperature: 20.5 }));
  message.messageId = 'm/1';
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  message.properties.add('alert', 'yes & no=?');
  await promisify(client.sendEvent.bind(client))(message);
  await Promise.all(['1', '2', ''].map((body) => client.sendEvent(new Message(body))));
});
