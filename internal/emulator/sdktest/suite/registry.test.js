'use strict';
const { test } = require('node:test');
const { assert, registry, newId, register, refused, rows } = require('./hub');

test('a device is registered, read, changed and deleted', async () => {
  const device = await register();
  assert.equal(device.status, 'enabled');
  assert.equal(device.connectionState, 'Disconnected');
  assert.equal(device.authentication.type, 'sas');
  assert.equal(Buffer.from(device.authentication.symmetricKey.primaryKey, 'base64').length, 32);

  const { responseBody: read } = await registry.get(device.deviceId);
  assert.deepEqual(read.authentication, device.authentication);
  assert.equal(read.etag, device.etag);

  const { responseBody: changed } = await registry.update({ deviceId: device.deviceId, status: 'disabled', statusReason: 'sold' });
  assert.equal(changed.status, 'disabled');
  assert.equal(changed.statusReason, 'sold');
  assert.notEqual(changed.etag, device.etag);

  await registry.delete(device.deviceId);
  await refused(registry.get(device.deviceId), 404, /DeviceNotFound/);
});

test('keys are kept as given, and a second device of the same name is refused', async () => {
  const primaryKey = Buffer.alloc(32, 1).toString('base64');
  const secondaryKey = Buffer.alloc(32, 2).toString('base64');
  const device = await register({ authentication: { symmetricKey: { primaryKey, secondaryKey } } });
  assert.deepEqual(device.authentication.symmetricKey, { primaryKey, secondaryKey });
  await refused(registry.create({ deviceId: device.deviceId }), 409, /DeviceAlreadyExists/);
});

test('devices are registered and deleted in bulk, with an error for each that was not', async () => {
  const ids = [newId('bulk'), newId('bulk'), newId('bulk')];
  const added = await registry.addDevices(ids.map((deviceId) => ({ deviceId })));
  assert.equal(added.responseBody.isSuccessful, true);
  assert.deepEqual(added.responseBody.errors, []);
  for (const id of ids) assert.equal((await registry.get(id)).responseBody.deviceId, id);

  await assert.rejects(registry.addDevices([{ deviceId: ids[0] }, { deviceId: newId('bulk') }]), (err) => {
    assert.equal(err.response.statusCode, 400);
    const body = JSON.parse(err.responseBody);
    assert.equal(body.isSuccessful, false);
    assert.deepEqual(body.errors.map((e) => [e.deviceId, e.errorCode]), [[ids[0], 'DeviceAlreadyExists']]);
    return true;
  });

  await registry.updateDevices(ids.map((deviceId) => ({ deviceId, status: 'disabled' })), true);
  assert.equal((await registry.get(ids[1])).responseBody.status, 'disabled');
  await registry.removeDevices(ids.map((deviceId) => ({ deviceId })), true);
  await refused(registry.get(ids[2]), 404, /DeviceNotFound/);
});

test('modules are registered, listed and deleted', async () => {
  const { deviceId } = await register();
  const { responseBody: module } = await registry.addModule({ deviceId, moduleId: 'camera' });
  assert.equal(module.moduleId, 'camera');
  assert.ok(module.authentication.symmetricKey.primaryKey);
  await registry.addModule({ deviceId, moduleId: 'lock' });
  const { responseBody: modules } = await registry.getModulesOnDevice(deviceId);
  assert.deepEqual(modules.map((m) => m.moduleId).sort(), ['camera', 'lock']);
  await refused(registry.addModule({ deviceId, moduleId: 'lock' }), 409, /ModuleAlreadyExistsOnDevice/);
  await registry.removeModule(deviceId, 'lock');
  await refused(registry.getModule(deviceId, 'lock'), 404, /ModuleNotFound/);
});

test('statistics count what is registered', async () => {
  const before = (await registry.getRegistryStatistics()).responseBody;
  await register();
  await register({ status: 'disabled' });
  const after = (await registry.getRegistryStatistics()).responseBody;
  assert.equal(after.totalDeviceCount, before.totalDeviceCount + 2);
  assert.equal(after.disabledDeviceCount, before.disabledDeviceCount + 1);
});

test('a query is read page by page', async () => {
  const lot = newId('lot');
  for (let i = 0; i < 7; i += 1) {
    const { deviceId } = await register();
    await registry.updateTwin(deviceId, { tags: { lot, i } }, '*');
  }
  const { all, pages } = await rows(registry.createQuery(`SELECT * FROM devices WHERE tags.lot = '${lot}'`, 3));
  assert.deepEqual(pages.filter((n) => n > 0), [3, 3, 1]);
  assert.deepEqual(all.map((twin) => twin.tags.i).sort(), [0, 1, 2, 3, 4, 5, 6]);
  const counted = await rows(registry.createQuery(`SELECT COUNT() AS n FROM devices WHERE tags.lot = '${lot}' AND tags.i > 2`));
  assert.deepEqual(counted.all, [{ n: 4 }]);
  await refused(registry.createQuery('SELECT * FROM devices WHERE STARTS_WITH(deviceId, \'x\')').next(), 400, /ArgumentInvalid/);
});
