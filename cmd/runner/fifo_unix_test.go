//go:build unix

package main

import "syscall"

// makeFIFO makes a named pipe.
func makeFIFO(name string) error { return syscall.Mkfifo(name, 0o600) }
