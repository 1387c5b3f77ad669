'use strict';
// Devices that prove who they are by a certificate of their own.
const assert = require('node:assert/strict');
const { X509Certificate } = require('node:crypto');
const { after, describe, it } = require('node:test');
const { Client, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { host, registry, executed } = require('./hub.cjs');

const cert = process.env.DEVICE_CERTIFICATE;
const key = process.env.DEVICE_KEY;
const { fingerprint, fingerprint256 } = new X509Certificate(cert);
const thumbprint = (print) => print.replaceAll(':', '');

const open = [];
after(() => Promise.all(open.map((device) => device.close().catch(() => {}))));

const register = (deviceId, x509Thumbprint) => registry.create({ deviceId, authentication: { type: 'selfSigned', x509Thumbprint } });

const connect = async (deviceId, transport) => {
  const device = Client.fromConnectionString(`HostName=${host};DeviceId=${deviceId};x509=true`, transport);
  open.push(device);
  await device.setOptions({ cert, key });
  await device.open();
  return device;
};

for (const [name, transport] of [['MQTT', Mqtt], ['MQTT over WebSockets', MqttWs]]) {
  describe(`a certificate over ${name}`, () => {
    const id = `certified-${name.length}`;

    it('lets its device in, by either thumbprint of either length', async () => {
      await register(`${id}-short`, { primaryThumbprint: thumbprint(fingerprint) });
      await register(`${id}-long`, { primaryThumbprint: '0'.repeat(64), secondaryThumbprint: thumbprint(fingerprint256).toLowerCase() });
      for (const own of [`${id}-short`, `${id}-long`]) {
        const device = await connect(own, transport);
        await device.sendEvent(new Message('hello'));
        assert.equal((await executed(own)).messages, 1);
      }
    });

    it('lets nobody else in', async () => {
      await register(`${id}-other`, { primaryThumbprint: 'A'.repeat(40) });
      await registry.create({ deviceId: `${id}-keys` });
      for (const own of [`${id}-other`, `${id}-keys`]) {
        await assert.rejects(connect(own, transport), { name: 'UnauthorizedError' });
      }
    });
  });
}
