// Package sdktest proves that clients which know nothing of the emulator work
// against it: Microsoft's own SDKs for Node, Python and Java, and the unofficial
// Go ones.
//
// It holds tests only. The hub is the program that people run, runner emulator,
// in a process of its own, which is controlled through its control endpoint and
// must end well at SIGTERM. It listens on ports that the kernel picks and, where
// they can be had, on 443 and 8883, which some clients do not ask about.
//
// The Node programs under node/ use the released packages that
// package-lock.json pins, unchanged. On other ports they reach the hub because
// node/redirect.cjs turns the hub's name and ports into the listener's, as a
// hosts file and a port forwarding would. The Python programs under python/ use
// those that python/requirements.txt pins, likewise. What the az CLI sends is
// sent there by the library below it, with the models of Microsoft's own client.
//
// Where node, npm, java, the Python or Java SDKs or a port is missing, or there is no network
// to fetch packages from, the tests say so in one line and pass; with
// RUNNER_TEST_FOREIGN=require in the environment they fail instead, so that CI cannot
// lose them.
package sdktest
