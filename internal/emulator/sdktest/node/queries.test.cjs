'use strict';
const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const { registry, refused, pages } = require('./hub.cjs');

const rows = async (text, size) => pages(registry.createQuery(text, size));

describe('queries', () => {
  it('page, and the pages hold every device once', async () => {
    const { rows: all, sizes } = await rows("SELECT * FROM devices WHERE STARTSWITH(deviceId, 'door-')", 10);
    assert.deepEqual(sizes, [10, 10, 5]);
    const ids = all.map((r) => r.deviceId);
    assert.equal(new Set(ids).size, 25);
    assert.ok(all.every((r) => r.properties && r.etag && r.tags.building === 43));
  });

  it('give twins that can be updated', async () => {
    const query = registry.createQuery("SELECT * FROM devices WHERE deviceId = 'door-009'");
    const { result: [twin] } = await query.nextAsTwin();
    assert.equal(query.hasMoreResults, false);
    await twin.update({ tags: { seen: true } });
    assert.equal((await registry.getTwin('door-009')).responseBody.tags.seen, true);
  });

  it('say what kind of rows they give', async () => {
    const kind = async (text) => (await registry.createQuery(text).next()).message.headers['x-ms-item-type'];
    assert.equal(await kind('SELECT * FROM devices'), 'Twin');
    assert.equal(await kind('SELECT deviceId FROM devices'), 'Raw');
    assert.equal(await kind('SELECT COUNT() AS n FROM devices'), 'Raw');
  });

  it('go on from a token that was kept', async () => {
    const text = "SELECT deviceId FROM devices WHERE STARTSWITH(deviceId, 'door-')";
    const first = registry.createQuery(text, 20);
    const { result: before } = await first.next();
    const second = registry.createQuery(text, 20);
    const { result: after } = await second.next(first.continuationToken);
    assert.equal(new Set([...before, ...after].map((r) => r.deviceId)).size, 25);
    assert.equal(second.hasMoreResults, false);
  });

  it('filter by tags, properties and state', async () => {
    await registry.updateTwin('door-010', { tags: { wing: { name: 'it\'s north' } } }, '*');
    const find = async (condition) => (await rows(`SELECT deviceId FROM devices WHERE ${condition}`)).rows.map((r) => r.deviceId);
    assert.deepEqual(await find(String.raw`tags.wing.name = 'it\'s north'`), ['door-010']);
    assert.deepEqual(await find("deviceId IN ['door-011', 'door-012', 'nobody']"), ['door-011', 'door-012']);
    assert.deepEqual(await find("IS_DEFINED(tags.wing) AND status = 'enabled'"), ['door-010']);
    assert.deepEqual(await find("connectionState = 'Disconnected' AND STARTSWITH(deviceId, 'gone')"), ['gone']);
  });

  it('project and group', async () => {
    const { rows: groups } = await rows("SELECT tags.building AS building, COUNT() AS n FROM devices WHERE STARTSWITH(deviceId, 'door-') GROUP BY tags.building");
    assert.deepEqual(groups, [{ building: 43, n: 25 }]);
    const { rows: [row] } = await rows("SELECT tags.floor AS floor, deviceId AS id FROM devices WHERE deviceId = 'door-013'");
    assert.deepEqual(row, { floor: 1, id: 'door-013' });
  });

  it('that make no sense are refused', async () => {
    for (const text of ['SELECT', 'SELECT * FROM somewhere', "SELECT * FROM devices WHERE deviceId ==== 'a'", 'DROP TABLE devices']) {
      await refused(registry.createQuery(text).next(), { error: 'ArgumentError', status: 400, name: 'ArgumentInvalid' });
    }
  });
});
