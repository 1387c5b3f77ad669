'use strict';
const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { once } = require('node:events');
const { after, describe, it } = require('node:test');
const { Client, Message, ModuleClient } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { SharedAccessSignature } = require('azure-iothub');
const { host, client, jobs, registry, advance, executed, eventually, pages, refused } = require('./hub.cjs');

/** A new identity's connection string. */
const register = async (deviceId, info = {}) => {
  const { responseBody: device } = await registry.create({ deviceId, ...info });
  return `HostName=${host};DeviceId=${deviceId};SharedAccessKey=${device.authentication.symmetricKey.primaryKey}`;
};

const open = [];
after(() => Promise.all(open.map((device) => device.close().catch(() => {}))));

const connect = async (connectionString, transport = Mqtt) => {
  const device = Client.fromConnectionString(connectionString, transport);
  open.push(device);
  await device.open();
  return device;
};

/** Opens and expects to be refused as unauthorized. */
const turnedAway = async (connectionString, transport = Mqtt) => {
  const device = Client.fromConnectionString(connectionString, transport);
  const failure = await device.open().then(() => null, (err) => err);
  await device.close().catch(() => {});
  assert.equal(failure?.name, 'UnauthorizedError', `${failure}`);
};

/** Answers methods with what they were called with; ready once the hub knows. */
const echo = async (device, deviceId, method = 'echo') => {
  device.onDeviceMethod(method, (request, response) => response.send(201, request.payload));
  await eventually(`${deviceId} takes methods`, () => client.invokeDeviceMethod(deviceId, { methodName: method, payload: 'ping' }).then(() => true, () => false));
};

const twinOf = async (device) => {
  const twin = await device.getTwin();
  const report = (patch) => new Promise((resolve, reject) => {
    twin.properties.reported.update(patch, (err) => (err ? reject(err) : resolve()));
  });
  return { twin, report };
};

for (const [name, transport] of [['MQTT', Mqtt], ['MQTT over WebSockets', MqttWs]]) {
  describe(`a device over ${name}`, () => {
    const id = `device-${name.length}`;

    it('answers methods with every kind of payload', async () => {
      const device = await connect(await register(id), transport);
      await echo(device, id);
      for (const payload of [{ lockTime: '10m', list: [1, null] }, 'text', '', 42.5, 0, false, null, [1, 'two', {}], {}]) {
        const { result } = await client.invokeDeviceMethod(id, { methodName: 'echo', payload });
        assert.deepEqual(result, { status: 201, payload });
      }
      const many = await Promise.all(Array.from({ length: 50 }, (_, i) => client.invokeDeviceMethod(id, { methodName: 'echo', payload: i })));
      assert.deepEqual(many.map(({ result }) => result.payload), Array.from({ length: 50 }, (_, i) => i));
    });

    it('may answer with nothing, and never answers what it has no handler for', async () => {
      const quiet = `${id}-quiet`;
      const device = await connect(await register(quiet), transport);
      await echo(device, quiet);
      device.onDeviceMethod('quiet', (request, response) => response.send(204));
      assert.deepEqual((await client.invokeDeviceMethod(quiet, { methodName: 'quiet' })).result, { status: 204, payload: null });

      const before = (await executed(quiet)).methods;
      const calling = refused(client.invokeDeviceMethod(quiet, { methodName: 'nothing', responseTimeoutInSeconds: 30 }),
        { error: 'GatewayTimeoutError', status: 504, name: 'GatewayTimeout', code: 504101 });
      await eventually('the device has the call', async () => (await executed(quiet)).methods > before);
      await advance('31s');
      await calling;
    });

    it('sees desired properties and reports its own', async () => {
      const own = `${id}-twin`;
      const device = await connect(await register(own), transport);
      await registry.updateTwin(own, { tags: { hidden: true }, properties: { desired: { floor: 1, gone: 'soon' } } }, '*');
      const { twin, report } = await twinOf(device);
      assert.equal(twin.properties.desired.floor, 1);
      assert.equal(twin.tags, undefined);

      const deltas = [];
      // The first is what the SDK read before, and goes on changing: keep a copy.
      twin.on('properties.desired', (delta) => deltas.push(structuredClone(delta)));
      // Subscribing is not awaited by the SDK: write until the device hears it.
      let n = 1;
      await eventually('a notification', async () => {
        n += 1;
        await registry.updateTwin(own, { properties: { desired: { floor: n, gone: null } } }, '*');
        return deltas.some((d) => d.floor > 1);
      });
      const heard = deltas.find((d) => d.floor > 1);
      assert.equal(heard.gone, null);
      await eventually('every notification', () => twin.properties.desired.floor === n);
      assert.equal(twin.properties.desired.$version, (await registry.getTwin(own)).responseBody.properties.desired.$version);
      assert.equal('gone' in twin.properties.desired, false);
      const versions = deltas.map((d) => d.$version);
      assert.deepEqual(versions, versions.toSorted((a, b) => a - b));

      // A change of tags tells the device nothing: the next it hears is desired.
      await registry.updateTwin(own, { tags: { hidden: false } }, '*');
      await registry.updateTwin(own, { properties: { desired: { last: true } } }, '*');
      await eventually('the last notification', () => deltas.at(-1).last);
      assert.deepEqual(deltas.at(-1), { last: true, $version: versions.at(-1) + 1 });

      const { responseBody: before } = await registry.getTwin(own);
      await report({ floor: n, firmware: { version: '1.2', old: true } });
      await report({ firmware: { old: null } });
      const { responseBody: seen } = await registry.getTwin(own);
      assert.deepEqual(seen.properties.reported.firmware, { version: '1.2' });
      assert.equal(seen.properties.reported.floor, n);
      assert.match(seen.properties.reported.$metadata.floor.$lastUpdated, /Z$/);
      assert.equal(seen.properties.reported.$version, before.properties.reported.$version + 2);
      assert.equal(seen.etag, before.etag);
      const { rows } = await pages(registry.createQuery(`SELECT deviceId FROM devices WHERE properties.reported.floor = ${n} AND deviceId = '${own}'`));
      assert.deepEqual(rows, [{ deviceId: own }]);
    });

    it('cannot report what no twin holds', async () => {
      const bad = `${id}-bad`;
      const device = await connect(await register(bad), transport);
      const { report } = await twinOf(device);
      await assert.rejects(report({ 'a b': 1 }));
      await report({ good: 1 });
      assert.equal((await registry.getTwin(bad)).responseBody.properties.reported.good, 1);
    });

    it('sends telemetry', async () => {
      const talker = `${id}-talker`;
      const device = await connect(await register(talker), transport);
      const message = new Message(JSON.stringify({ temperature: 21 }));
      message.contentType = 'application/json';
      message.contentEncoding = 'utf-8';
      message.messageId = randomUUID();
      message.properties.add('alert', 'a b/c&d');
      await device.sendEvent(message);
      await device.sendEvent(new Message('plain'));
      await device.sendEvent(new Message(Buffer.from([0, 255, 10])));
      assert.equal((await executed(talker)).messages, 3);
    });
  });
}

const noRetry = { shouldRetry: () => false, nextRetryTimeout: () => -1 };

describe('connections', () => {
  it('show while they last', async () => {
    const cs = await register('seen');
    assert.equal((await registry.getTwin('seen')).responseBody.connectionState, 'Disconnected');
    const device = await connect(cs);
    assert.equal((await registry.getTwin('seen')).responseBody.connectionState, 'Connected');
    await device.close();
    await eventually('the hub notices', async () => (await registry.getTwin('seen')).responseBody.connectionState === 'Disconnected');
  });

  it('without a method handler do not make a device online', async () => {
    await connect(await register('deaf'));
    await refused(client.invokeDeviceMethod('deaf', { methodName: 'any' }), { error: 'Error', status: 404, name: 'DeviceNotOnline', code: 404103 });
  });

  it('that come within connectTimeout get the call', async () => {
    const cs = await register('late');
    const calling = client.invokeDeviceMethod('late', { methodName: 'wake', payload: 'up', connectTimeoutInSeconds: 60 });
    const device = await connect(cs);
    device.onDeviceMethod('wake', (request, response) => response.send(200, request.payload));
    assert.deepEqual((await calling).result, { status: 200, payload: 'up' });
  });

  it('with a wrong key are refused', async () => {
    const cs = await register('wronged');
    await turnedAway(cs.replace(/SharedAccessKey=.*/, `SharedAccessKey=${Buffer.alloc(32, 'x').toString('base64')}`));
    await turnedAway(cs.replace(/SharedAccessKey=.*/, `SharedAccessKey=${Buffer.alloc(32, 'x').toString('base64')}`), MqttWs);
  });

  it('of devices that are unknown or disabled are refused', async () => {
    const cs = await register('barred', { status: 'disabled' });
    await turnedAway(cs);
    await turnedAway(cs.replace('DeviceId=barred', 'DeviceId=nobody'));
  });

  it('are made with the secondary key as well', async () => {
    const { responseBody: device } = await registry.create({ deviceId: 'second' });
    await connect(`HostName=${host};DeviceId=second;SharedAccessKey=${device.authentication.symmetricKey.secondaryKey}`);
  });

  it('of a device that is disabled end', async () => {
    const device = await connect(await register('stopped'));
    const ended = once(device, 'disconnect');
    device.setRetryPolicy(noRetry);
    await registry.update({ deviceId: 'stopped', status: 'disabled' });
    await ended;
  });

  it('of another with the same identity take over', async () => {
    const cs = await register('twice');
    const first = Client.fromConnectionString(cs, Mqtt);
    first.setRetryPolicy(noRetry);
    await first.open();
    const ended = once(first, 'disconnect');
    const second = await connect(cs);
    await ended;
    await echo(second, 'twice');
    assert.equal((await registry.getTwin('twice')).responseBody.connectionState, 'Connected');
    await first.close().catch(() => {});
  });

  it('are made with a token that somebody else signed', async () => {
    const cs = await register('signed');
    const key = /SharedAccessKey=(.*)/.exec(cs)[1];
    const sign = (seconds) => SharedAccessSignature.create(`${host}/devices/signed`, undefined, key, Math.floor(Date.now() / 1000) + seconds).toString();
    const device = Client.fromSharedAccessSignature(sign(3600), Mqtt);
    open.push(device);
    await device.open();
    await device.sendEvent(new Message('signed'));
    assert.equal((await executed('signed')).messages, 1);
    const late = Client.fromSharedAccessSignature(sign(-60), Mqtt);
    const failure = await late.open().then(() => null, (err) => err);
    await late.close().catch(() => {});
    assert.equal(failure?.name, 'UnauthorizedError', `${failure}`);
  });

  it('find what was desired while they were away', async () => {
    const cs = await register('away');
    const before = await connect(cs);
    await before.getTwin();
    await before.close();
    await registry.updateTwin('away', { properties: { desired: { floor: 9 } } }, '*');
    const { twin } = await twinOf(await connect(cs));
    assert.equal(twin.properties.desired.floor, 9);
  });

  it('may name the port of the listener', async () => {
    // Without the redirection: over MQTT the SDK takes a port in HostName.
    const cs = await register('ported');
    await connect(cs.replace(host, `localhost:${process.env.HUB_MQTT_PORT}`));
    assert.equal((await registry.getTwin('ported')).responseBody.connectionState, 'Connected');
  });
});

describe('jobs reach devices that are connected', () => {
  it('with a method and with desired properties', async () => {
    const ids = ['worker-1', 'worker-2'];
    const floors = {};
    for (const id of ids) {
      const device = await connect(await register(id));
      device.onDeviceMethod('lockDoor', (request, response) => response.send(200, { door: id, lockTime: request.payload.lockTime }));
      await echo(device, id);
      const { twin } = await twinOf(device);
      twin.on('properties.desired.floor', (floor) => { floors[id] = floor; });
    }
    const condition = "deviceId IN ['worker-1', 'worker-2']";
    const ended = (id) => eventually(`job ${id} ends`, async () => {
      const { jobStatus } = await jobs.getJob(id);
      return jobStatus.status === 'completed' && jobStatus;
    });

    const lock = randomUUID();
    await jobs.scheduleDeviceMethod(lock, condition, { methodName: 'lockDoor', payload: { lockTime: '10m' } }, new Date(), 60);
    assert.equal((await ended(lock)).deviceJobStatistics.succeededCount, 2);
    const { rows } = await pages(registry.createQuery(`SELECT * FROM devices.jobs WHERE jobId = '${lock}'`));
    assert.deepEqual(rows.map((r) => r.outcome.deviceMethodResponse.payload).sort((a, b) => (a.door < b.door ? -1 : 1)),
      ids.map((door) => ({ door, lockTime: '10m' })));

    await eventually('both hear a job', async () => {
      const move = randomUUID();
      await jobs.scheduleTwinUpdate(move, condition, { etag: '*', properties: { desired: { floor: 3 } } }, new Date(), 60);
      await ended(move);
      return ids.every((id) => floors[id] === 3);
    });
  });
});

for (const [name, transport] of [['MQTT', Mqtt], ['MQTT over WebSockets', MqttWs]]) describe(`a module over ${name}`, () => {
  const carrier = `carrier-${name.length}`;

  it('answers methods and has a twin of its own', async () => {
    await register(carrier);
    await registry.addModule({ deviceId: carrier, moduleId: 'engine' });
    const { responseBody: { authentication: { symmetricKey } } } = await registry.getModule(carrier, 'engine');
    const cs = `HostName=${host};DeviceId=${carrier};ModuleId=engine;SharedAccessKey=`;
    const stranger = ModuleClient.fromConnectionString(cs + Buffer.alloc(32, 'x').toString('base64'), transport);
    await assert.rejects(stranger.open(), { name: 'UnauthorizedError' });
    await stranger.close().catch(() => {});
    const module = ModuleClient.fromConnectionString(cs + symmetricKey.primaryKey, transport);
    open.push(module);
    await module.open();
    module.onMethod('start', (request, response) => response.send(200, { started: request.payload }));
    await eventually('the module takes methods', () => client.invokeDeviceMethod(carrier, 'engine', { methodName: 'start', payload: 1 }).then(() => true, () => false));
    const { result } = await client.invokeDeviceMethod(carrier, 'engine', { methodName: 'start', payload: ['now'] });
    assert.deepEqual(result, { status: 200, payload: { started: ['now'] } });
    const { twin, report } = await twinOf(module);
    await report({ rpm: 900 });
    assert.equal((await registry.getModuleTwin(carrier, 'engine')).responseBody.properties.reported.rpm, 900);
    assert.equal((await registry.getTwin(carrier)).responseBody.properties.reported.rpm, undefined);

    const heard = [];
    twin.on('properties.desired.rpm', (rpm) => heard.push(rpm));
    await registry.updateTwin(carrier, { properties: { desired: { rpm: -1 } } }, '*'); // the device's own, not the module's
    let n = 0;
    await eventually('a notification', async () => {
      n += 1;
      await registry.updateModuleTwin(carrier, 'engine', { properties: { desired: { rpm: n } } }, '*');
      return heard.length > 0;
    });
    assert.ok(heard.every((rpm) => rpm > 0), `${heard}`);
  });
});
