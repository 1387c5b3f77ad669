// Package journal appends records to a file so that what was acknowledged
// survives a kill, and reads them back.
//
// A journal is a text file of one JSON object a line. The first is a header;
// after it come intents (a call is about to be made), results (how a device
// ended in a job), and the few lines that tell what the cohort of a job is.
// Each line ends in a checksum of itself:
//
//	{"t":"intent","job":"lock","device":"door-1","attempt":1,"at":"…","crc":"9a0b1c2d"}
//
// A line is read only as this package writes it, so that nothing of a later
// version is half understood. A journal has one writer at a time, which holds a
// lock on the file; anybody may read.
//
// The order of the lines is the order in which they were acknowledged. What was
// acknowledged is in the hands of the operating system at least, so a kill of
// the process loses none of it; how much a crash of the machine can lose is
// chosen by [Durability].
//
// What follows the last whole line is a torn tail: it was never acknowledged,
// so it is dropped without a warning. A broken line with a whole one after it
// is damage, and Open refuses.
package journal
