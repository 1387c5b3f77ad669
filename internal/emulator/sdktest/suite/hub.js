// What the suite shares: the two ends of the hub, made from the environment
// that sdk_test.go sets.
'use strict';

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { inspect } = require('node:util');
const { Client: DeviceClient, ModuleClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Registry, Client: ServiceClient, JobClient } = require('azure-iothub');

const service = process.env.HUB_SERVICE_CONNECTION_STRING;
const deviceHost = process.env.HUB_DEVICE_HOST;
assert.ok(service && deviceHost, 'HUB_SERVICE_CONNECTION_STRING and HUB_DEVICE_HOST are set by sdk_test.go');

// The clients for services and for web sockets only know port 443, which a test
// cannot have. A detour below them, as a port forwarding would be one, leaves
// them as they are.
const tls = require('node:tls');
const direct = tls.connect;
tls.connect = function detour(options, ...rest) {
  const forward = Number(options.port) === 443 && process.env.HUB_HTTPS_PORT;
  return direct.call(this, forward ? { ...options, port: Number(forward) } : options, ...rest);
};

const registry = Registry.fromConnectionString(service);
const caller = ServiceClient.fromConnectionString(service);
const jobs = JobClient.fromConnectionString(service);

/** A new id, so that no test meets another's devices. */
const newId = (what) => `${what}-${randomUUID()}`;

/** Registers a device and returns what the hub says of it. */
async function register(extra = {}) {
  const { responseBody } = await registry.create({ deviceId: newId('node'), ...extra });
  return responseBody;
}

function connectionString(device, key = device.authentication.symmetricKey.primaryKey, transport = Mqtt) {
  const module = device.moduleId ? `;ModuleId=${device.moduleId}` : '';
  const host = transport === Mqtt ? deviceHost : deviceHost.split(':')[0];
  return `HostName=${host};DeviceId=${device.deviceId}${module};SharedAccessKey=${key}`;
}

/** Connects a device for the length of a test. */
async function connect(t, device, key, transport = Mqtt) {
  const kind = device.moduleId ? ModuleClient : DeviceClient;
  const client = kind.fromConnectionString(connectionString(device, key, transport), transport);
  t.after(() => client.close().catch(() => {}));
  await client.open();
  return client;
}

/** Registers a device and connects it. */
async function online(t, extra) {
  const device = await register(extra);
  return { id: device.deviceId, device, client: await connect(t, device) };
}

/** The next call of a callback-style listener. */
const next = (subscribe) => new Promise((resolve) => subscribe(resolve));

/** Rejects with the hub's error: its HTTP status and its words. */
async function refused(promise, status, words) {
  await assert.rejects(promise, (err) => {
    const got = err.response ? err.response.statusCode : undefined;
    assert.equal(got, status, `${err.name}: ${err.message} ${err.responseBody}`);
    assert.match(`${err.name} ${err.message} ${err.responseBody}`, words);
    return true;
  });
}

/** Asks again until the answer is good, up to a time. */
async function until(ask, good, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (good(answer)) return answer;
    assert.ok(Date.now() < end, `not so within ${seconds} s: ${inspect(answer, { depth: 1 })}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** All rows of a query, page by page, with the size of each page. */
async function rows(query) {
  const all = [];
  const pages = [];
  while (query.hasMoreResults) {
    // Without the token, the promise form of next begins anew.
    const { result } = await query.next(query.continuationToken);
    pages.push(result.length);
    all.push(...result);
  }
  return { all, pages };
}

module.exports = {
  assert, registry, caller, jobs, newId, register, connect, connectionString, online, next, refused, until, rows,
};
