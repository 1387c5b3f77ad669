// Command runner changes a fleet of IoT devices from a reviewed file: it reads
// a plan of jobs for an Azure IoT Hub, checks it, carries every job out on its
// schedule and reports each device.
package main

import "os"

// version is set by the linker (make build).
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], environment{
		getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}))
}
