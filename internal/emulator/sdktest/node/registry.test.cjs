'use strict';
const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const { registry, refused, pages } = require('./hub.cjs');

const key = (letter) => Buffer.alloc(32, letter).toString('base64');

describe('identities', () => {
  it('are created with generated keys', async () => {
    const { responseBody: device, httpResponse } = await registry.create({ deviceId: 'fresh' });
    assert.equal(httpResponse.statusCode, 200);
    assert.equal(device.deviceId, 'fresh');
    assert.equal(device.status, 'enabled');
    assert.equal(device.connectionState, 'Disconnected');
    assert.equal(device.authentication.type, 'sas');
    const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
    assert.equal(Buffer.from(primaryKey, 'base64').length, 32);
    assert.notEqual(primaryKey, secondaryKey);
    assert.ok(device.etag && device.generationId);
  });

  it('keep the keys that were chosen', async () => {
    const symmetricKey = { primaryKey: key('a'), secondaryKey: key('b') };
    await registry.create({ deviceId: 'chosen', authentication: { symmetricKey } });
    const { responseBody: device } = await registry.get('chosen');
    assert.deepEqual(device.authentication.symmetricKey, symmetricKey);
  });

  it('take certificates instead of keys', async () => {
    const x509Thumbprint = { primaryThumbprint: 'A'.repeat(40), secondaryThumbprint: 'B'.repeat(40) };
    const { responseBody: device } = await registry.create({ deviceId: 'certified', authentication: { x509Thumbprint } });
    assert.equal(device.authentication.type, 'selfSigned');
    assert.deepEqual(device.authentication.x509Thumbprint, x509Thumbprint);
  });

  it('cannot be created twice', async () => {
    await registry.create({ deviceId: 'twice' });
    await refused(registry.create({ deviceId: 'twice' }), { error: 'DeviceAlreadyExistsError', status: 409, name: 'DeviceAlreadyExists' });
  });

  it('are updated as a whole and keep their keys', async () => {
    const { responseBody: before } = await registry.create({ deviceId: 'updated' });
    const { responseBody: after } = await registry.update({ ...before, status: 'disabled', statusReason: 'broken lock' });
    assert.equal(after.status, 'disabled');
    assert.equal(after.statusReason, 'broken lock');
    assert.notEqual(after.etag, before.etag);
    assert.deepEqual(after.authentication, before.authentication);
    const { responseBody: read } = await registry.get('updated');
    assert.deepEqual(read, after);
  });

  it('cannot be updated before they exist', async () => {
    await refused(registry.update({ deviceId: 'nobody' }), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
  });

  it('are gone when deleted', async () => {
    await registry.create({ deviceId: 'deleted' });
    const { httpResponse } = await registry.delete('deleted');
    assert.equal(httpResponse.statusCode, 204);
    await refused(registry.get('deleted'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
    await refused(registry.delete('deleted'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
    await refused(registry.getTwin('deleted'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
  });

  it('may have ids with every letter that is allowed', async () => {
    const deviceId = "a-:.+%_#*?!(),=@;$'Z";
    await registry.create({ deviceId });
    const { responseBody: device } = await registry.get(deviceId);
    assert.equal(device.deviceId, deviceId);
    const { responseBody: twin } = await registry.getTwin(deviceId);
    assert.equal(twin.deviceId, deviceId);
    await registry.delete(deviceId);
  });

  it('with an id that is not allowed are refused', async () => {
    await refused(registry.create({ deviceId: 'a b' }), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid' });
  });

  it('are listed', async () => {
    await registry.create({ deviceId: 'listed' });
    const { responseBody: devices } = await registry.list();
    const ids = devices.map((d) => d.deviceId);
    assert.ok(ids.includes('listed') && ids.includes('door-001'), `${ids}`);
    assert.ok(devices.every((d) => d.authentication.symmetricKey.primaryKey || d.authentication.type !== 'sas'));
  });

  it('are counted', async () => {
    const query = registry.createQuery('SELECT COUNT() AS n FROM devices');
    const { rows: [{ n }] } = await pages(query);
    const { responseBody: counts } = await registry.getRegistryStatistics();
    assert.equal(counts.totalDeviceCount, n);
    assert.equal(counts.enabledDeviceCount + counts.disabledDeviceCount, n);
  });
});

describe('bulk operations', () => {
  const some = (prefix) => Array.from({ length: 3 }, (_, i) => ({ deviceId: `${prefix}-${i}` }));

  it('add, update and remove', async () => {
    const devices = some('bulk');
    const { responseBody: added } = await registry.addDevices(devices);
    assert.deepEqual(added, { isSuccessful: true, errors: [], warnings: [] });

    const { responseBody: updated } = await registry.updateDevices(devices.map((d) => ({ ...d, status: 'disabled' })), true);
    assert.equal(updated.isSuccessful, true);
    for (const { deviceId } of devices) {
      assert.equal((await registry.get(deviceId)).responseBody.status, 'disabled');
    }

    const { responseBody: removed } = await registry.removeDevices(devices, true);
    assert.equal(removed.isSuccessful, true);
    await refused(registry.get('bulk-0'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
  });

  it('name what failed and do the rest', async () => {
    await registry.create({ deviceId: 'partly-1' });
    const failure = await refused(registry.addDevices(some('partly')), { error: 'ArgumentError', status: 400, name: 'BulkRegistryOperationFailure' });
    const result = JSON.parse(failure.responseBody);
    assert.equal(result.isSuccessful, false);
    assert.deepEqual(result.errors.map(({ deviceId, errorCode }) => ({ deviceId, errorCode })), [{ deviceId: 'partly-1', errorCode: 409001 }]);
    await registry.get('partly-0');
    await registry.get('partly-2');
  });

  it('hold to the etag', async () => {
    const { responseBody: device } = await registry.create({ deviceId: 'held' });
    const failure = await refused(registry.removeDevices([{ deviceId: 'held', etag: 'AAAAAAAAAAA=', eTag: 'AAAAAAAAAAA=' }], false),
      { error: 'ArgumentError', status: 400, name: 'BulkRegistryOperationFailure' });
    assert.equal(JSON.parse(failure.responseBody).errors[0].errorCode, 412001);
    const { responseBody: removed } = await registry.removeDevices([{ deviceId: 'held', eTag: device.etag }], false);
    assert.equal(removed.isSuccessful, true);
  });

  it('update only what has not changed, if asked so', async () => {
    const { responseBody: first } = await registry.create({ deviceId: 'same-1' });
    const { responseBody: second } = await registry.create({ deviceId: 'same-2' });
    await registry.update({ deviceId: 'same-2', statusReason: 'changed meanwhile' });
    const off = [first, second].map(({ deviceId, etag }) => ({ deviceId, eTag: etag, status: 'disabled' }));
    const failure = await refused(registry.updateDevices(off, false), { error: 'ArgumentError', status: 400, name: 'BulkRegistryOperationFailure' });
    assert.deepEqual(JSON.parse(failure.responseBody).errors.map(({ deviceId, errorCode }) => ({ deviceId, errorCode })), [{ deviceId: 'same-2', errorCode: 412001 }]);
    assert.equal((await registry.get('same-1')).responseBody.status, 'disabled');
    assert.equal((await registry.get('same-2')).responseBody.status, 'enabled');
  });

  it('name what they cannot find', async () => {
    for (const bulk of [() => registry.updateDevices([{ deviceId: 'never' }], true), () => registry.removeDevices([{ deviceId: 'never' }], true)]) {
      const failure = await refused(bulk(), { error: 'ArgumentError', status: 400, name: 'BulkRegistryOperationFailure' });
      assert.equal(JSON.parse(failure.responseBody).errors[0].errorCode, 404001);
    }
  });

  it('create devices with tags, and a hundred at once', async () => {
    const many = Array.from({ length: 100 }, (_, i) => ({ deviceId: `hundred-${i}`, tags: { n: i } }));
    assert.equal((await registry.addDevices(many)).responseBody.isSuccessful, true);
    assert.deepEqual((await registry.getTwin('hundred-99')).responseBody.tags, { n: 99 });
    assert.equal((await registry.removeDevices(many, true)).responseBody.isSuccessful, true);
  });

  it('refuse the same device twice', async () => {
    await refused(registry.addDevices([{ deviceId: 'double' }, { deviceId: 'double' }]), { error: 'ArgumentError', status: 400, name: 'DeviceDefinedMultipleTimes' });
    await refused(registry.get('double'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
  });
});

describe('modules', () => {
  it('live and die with their device', async () => {
    await registry.create({ deviceId: 'gateway' });
    const { responseBody: module } = await registry.addModule({ deviceId: 'gateway', moduleId: 'camera', managedBy: 'tests' });
    assert.equal(module.moduleId, 'camera');
    assert.equal(module.managedBy, 'tests');
    assert.ok(module.authentication.symmetricKey.primaryKey);
    const { responseBody: modules } = await registry.getModulesOnDevice('gateway');
    assert.deepEqual(modules.map((m) => m.moduleId), ['camera']);

    const { responseBody: twin } = await registry.updateModuleTwin('gateway', 'camera', { properties: { desired: { zoom: 2 } } }, '*');
    assert.equal(twin.properties.desired.zoom, 2);
    const { rows } = await pages(registry.createQuery("SELECT * FROM devices.modules WHERE moduleId = 'camera' AND deviceId = 'gateway'"));
    assert.deepEqual(rows.map((r) => [r.deviceId, r.moduleId, r.properties.desired.zoom]), [['gateway', 'camera', 2]]);

    await registry.removeModule('gateway', 'camera');
    const gone = await registry.getModule('gateway', 'camera').then(() => null, (err) => err);
    assert.equal(gone.response.headers['iothub-errorcode'], 'ModuleNotFound');
    await registry.addModule({ deviceId: 'gateway', moduleId: 'microphone' });
    await registry.delete('gateway');
    const orphan = await registry.getModule('gateway', 'microphone').then(() => null, (err) => err);
    assert.equal(orphan.response.headers['iothub-errorcode'], 'DeviceNotFound');
  });

  it('hold to etags, and so do their twins', async () => {
    await registry.create({ deviceId: 'keeper' });
    const { responseBody: stale } = await registry.addModule({ deviceId: 'keeper', moduleId: 'one' });
    const { responseBody: fresh } = await registry.updateModule({ ...stale, managedBy: 'somebody' });
    assert.equal(fresh.managedBy, 'somebody');
    // Given a module, removeModule makes no promise: it needs the callback.
    const remove = (module) => new Promise((resolve, reject) => {
      registry.removeModule(module, (err, result) => (err ? reject(err) : resolve(result)));
    });
    for (const late of [() => registry.updateModule({ ...stale, managedBy: 'me' }), () => remove(stale)]) {
      await refused(late(), { error: 'InvalidEtagError', status: 412, name: 'PreconditionFailed' });
    }
    await remove(fresh);

    await registry.addModule({ deviceId: 'keeper', moduleId: 'two' });
    const { responseBody: twin } = await registry.getModuleTwin('keeper', 'two');
    await registry.updateModuleTwin('keeper', 'two', { tags: { a: 1 } }, twin.etag);
    await refused(registry.updateModuleTwin('keeper', 'two', { tags: { a: 2 } }, twin.etag), { error: 'InvalidEtagError', status: 412, name: 'PreconditionFailed' });
    assert.deepEqual((await registry.getModuleTwin('keeper', 'two')).responseBody.tags, { a: 1 });
  });

  it('cannot be added twice', async () => {
    await registry.create({ deviceId: 'pair' });
    await registry.addModule({ deviceId: 'pair', moduleId: 'one' });
    await refused(registry.addModule({ deviceId: 'pair', moduleId: 'one' }), { error: 'DeviceAlreadyExistsError', status: 409, name: 'ModuleAlreadyExistsOnDevice' });
  });
});

describe('what is not emulated', () => {
  it('says so', async () => {
    const configuration = { id: 'c', schemaVersion: '1.0', content: { deviceContent: {} }, targetCondition: '*', priority: 1 };
    for (const call of [
      () => registry.addConfiguration(configuration), () => registry.getConfigurations(),
      () => registry.importDevicesFromBlob('https://in.example/', 'https://out.example/'), () => registry.exportDevicesToBlob('https://out.example/', false),
    ]) {
      const failure = await call().then(() => null, (err) => err);
      assert.equal(failure?.response?.statusCode, 501, `${failure}`);
      assert.match(failure.responseBody, /not emulated/);
    }
    assert.deepEqual((await registry.listJobs()).responseBody, []);
  });
});
