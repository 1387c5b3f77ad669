'use strict';
const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const { registry, refused } = require('./hub.cjs');

const read = async (id) => (await registry.getTwin(id)).responseBody;

/** A section without what the hub adds. */
const plain = ({ $metadata, $version, ...rest }) => rest;

describe('twins', () => {
  it('have what the fleet file says', async () => {
    const twin = await read('door-001');
    assert.deepEqual(twin.tags, { building: 43, floor: 1 });
    assert.deepEqual(plain(twin.properties.desired), { locked: true });
    assert.equal(twin.properties.desired.$version, 1);
    assert.match(twin.properties.desired.$metadata.locked.$lastUpdated, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    assert.equal(twin.status, 'enabled');
    assert.equal(twin.connectionState, 'Connected');
    assert.equal(twin.authenticationType, 'sas');
  });

  it('take tags and desired properties in one patch', async () => {
    const before = await read('door-002');
    const { responseBody: after } = await registry.updateTwin('door-002', {
      tags: { floor: 3, building: null },
      properties: { desired: { locked: null, steps: [1, { a: 'b' }], deep: { er: { still: 1.5 } } } },
    }, before.etag);
    assert.deepEqual(after.tags, { floor: 3 });
    assert.deepEqual(plain(after.properties.desired), { steps: [1, { a: 'b' }], deep: { er: { still: 1.5 } } });
    assert.equal(after.properties.desired.$version, before.properties.desired.$version + 1);
    assert.equal(after.properties.desired.$metadata.deep.er.still.$lastUpdatedVersion, after.properties.desired.$version);
    assert.notEqual(after.etag, before.etag);
    assert.equal((await read('door-002')).etag, after.etag);
  });

  it('refuse a stale etag, and a merged retry succeeds', async () => {
    const stale = await read('door-003');
    await registry.updateTwin('door-003', { tags: { owner: 'somebody else' } }, stale.etag);
    await refused(registry.updateTwin('door-003', { tags: { owner: 'me' } }, stale.etag), { error: 'InvalidEtagError', status: 412, name: 'PreconditionFailed' });
    const fresh = await read('door-003');
    assert.equal(fresh.tags.owner, 'somebody else');
    await registry.updateTwin('door-003', { tags: { owner: 'me' } }, fresh.etag);
    assert.equal((await read('door-003')).tags.owner, 'me');
  });

  it('are overwritten with the etag *', async () => {
    const { responseBody: twin } = await registry.updateTwin('door-004', { tags: { forced: true } }, '*');
    assert.equal(twin.tags.forced, true);
    assert.equal(twin.tags.building, 43);
  });

  it('update through the twin object', async () => {
    const twin = await read('door-005');
    await twin.update({ properties: { desired: { interval: 10 } } });
    await twin.update({ properties: { desired: { interval: 20 } } });
    assert.equal((await read('door-005')).properties.desired.interval, 20);
  });

  it('update through the twin object only while nobody else does', async () => {
    const twin = await read('door-009');
    await registry.updateTwin('door-009', { tags: { owner: 'somebody else' } }, '*');
    await refused(twin.update({ tags: { owner: 'me' } }), { error: 'InvalidEtagError', status: 412, name: 'PreconditionFailed' });
    assert.equal((await read('door-009')).tags.owner, 'somebody else');
  });

  it('keep every kind of value as it is', async () => {
    const desired = { text: 'Tür 4 · 鍵 🔒', empty: '', zero: 0, large: 4503599627370495, small: -0.25, yes: true, no: false, list: [1, 'two', [true], {}], object: { of: { objects: {} } } };
    await registry.updateTwin('door-010', { properties: { desired } }, '*');
    const { locked, ...kept } = plain((await read('door-010')).properties.desired);
    assert.equal(locked, true);
    assert.deepEqual(kept, desired);
  });

  it('of nobody are not found', async () => {
    await refused(registry.getTwin('nobody'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
    await refused(registry.updateTwin('nobody', { tags: { a: 1 } }, '*'), { error: 'DeviceNotFoundError', status: 404, name: 'DeviceNotFound' });
  });

  it('refuse what the hub cannot hold', async () => {
    for (const desired of [{ 'a.b': 1 }, { $a: 1 }, { 'a b': 1 }, { list: [null] }, { big: 2 ** 52 }, { long: 'x'.repeat(4097) }]) {
      await refused(registry.updateTwin('door-006', { properties: { desired } }, '*'), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid' });
    }
    assert.deepEqual(plain((await read('door-006')).properties.desired), { locked: true });
  });

  it('of simulated devices follow: reported is what was desired', async () => {
    await registry.updateTwin('door-007', { properties: { desired: { floor: 7 } } }, '*');
    const { properties: { reported } } = await read('door-007');
    assert.equal(reported.floor, 7);
  });

  it('refuse a desired section in the wrong place', async () => {
    await refused(registry.updateTwin('door-008', { desired: { a: 1 } }, '*'), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid' });
  });
});
