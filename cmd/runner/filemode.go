package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/pflag"
)

// fileFlags say who may read the files that a command writes.
type fileFlags struct{ mode string }

func (f *fileFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.mode, "file-mode", "0600", "let files that are written have the mode `MODE`, in octal; they may hold values of variables")
}

// fileMode reads a mode such as 0640. Its owner reads and writes it in any case.
func (f *fileFlags) fileMode() (os.FileMode, error) {
	n, err := strconv.ParseUint(f.mode, 8, 32)
	if err != nil || n > 0o777 || n&0o600 != 0o600 {
		return 0, usageError(fmt.Sprintf("--file-mode %q: want permissions in octal, from 0600 to 0777", f.mode), "0640 lets the group read the file, 0644 everybody")
	}
	return os.FileMode(n), nil
}
