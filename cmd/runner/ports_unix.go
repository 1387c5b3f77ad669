//go:build unix

package main

import (
	"errors"
	"syscall"
)

// portForbidden reports whether a port was not ours to listen on.
func portForbidden(err error) bool { return errors.Is(err, syscall.EACCES) }

// portTaken reports whether another program listens on a port.
func portTaken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

const forbiddenPortHint = "ports below 1024 are root's; on Linux, sudo sysctl net.ipv4.ip_unprivileged_port_start=443 changes that until the next boot"
