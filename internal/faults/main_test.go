package faults_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// The flags of the package comment.
var (
	kills     = flag.Int("kills", 5, "how many runs to kill and resume")
	seed      = flag.Uint64("seed", 0, "where the instants of the kills come from; 0 chooses one")
	largeSize = flag.Int("fleet", 1500, "devices of the large fleet")
)

// TestMain lets more tests run at once than there are cores: most of them wait
// for a hub that is slow on purpose. The command line may say otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(buildDir()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
