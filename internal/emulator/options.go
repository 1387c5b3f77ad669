package emulator

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/core"
	"iothub-runner/internal/emulator/fleet"
)

// Options say what hub to make. The zero value is a hub without devices that
// keeps its keys in memory.
type Options struct {
	HostName  string            // name of the hub, also in its certificate; default "localhost"
	HTTPSAddr string            // default 127.0.0.1:8443; port 0 picks one
	MQTTAddr  string            // empty: devices cannot connect
	AdminAddr string            // of the control endpoint; empty: there is none
	TLSDir    string            // where certificate and keys are kept; empty: in memory only
	StateFile string            // keeps devices, twins and jobs across restarts; needs TLSDir, which keeps the keys
	Fleet     *fleet.Fleet      // nil: the registry starts empty
	Tier      string            // none (default), free, S1, S2 or S3: whose throttles apply
	Units     int               // of the tier; default 1
	Behaviour map[string]string // switches, see [Behaviours]; nil for the defaults
	Entra     *access.Entra     // whose tokens are believed; nil: nobody's
	StartAt   time.Time         // of the hub's own time; zero: now
	Log       *slog.Logger      // nil discards
}

// maxUnits is the largest number of units that a hub of any edition can have.
const maxUnits = 200

// settled returns the options with every default filled in.
func (o Options) settled() (Options, core.Tier, error) {
	t, err := core.ParseTier(o.Tier)
	if err != nil {
		return o, t, err
	}
	if o.Units == 0 {
		o.Units = 1
	}
	if o.Units < 0 || o.Units > maxUnits {
		return o, t, fmt.Errorf("units %d: want 1 to %d", o.Units, maxUnits)
	}
	if o.HostName == "" {
		o.HostName = "localhost"
	}
	if strings.ContainsAny(o.HostName, ":/;= \t\r\n") {
		return o, t, fmt.Errorf("host name %q: want a name without port or path", o.HostName)
	}
	if o.StateFile != "" && o.TLSDir == "" {
		return o, t, errors.New("a state file needs a TLS directory: devices' keys are derived from what is kept there")
	}
	if o.HTTPSAddr == "" {
		o.HTTPSAddr = "127.0.0.1:8443"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, t, nil
}
