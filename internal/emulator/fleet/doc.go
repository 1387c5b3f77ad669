// Package fleet describes simulated devices: what a fleet file says of each,
// computed on demand and the same for the same seed.
//
// A fleet file lists groups of devices by pattern and count. Nothing is stored
// for a device: its twin, its answers, its bad days and its connection follow
// from the file, the seed and the device's number, so that a million devices
// cost what one costs, and a run that is repeated meets the same fleet.
//
// Two kinds of chance are used, and the difference is worth knowing:
//
//   - Shares of devices (who is offline, which site a door belongs to) are
//     exact. A group of 200 devices with `offline: 5%` has ten offline devices
//     under every seed; the seed chooses which ten.
//   - Draws for a call (its latency, one of several outcomes, a fault) are
//     independent draws: 5 % of calls is 5 % in the long run. The same call,
//     that is the nth of the same device, always draws the same.
//
// Draws for one group do not depend on the others, so a group can be added
// without changing what the rest of the fleet does.
//
// The package reads no clock, no network and no environment. It imports
// nothing of ours: a fleet file is not a plan.
package fleet
