'use strict';
const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const { client, advance, executed, eventually, refused } = require('./hub.cjs');

const invoke = async (id, params) => (await client.invokeDeviceMethod(id, params)).result;

describe('methods', () => {
  const payloads = [
    ['an object', { lockTime: '10m', nested: { list: [1, null, 'x'] } }],
    ['a string', '{"not":"parsed"}'],
    ['an empty string', ''],
    ['a number', 42.5],
    ['zero', 0],
    ['true', true],
    ['false', false],
    ['null', null],
    ['an array', [1, 'two', { three: 3 }, null]],
    ['an empty object', {}],
    ['letters beyond ASCII', 'Tür 4 · 鍵 🔒'],
  ];
  for (const [what, payload] of payloads) {
    it(`carry ${what} there and back`, async () => {
      assert.deepEqual(await invoke('door-001', { methodName: 'echo', payload }), { status: 200, payload });
    });
  }

  it('without payload reach the device with null', async () => {
    assert.deepEqual(await invoke('door-001', { methodName: 'echo' }), { status: 200, payload: null });
  });

  it('give back the status that the device chose', async () => {
    assert.deepEqual(await invoke('door-001', { methodName: 'refuse' }), { status: 409, payload: 'open' });
    assert.equal((await invoke('door-001', { methodName: 'unheardOf' })).status, 501);
  });

  it('reach modules', async () => {
    const { result } = await client.invokeDeviceMethod('hall', 'camera', { methodName: 'echo', payload: [1] });
    assert.deepEqual(result, { status: 200, payload: [1] });
  });

  it('to an unknown device fail for good', async () => {
    await refused(client.invokeDeviceMethod('nobody', { methodName: 'echo' }), { error: 'Error', status: 404, name: 'DeviceNotFound', code: 404001 });
  });

  it('to a device that is offline fail at once', async () => {
    const failure = await refused(client.invokeDeviceMethod('gone', { methodName: 'echo' }), { error: 'Error', status: 404, name: 'DeviceNotOnline', code: 404103 });
    assert.equal(JSON.parse(JSON.parse(failure.responseBody).Message).info.timeout, '00:00:00');
    assert.equal((await executed('gone')).methods, 0);
  });

  it('wait connectTimeout for a device that is offline', async () => {
    const failing = refused(client.invokeDeviceMethod('gone', { methodName: 'echo', connectTimeoutInSeconds: 90 }),
      { error: 'Error', status: 404, name: 'DeviceNotOnline', code: 404103 });
    let settled = false;
    failing.finally(() => { settled = true; });
    await eventually('the call gives up', async () => { await advance('10s'); return settled; });
    assert.equal(JSON.parse(JSON.parse((await failing).responseBody).Message).info.timeout, '00:01:30');
  });

  it('to a device that does not answer time out, having run', async () => {
    const failing = refused(client.invokeDeviceMethod('door-002', { methodName: 'hang', responseTimeoutInSeconds: 60 }),
      { error: 'GatewayTimeoutError', status: 504, name: 'GatewayTimeout', code: 504101 });
    await eventually('the device has the call', async () => (await executed('door-002')).methods === 1);
    await advance('61s');
    await failing;
    assert.equal((await executed('door-002')).methods, 1);
  });

  it('with a timeout out of range are refused', async () => {
    for (const params of [{ responseTimeoutInSeconds: 4 }, { responseTimeoutInSeconds: 301 }, { connectTimeoutInSeconds: 301 }]) {
      await refused(client.invokeDeviceMethod('door-003', { methodName: 'echo', ...params }), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid', code: 400004 });
    }
    assert.equal((await executed('door-003')).methods, 0);
  });

  it('with too large a payload are refused', async () => {
    const failure = await client.invokeDeviceMethod('door-003', { methodName: 'echo', payload: 'x'.repeat(129 * 1024) }).then(() => null, (err) => err);
    assert.equal(failure.response.statusCode, 413);
    assert.equal(failure.response.headers['iothub-errorcode'], 'MessageTooLarge');
  });

  it('that are answered with garbage are a bad gateway', async () => {
    await refused(client.invokeDeviceMethod('door-004', { methodName: 'garble' }), { error: 'BadDeviceResponseError', status: 502, name: 'InvalidResponseWhileProxying' });
  });

  it('are repeated by the SDK when the hub says 503, and only then', async () => {
    assert.deepEqual(await invoke('shaky', { methodName: 'echo', payload: 'again' }), { status: 200, payload: 'again' });
    assert.equal((await executed('shaky')).methods, 1);
  });

  it('run many at a time, each answered for itself', async () => {
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => invoke(`door-0${10 + (i % 15)}`, { methodName: 'echo', payload: i })));
    assert.deepEqual(answers.map((a) => a.payload), Array.from({ length: 200 }, (_, i) => i));
  });
});
