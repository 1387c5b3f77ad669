package main

import (
	"errors"

	"golang.org/x/sys/windows"
)

// portForbidden reports whether a port was not ours to listen on.
func portForbidden(err error) bool { return errors.Is(err, windows.WSAEACCES) }

// portTaken reports whether another program listens on a port.
func portTaken(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

const forbiddenPortHint = "Windows keeps this port for itself or for another program: netsh interface ipv4 show excludedportrange tcp lists such ports"
