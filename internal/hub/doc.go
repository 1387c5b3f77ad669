// Package hub names the things of the IoT Hub service protocol: whom a call
// addresses, what is sent, what comes back and how a call can go wrong.
//
// It holds data only. [iothub-runner/internal/hubclient] speaks these words to
// a hub over HTTPS, and package runner decides with them; neither knows the
// other.
package hub
