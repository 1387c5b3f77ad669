package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"

	"github.com/amenzhinsky/iothub/iotdevice"
	"github.com/amenzhinsky/iothub/iotdevice/transport"
)

// device is a door: it can be locked, and does as it is told.
type device struct {
	client *iotdevice.Client

	mu  sync.Mutex
	out io.Writer // guarded by mu
}

// serve registers what the device can do and follows its desired properties
// until ctx ends.
func (d *device) serve(ctx context.Context, tr transport.Transport) error {
	// The library's own handlers take objects only, and leave a call of an
	// unknown method without an answer. The raw ones take what the hub sends.
	if err := tr.RegisterDirectMethods(ctx, d); err != nil {
		return fmt.Errorf("subscribe to methods: %w", err)
	}
	// First subscribe, then read: no change falls between the two.
	updates, err := d.client.SubscribeTwinUpdates(ctx)
	if err != nil {
		return fmt.Errorf("subscribe to desired properties: %w", err)
	}
	desired, _, err := d.client.RetrieveTwinState(ctx)
	if err != nil {
		return fmt.Errorf("read the twin: %w", err)
	}
	d.say("connected as %s", d.client.DeviceID())
	seen := desired.Version()
	if err := d.follow(ctx, desired); err != nil {
		return err
	}
	for {
		select {
		case patch, open := <-updates.C():
			if !open {
				return updates.Err()
			}
			if patch.Version() <= seen {
				continue // it was part of what was read
			}
			seen = patch.Version()
			if err := d.follow(ctx, patch); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// follow does what is desired, which for a simulated door is to say that it is
// done.
func (d *device) follow(ctx context.Context, desired iotdevice.TwinState) error {
	patch := maps.Clone(desired)
	maps.DeleteFunc(patch, func(key string, _ any) bool { return strings.HasPrefix(key, "$") })
	if len(patch) == 0 {
		return nil
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode the desired properties: %w", err)
	}
	d.say("desired %s", text)
	version, err := d.client.UpdateTwinState(ctx, patch)
	if err != nil {
		return fmt.Errorf("report properties: %w", err)
	}
	d.say("reported, version %d", version)
	return nil
}

// Dispatch answers a method. It is called by one goroutine of the client's.
func (d *device) Dispatch(name string, payload []byte) (status int, answer []byte, err error) {
	d.say("%s called with %s", name, payload)
	if name != "lockDoor" {
		return 404, []byte(`{"error":"this door only knows lockDoor"}`), nil
	}
	return 200, []byte(`{"Response":"lockDoor called successfully"}`), nil
}

func (d *device) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, format+"\n", args...)
}
