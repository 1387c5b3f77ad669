'use strict';
// What the test programs share: clients of the hub under test, and a hand on
// the emulator that serves it.
const assert = require('node:assert/strict');
const http = require('node:http');
const { Client, JobClient, Registry } = require('azure-iothub');

const connectionString = process.env.HUB_CONNECTION_STRING;

exports.host = process.env.HUB_HOST;
exports.connectionString = connectionString;
exports.registry = Registry.fromConnectionString(connectionString);
exports.jobs = JobClient.fromConnectionString(connectionString);
exports.client = Client.fromConnectionString(connectionString);

/** The connection string of a policy other than iothubowner. */
exports.policy = (name) => JSON.parse(process.env.HUB_POLICIES)[name];

/** The emulator's control endpoint, which no hub has. */
function control(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port: Number(process.env.HUB_ADMIN_PORT), path, method }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => { text += part; });
      response.on('end', () => (response.statusCode < 300 ? resolve(text && JSON.parse(text)) : reject(new Error(`${path}: ${text}`))));
    });
    request.on('error', reject);
    request.end(body && JSON.stringify(body));
  });
}

/** Moves the hub's clock forward, by a Go duration. */
exports.advance = (by) => control('POST', '/v1/clock', { advance: by });

/** What a device really did: {methods, patches, messages}. */
exports.executed = (id) => control('GET', `/v1/executed/${encodeURIComponent(id)}`);

/** Connects or disconnects a simulated device. */
exports.setOnline = (id, online) => control('PUT', `/v1/devices/${encodeURIComponent(id)}/presence`, { online });

/** Queues a cloud-to-device message: {messageId, properties, body}. Services send them over AMQP. */
exports.send = (id, message) => control('POST', `/v1/devices/${encodeURIComponent(id)}/messages`, message);

/** The messages that wait for a device, a line of JSON each. */
exports.queued = (id) => control('GET', `/v1/devices/${encodeURIComponent(id)}/messages`);

/**
 * Asks again until probe returns something true, and returns that. It fails
 * when the deadline passes first.
 */
exports.eventually = async (what, probe, seconds = 20) => {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const got = await probe();
    if (got) {
      return got;
    }
    assert.ok(Date.now() < deadline, `${what}: not within ${seconds} s`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
};

/**
 * Expects the promise to fail with an error of this class, and the hub's
 * status, error name and number beneath it. Returns the error.
 */
exports.refused = async (promise, { error, status, name, code }) => {
  let failure;
  await assert.rejects(promise, (err) => { failure = err; return true; });
  assert.equal(failure.constructor.name, error, `${failure}`);
  assert.equal(failure.response.statusCode, status, failure.responseBody);
  assert.equal(failure.response.headers['iothub-errorcode'], name, failure.responseBody);
  if (code) {
    const inner = JSON.parse(JSON.parse(failure.responseBody).Message);
    assert.equal(inner.errorCode, code, failure.responseBody);
    assert.match(inner.trackingId, /^[0-9a-f]{32}-/i);
  }
  return failure;
};

/**
 * All rows of a query, page by page, with the pages' sizes. next() without
 * callback does not go on from the page before by itself: the token is ours to
 * hand back.
 */
exports.pages = async (query) => {
  const rows = [];
  const sizes = [];
  do {
    const { result } = await query.next(query.continuationToken);
    rows.push(...result);
    sizes.push(result.length);
  } while (query.hasMoreResults);
  return { rows, sizes };
};
