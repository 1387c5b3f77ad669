'use strict';
// Loaded before anything else (node --require). Connections to HUB_HOST, and to
// 127.1, which its certificate does not name, end at the emulator's listeners on
// the loopback, whatever the ports are. The SDKs take no port in a connection
// string; what they put on the wire is unchanged: TLS still asks for the name and
// checks the certificate.
const net = require('node:net');

const host = process.env.HUB_HOST;
const ports = { 443: Number(process.env.HUB_HTTPS_PORT), 8883: Number(process.env.HUB_MQTT_PORT) };

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function redirected(...args) {
  const list = Array.isArray(args[0]) ? args[0] : args;
  const options = list[0];
  if (options && typeof options === 'object' && (options.host === host || options.host === '127.1')) {
    const port = ports[options.port];
    if (!port) {
      throw new Error(`the hub ${options.host} does not listen on port ${options.port}`);
    }
    const callback = list.findLast((a) => typeof a === 'function');
    const onward = { ...options, host: '127.0.0.1', port };
    return callback ? connect.call(this, onward, callback) : connect.call(this, onward);
  }
  return connect.apply(this, args);
};
