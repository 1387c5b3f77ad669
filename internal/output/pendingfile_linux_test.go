package output

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMountedFile writes a report to a file that is mounted by itself, where
// this machine lets the test mount one. The other test of writing over shows the
// same without.
func TestMountedFile(t *testing.T) {
	dir := t.TempDir()
	source, place := filepath.Join(dir, "source"), filepath.Join(dir, "report.json")
	for _, name := range []string{source, place} {
		if err := os.WriteFile(name, []byte("old and longer"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := syscall.Mount(source, place, "", syscall.MS_BIND, "")
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Logf("mount: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(place, 0); err != nil {
			t.Error(err)
		}
	}()
	if err := WriteFile(place, []byte("new"), Private); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(source); err != nil || string(got) != "new" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v are left", entries, err)
	}
}
