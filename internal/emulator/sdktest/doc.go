// Package sdktest proves that clients which know nothing of the emulator work
// against it: Microsoft's own SDKs for Node, and the unofficial Go ones.
//
// It holds tests only. The Node programs under node/ use the released packages
// that package-lock.json pins, unchanged. They are started with a hub that
// listens on the loopback, and reach it because node/redirect.cjs turns the
// hub's name and ports into the listener's, as a hosts file and a port
// forwarding would.
//
// Where node or npm is missing, or there is no network to fetch the packages
// from, the tests say so in one line and pass; with RUNNER_SDKTEST=require in
// the environment they fail instead, so that CI cannot lose them.
package sdktest
