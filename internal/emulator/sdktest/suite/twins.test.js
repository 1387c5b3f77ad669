'use strict';
const { test } = require('node:test');
const { promisify } = require('node:util');
const { assert, registry, register, connect, online, next, refused, until } = require('./hub');

test('a twin is patched, and a stale etag is refused', async () => {
  const { deviceId } = await register();
  const { responseBody: twin } = await registry.getTwin(deviceId);
  const { responseBody: first } = await registry.updateTwin(deviceId, { tags: { floor: 1, gone: true } }, twin.etag);
  assert.notEqual(first.etag, twin.etag);
  await refused(registry.updateTwin(deviceId, { tags: { floor: 2 } }, twin.etag), 412, /PreconditionFailed/);
  const { responseBody: forced } = await registry.updateTwin(deviceId, { tags: { floor: 3, gone: null } }, '*');
  assert.deepEqual(forced.tags, { floor: 3 });
  await refused(registry.updateTwin(deviceId, { tags: { 'a.b': 1 } }, '*'), 400, /ArgumentInvalid/);
  await refused(registry.getTwin('nobody'), 404, /DeviceNotFound/);
});

test('a device reads its twin, reports, and services see it', async (t) => {
  const { id, client } = await online(t);
  await registry.updateTwin(id, { tags: { secret: 1 }, properties: { desired: { rate: 5, nested: { a: [1, 2] } } } }, '*');
  const twin = await client.getTwin();
  assert.equal(twin.properties.desired.rate, 5);
  assert.deepEqual(twin.properties.desired.nested, { a: [1, 2] });
  assert.equal(twin.tags, undefined);

  await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ rate: 5, status: { ok: true } });
  const { responseBody: seen } = await registry.getTwin(id);
  assert.equal(seen.properties.reported.rate, 5);
  assert.deepEqual(seen.properties.reported.status, { ok: true });
  assert.ok(seen.properties.reported.$metadata.rate.$lastUpdated);
  assert.equal(seen.properties.reported.$version, twin.properties.reported.$version + 1);
});

test('a connected device is told of desired changes and not of tags', async (t) => {
  const { id, client } = await online(t);
  const twin = await client.getTwin();
  const heard = [];
  twin.on('properties.desired', (delta) => heard.push(delta));
  await until(async () => heard.length, (n) => n > 0); // the client repeats what it has, once
  await registry.updateTwin(id, { tags: { x: 1 } }, '*');
  await registry.updateTwin(id, { properties: { desired: { floor: 3, door: { open: false } } } }, '*');
  await until(async () => heard.length, (n) => n > 1);
  assert.deepEqual(heard[1], { floor: 3, door: { open: false }, $version: 2 });
  await registry.updateTwin(id, { properties: { desired: { floor: null } } }, '*');
  await until(async () => heard.length, (n) => n > 2);
  assert.deepEqual(heard[2], { floor: null, $version: 3 });
  assert.equal(twin.properties.desired.floor, undefined);
});

test('a module has a twin and methods of its own', async (t) => {
  const { deviceId } = await register();
  const { responseBody: module } = await registry.addModule({ deviceId, moduleId: 'lock' });
  const client = await connect(t, module);
  const twin = await client.getTwin();
  const change = next((resolve) => twin.on('properties.desired.bolts', resolve));
  await registry.updateModuleTwin(deviceId, 'lock', { properties: { desired: { bolts: 2 } } }, '*');
  assert.equal(await change, 2);
  await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ bolts: 2 });
  assert.equal((await registry.getModuleTwin(deviceId, 'lock')).responseBody.properties.reported.bolts, 2);
  assert.equal((await registry.getTwin(deviceId)).responseBody.properties.reported.bolts, undefined);
});
