'use strict';
// What a new user writes first: a device and a service program, with nothing
// between them and the hub. It needs the hub on 443 and 8883.
const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { it } = require('node:test');
const { Client: Device, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Client: Service, JobClient, Registry } = require('azure-iothub');

const connectionString = process.env.HUB_CONNECTION_STRING;

for (const [name, transport] of [['8883', Mqtt], ['443', MqttWs]]) {
  it(`a device on port ${name} and a service on port 443 meet`, async () => {
    const registry = Registry.fromConnectionString(connectionString);
    const deviceId = `quickstart-${name}`;
    const { responseBody: { authentication } } = await registry.create({ deviceId });
    const host = /HostName=([^;]*)/.exec(connectionString)[1];
    assert.equal(host, 'localhost');

    const device = Device.fromConnectionString(`HostName=${host};DeviceId=${deviceId};SharedAccessKey=${authentication.symmetricKey.primaryKey}`, transport);
    await device.open();
    device.onDeviceMethod('start', (request, response) => response.send(200, `started with ${request.payload}`));
    await device.sendEvent(new Message('hello'));

    const service = Service.fromConnectionString(connectionString);
    const { result } = await service.invokeDeviceMethod(deviceId, { methodName: 'start', payload: 7, connectTimeoutInSeconds: 10 });
    assert.deepEqual(result, { status: 200, payload: 'started with 7' });
    await device.close();
  });
}

// The classic quickstarts, one after the other and in their style: callbacks
// and no options. Telemetry at an interval that a method sets, a twin with tags
// that a query finds, a reported property that another finds, and both jobs,
// looked at until they end.
it('telemetry, a method, twins and jobs, all with callbacks', async () => {
  const called = (start) => new Promise((resolve, reject) => {
    start((err, result) => (err ? reject(err) : resolve(result)));
  });
  const registry = Registry.fromConnectionString(connectionString);
  const { authentication } = await called((done) => registry.create({ deviceId: 'classic' }, done));
  const device = Device.fromConnectionString(`HostName=localhost;DeviceId=classic;SharedAccessKey=${authentication.symmetricKey.primaryKey}`, Mqtt);

  // No open: the first message connects.
  let sent = 0;
  const tick = () => device.sendEvent(new Message(JSON.stringify({ temperature: 21 })), (err) => { sent += err ? 0 : 1; });
  let timer = setInterval(tick, 50);
  device.onDeviceMethod('SetTelemetryInterval', (request, response) => {
    clearInterval(timer);
    timer = setInterval(tick, request.payload);
    response.send(200, `interval ${request.payload}`, (err) => assert.ifError(err));
  });

  const service = Service.fromConnectionString(connectionString);
  const result = await called((done) => service.invokeDeviceMethod('classic', { methodName: 'SetTelemetryInterval', payload: 10, connectTimeoutInSeconds: 10 }, done));
  assert.deepEqual(result, { status: 200, payload: 'interval 10' });

  const twin = await called((done) => registry.getTwin('classic', done));
  await called((done) => twin.update({ tags: { location: { region: 'US', plant: 'Redmond43' } } }, done));
  const own = await called((done) => device.getTwin(done));
  await called((done) => own.properties.reported.update({ connectivity: { type: 'cellular' } }, done));
  for (const more of ['', " AND properties.reported.connectivity.type = 'cellular'"]) {
    const query = registry.createQuery(`SELECT * FROM devices WHERE tags.location.plant = 'Redmond43'${more}`, 100);
    assert.deepEqual((await called((done) => query.nextAsTwin(done))).map((t) => t.deviceId), ['classic']);
  }

  const jobs = JobClient.fromConnectionString(connectionString);
  const ended = async (id) => {
    for (;;) {
      const job = await called((done) => jobs.getJob(id, done));
      if (['completed', 'failed', 'cancelled'].includes(job.status)) {
        return [job.status, job.deviceJobStatistics.succeededCount];
      }
    }
  };
  const [method, update] = [randomUUID(), randomUUID()];
  await called((done) => jobs.scheduleDeviceMethod(method, "deviceId IN ['classic']", { methodName: 'SetTelemetryInterval', payload: 20, responseTimeoutInSeconds: 15 }, new Date(), 300, done));
  assert.deepEqual(await ended(method), ['completed', 1]);
  await called((done) => jobs.scheduleTwinUpdate(update, "deviceId IN ['classic']", { etag: '*', properties: { desired: { building: '43', floor: 3 } } }, new Date(), 300, done));
  assert.deepEqual(await ended(update), ['completed', 1]);
  assert.equal((await called((done) => registry.getTwin('classic', done))).properties.desired.floor, 3);

  clearInterval(timer);
  await called((done) => device.close(done));
  assert.ok(sent > 0, 'the device sent nothing');
});
