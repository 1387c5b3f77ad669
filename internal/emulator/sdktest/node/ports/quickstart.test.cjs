'use strict';
// What a new user writes first: a device and a service program, with nothing
// between them and the hub. It needs the hub on 443 and 8883.
const assert = require('node:assert/strict');
const { it } = require('node:test');
const { Client: Device, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { Client: Service, Registry } = require('azure-iothub');

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
