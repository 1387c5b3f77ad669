// Package emulator is an IoT hub and its fleet for development and tests: the
// service API over HTTPS, simulated devices, a clock that tests may move and
// faults that repeat.
//
// [Start] makes a hub that listens; [New] makes one that only has a
// [Server.Handler]. Clients authenticate with shared access signatures that
// are verified for real, get the hub's own status codes, headers and error
// bodies, and reach devices that a [fleet.Fleet] describes or that they
// registered themselves.
//
// The package shares no code with the client in this module. It reads the
// protocol for itself, so that a misreading on one side shows as a
// disagreement instead of being agreed on.
//
// A fleet device costs nothing until it is changed: its identity, keys and
// twin are derived from the fleet file and the hub's secret when somebody
// asks. A changed device is one immutable record behind an atomic pointer, so
// readers take no lock and a query sees each device whole.
//
// Where the real hub's behaviour is not known for certain the choice made here
// is listed in docs/emulator.md. What is not emulated answers 501 and says so.
package emulator
