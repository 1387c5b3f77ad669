//go:build !unix

package main

import "errors"

// makeFIFO cannot make a named pipe: there are none in the file system here.
func makeFIFO(string) error { return errors.ErrUnsupported }
