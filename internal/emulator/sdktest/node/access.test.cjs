'use strict';
const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const { Client, JobClient, Registry, SharedAccessSignature } = require('azure-iothub');
const { connectionString, host, policy, refused, executed } = require('./hub.cjs');

const unauthorized = { error: 'UnauthorizedError', status: 401, name: 'IotHubUnauthorizedAccess' };

/** What each kind of client may be asked, by the permission it takes. */
const calls = (cs) => ({
  registryRead: () => Registry.fromConnectionString(cs).get('door-001'),
  registryWrite: () => Registry.fromConnectionString(cs).create({ deviceId: `by-${Math.random()}` }),
  twinRead: () => Registry.fromConnectionString(cs).getTwin('door-001'),
  twinWrite: () => Registry.fromConnectionString(cs).updateTwin('door-001', { tags: { by: 'access' } }, '*'),
  query: () => Registry.fromConnectionString(cs).createQuery('SELECT deviceId FROM devices').next(),
  method: () => Client.fromConnectionString(cs).invokeDeviceMethod('door-001', { methodName: 'echo' }),
});

describe('access', () => {
  it('with a wrong key is refused everywhere, without effect', async () => {
    const wrong = connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${Buffer.alloc(32, 'x').toString('base64')}`);
    const before = await executed('door-001');
    for (const call of Object.values(calls(wrong))) {
      await refused(call(), unauthorized);
    }
    await refused(JobClient.fromConnectionString(wrong).getJob('any'), unauthorized);
    assert.deepEqual(await executed('door-001'), before);
  });

  it('of an unknown policy is refused', async () => {
    await refused(Registry.fromConnectionString(connectionString.replace('iothubowner', 'stranger')).get('door-001'), unauthorized);
  });

  const may = {
    iothubowner: ['registryRead', 'registryWrite', 'twinRead', 'twinWrite', 'query', 'method'],
    service: ['twinRead', 'twinWrite', 'query', 'method'],
    registryRead: ['registryRead'],
    registryReadWrite: ['registryRead', 'registryWrite'],
    device: [],
  };
  for (const [name, allowed] of Object.entries(may)) {
    it(`of policy ${name} is what the documents say`, async () => {
      for (const [what, call] of Object.entries(calls(policy(name)))) {
        if (allowed.includes(what)) {
          await assert.doesNotReject(call(), `${name}: ${what}`);
        } else {
          await refused(call(), unauthorized);
        }
      }
    });
  }

  it('with a token that ended is refused', async () => {
    const key = /SharedAccessKey=(.*)/.exec(connectionString)[1];
    const ended = SharedAccessSignature.create(host, 'iothubowner', key, Math.floor(Date.now() / 1000) - 60).toString();
    await refused(Registry.fromSharedAccessSignature(ended).get('door-001'), unauthorized);
    const good = SharedAccessSignature.create(host, 'iothubowner', key, Math.floor(Date.now() / 1000) + 60).toString();
    await Registry.fromSharedAccessSignature(good).get('door-001');
  });

  it('to a name that the certificate does not have fails before anything is sent', async () => {
    // 127.1 is how inet_aton writes 127.0.0.1: the same listener by another name.
    const other = connectionString.replace(host, '127.1');
    const failure = await Registry.fromConnectionString(other).get('door-001').then(() => null, (err) => err);
    assert.match(`${failure?.message}`, /does not match certificate's altnames/);
    assert.equal(failure.response, undefined);
  });
});
