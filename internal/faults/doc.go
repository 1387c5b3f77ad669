// Package faults holds the program to its first promise: whatever a hub does
// to a run, and wherever the run is killed, its report says of each device what
// that device really did, and no device is called twice.
//
// There is nothing here but tests. They apply plans with the real client, over
// TLS on the loopback, to an emulated hub that misbehaves, and then hold every
// row of the report against what the hub counted. The suites:
//
//   - faults: each fault that the emulator offers, alone and all together;
//   - kills: the built program is killed at random instants and resumed until
//     it ends;
//   - chaos: connections are cut, held and spoilt at any byte, for one run and for
//     two that change the same devices at once;
//   - stages: the same with jobs that need others, wait for devices, read twins
//     or share them, with and without a pinned preview;
//   - the large fleet: one kill in the middle of a large run.
//
// Four flags set how long they take; "make long" uses them all:
//
//	-kills N   how many runs to kill (5)
//	-chaos N   how many runs go over connections that break (200)
//	-seed N    where their instants come from (each run has its own, and says it)
//	-fleet N   devices of the large fleet (3000)
package faults
