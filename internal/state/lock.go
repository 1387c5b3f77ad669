package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"iothub-runner/internal/exit"
)

// holder is what a run writes into its lock file, for the message of others.
// The lock itself is the kernel's, so it cannot be left behind.
type holder struct {
	PID       int       `json:"pid"`
	Host      string    `json:"host"`
	StartedAt time.Time `json:"startedAt"`
}

const lockPoll = 100 * time.Millisecond

// Lock makes sure that this is the only run of the plan on each of its hubs, for up to
// timeout. A rehearsal has its hubs for itself and needs no lock.
func (at Place) Lock(ctx context.Context, timeout time.Duration) (unlock func(), err error) {
	if at.Emulated {
		return func() {}, nil
	}
	var held []func()
	unlock = func() {
		for _, one := range slices.Backward(held) {
			one()
		}
	}
	for _, hub := range slices.Sorted(slices.Values(at.hubs())) { // in one order, so that no two runs wait for each other
		at.Hub = hub
		one, err := at.lockHub(ctx, timeout)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, one)
	}
	return unlock, nil
}

func (at Place) lockHub(ctx context.Context, timeout time.Duration) (unlock func(), err error) {
	dir, err := at.dir()
	if err != nil {
		return nil, err
	}
	first, err := at.lockIn(ctx, dir, timeout)
	if err != nil {
		return nil, err
	}
	// Jobs of a CI or of systemd may each have a state of their own. What they
	// share is the user, whose home is the place where they meet.
	home, err := at.home()
	if err != nil {
		return first, nil //nolint:nilerr // there is no such place
	}
	shared := at.below(home)
	if err = os.MkdirAll(shared, 0o700); err != nil || shared == dir {
		return first, nil //nolint:nilerr // nobody else can lock there either
	}
	second, err := at.lockIn(ctx, shared, timeout)
	if err != nil {
		first()
		return nil, err
	}
	return func() { second(); first() }, nil
}

// lockIn locks a folder of state. Shards of a plan hold that of the plan together,
// so that no run over all devices meets them.
func (at Place) lockIn(ctx context.Context, dir string, timeout time.Duration) (unlock func(), err error) {
	own, err := at.lock(ctx, filepath.Join(dir, "lock"), false, timeout)
	if err != nil || at.Shard.Of == 0 {
		return own, err
	}
	whole, err := at.lock(ctx, filepath.Join(filepath.Dir(dir), "lock"), true, timeout)
	if err != nil {
		own()
		return nil, err
	}
	return func() { whole(); own() }, nil
}

// lock locks one file, alone or together with others, for up to timeout.
func (at Place) lock(ctx context.Context, path string, together bool, timeout time.Duration) (unlock func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o600))
	try, wait := l.TryLock, l.TryLockContext
	if together {
		try, wait = l.TryRLock, l.TryRLockContext
	}
	locked, err := try()
	if err == nil && !locked && timeout > 0 {
		waiting, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		locked, err = wait(waiting, lockPoll)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // said below, with the holder
		}
	}
	if err != nil {
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("lock %s: %w", path, err)}
	}
	if !locked {
		return nil, &exit.Error{
			Code: exit.Locked, Err: fmt.Errorf("another run of plan %s on hub %s is under way: %s", at.Plan, at.Hub, readHolder(holderFile(path))),
			Hint: "wait for it to end (--lock-timeout 10m), or stop it",
		}
	}
	writeHolder(holderFile(path))
	return func() { _ = l.Unlock() }, nil // the kernel unlocks it at the latest when we end
}

func writeHolder(path string) {
	name, _ := os.Hostname() // the message does without
	text, err := json.Marshal(holder{PID: os.Getpid(), Host: name, StartedAt: time.Now().UTC().Truncate(time.Second)})
	if err == nil {
		_ = os.WriteFile(path, append(text, '\n'), 0o600) // for the message alone
	}
}

func readHolder(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // our own lock file
	var h holder
	if err != nil || json.Unmarshal(text, &h) != nil || h.PID == 0 {
		return "holder unknown"
	}
	return fmt.Sprintf("process %d on %s, since %s", h.PID, h.Host, h.StartedAt.Format(time.RFC3339))
}
