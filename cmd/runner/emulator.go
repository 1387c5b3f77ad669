package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"

	"iothub-runner/internal/emulator"
	"iothub-runner/internal/emulator/access"
	"iothub-runner/internal/emulator/fleet"
	"iothub-runner/internal/exit"
	"iothub-runner/internal/hubclient"
	"iothub-runner/internal/output"
	"iothub-runner/internal/terminal"
)

// deviceStringVar is the variable of examples/device and of Microsoft's samples.
const deviceStringVar = "IOTHUB_DEVICE_CONNECTION_STRING"

// emulatorFlags are the flags of runner emulator.
type emulatorFlags struct {
	talkFlags
	https     string
	mqtt      string
	hostName  string
	tlsDir    string
	readyFile string
	fleet     string
	tier      string
	units     int
	behaviour map[string]string
	state     string
	admin     string
	devices   []string
	issuer    string
	jwks      string
	roles     map[string]string
}

func newEmulator(env environment) *cobra.Command {
	var f emulatorFlags
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "serve an emulated IoT hub on this machine",
		Long: `emulator serves the REST API of an IoT Hub, with a registry, twins, methods and
queries, for the devices of a fleet file or for none. It runs until interrupted.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.units < 1 {
				return exit.Usage(fmt.Sprintf("--units %d: want at least 1", f.units), "")
			}
			return runEmulator(cmd.Context(), env, &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.https, "https", "127.0.0.1:8443", "serve the service API at `ADDR` (port 0 picks one)")
	flags.StringVar(&f.mqtt, "mqtt", "127.0.0.1:8883", "serve devices at `ADDR` (port 0 picks one)")
	flags.StringVar(&f.hostName, "hostname", "localhost", "`NAME` of the hub, also in its certificate")
	flags.StringVar(&f.tlsDir, "tls-dir", "", "keep ca.pem and the keys in `DIR` (default: new ones at each start)")
	flags.StringVar(&f.readyFile, "ready-file", "", "write `FILE` when all listeners accept: addresses, CA and connection string, as JSON")
	flags.StringVar(&f.fleet, "fleet", "", "simulate the devices of `FILE` (default: an empty registry)")
	flags.StringVar(&f.tier, "tier", "none", "apply the throttles of this `TIER`: none, free, S1, S2 or S3")
	flags.IntVar(&f.units, "units", 1, "`N` units of the tier")
	flags.StringToStringVar(&f.behaviour, "behaviour", nil, "switch what is not known of the real hub, `NAME=VALUE`; docs/emulator.md lists the switches")
	flags.StringVar(&f.state, "state", "", "keep devices, twins and jobs in `FILE`; needs --tls-dir")
	flags.StringVar(&f.admin, "admin", "", "serve the control endpoint for tests at `ADDR` (default: not at all)")
	flags.StringArrayVar(&f.devices, "device", nil, "register the device `ID` if it is missing, and print its connection string (may be repeated)")
	flags.StringVar(&f.issuer, "entra-issuer", "", "believe Entra ID tokens of this `ISSUER`, such as https://login.microsoftonline.com/TENANT/v2.0; goes with --entra-jwks")
	flags.StringVar(&f.jwks, "entra-jwks", "", "the issuer's keys, a JWKS in `FILE`")
	flags.StringToStringVar(&f.roles, "entra-role", nil, "give the identity of an object id a role, `OBJECT_ID=ROLE` (default: all are IoT Hub Data Contributor; may be repeated)")
	f.add(flags)
	return cmd
}

// entra opens the issuer whose tokens are believed; nil for none.
func (f *emulatorFlags) entra() (*access.Entra, error) {
	switch {
	case f.issuer == "" && f.jwks == "" && len(f.roles) == 0:
		return nil, nil //nolint:nilnil // none, and no error
	case f.issuer == "" || f.jwks == "":
		return nil, exit.Usage("--entra-issuer and --entra-jwks go together", "")
	}
	e, err := access.OpenEntra(f.issuer, f.jwks, f.roles)
	if err != nil {
		return nil, exit.Usage("--entra-issuer: "+err.Error(), "")
	}
	return e, nil
}

// ready is the content of --ready-file.
type ready struct {
	HostName                string `json:"hostName"`
	HTTPSAddr               string `json:"httpsAddr"`
	MQTTAddr                string `json:"mqttAddr"`
	AdminAddr               string `json:"adminAddr,omitempty"`
	CAFile                  string `json:"caFile"`
	ServiceConnectionString string `json:"serviceConnectionString"`
	// DeviceConnectionStrings are those of the devices of --device, by id.
	DeviceConnectionStrings map[string]string `json:"deviceConnectionStrings,omitempty"`
}

func runEmulator(ctx context.Context, env environment, f *emulatorFlags) error {
	ctx, stop := signal.NotifyContext(ctx, terminal.Ends()...)
	defer stop()
	talk, err := f.talk(env)
	if err != nil {
		return err
	}
	env.detach()
	env.showsKeys()
	devices, err := loadFleet(f.fleet)
	if err != nil {
		return err
	}
	issuer, err := f.entra()
	if err != nil {
		return err
	}
	readyFile, err := output.Replaced(f.readyFile)
	if err != nil {
		return exit.Usage(fmt.Sprintf("--ready-file %q: %v", f.readyFile, output.Reason(err)), "name a file that can be written")
	}
	f.readyFile = readyFile
	server, err := emulator.Start(emulator.Options{
		HostName: f.hostName, HTTPSAddr: f.https, MQTTAddr: f.mqtt, TLSDir: f.tlsDir,
		AdminAddr: f.admin, StateFile: f.state, Behaviour: f.behaviour,
		Fleet: devices, Tier: f.tier, Units: f.units, Entra: issuer, Log: talk.Log,
	})
	if err != nil {
		return &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("start emulator: %w", err), Hint: startHint(err)}
	}
	caFile, err := announce(server, f, talk)
	if err != nil {
		return errors.Join(err, server.Close())
	}
	<-ctx.Done()
	talk.Line("emulator: stopping")
	if f.tlsDir == "" {
		_ = os.Remove(caFile) // a certificate of a hub that is gone; harmless if it stays
	}
	if f.readyFile != "" {
		_ = os.Remove(f.readyFile) // so that nobody takes the next hub for ready too early
	}
	if err := server.Close(); err != nil {
		return &exit.Error{Code: exit.Internal, Err: fmt.Errorf("stop emulator: %w", err)}
	}
	return nil
}

// startHint helps with the ports that a new user asks for.
func startHint(err error) string {
	switch {
	case portForbidden(err):
		return forbiddenPortHint
	case portTaken(err):
		return "something listens there already, perhaps another emulator; --https, --mqtt and --admin choose other ports, and port 0 picks one"
	}
	return ""
}

// announce tells people and programs where the emulator is.
func announce(server *emulator.Server, f *emulatorFlags, talk *terminal.Talk) (caFile string, err error) {
	if caFile = server.CAFile(); caFile != "" {
		if caFile, err = filepath.Abs(caFile); err != nil { // readers have folders of their own
			return "", fmt.Errorf("name the CA file: %w", err)
		}
	} else {
		if caFile, err = writeTempCA(server.CAPEM()); err != nil {
			return "", err
		}
	}
	r := ready{
		HostName: server.HostName(), HTTPSAddr: server.HTTPSAddr(), MQTTAddr: server.MQTTAddr(), AdminAddr: server.AdminAddr(),
		CAFile: caFile, ServiceConnectionString: server.ConnectionString(),
		DeviceConnectionStrings: map[string]string{},
	}
	for _, id := range f.devices {
		if r.DeviceConnectionStrings[id], err = server.AddDevice(id); err != nil {
			return "", exit.Usage("--device "+err.Error(), "")
		}
	}
	if f.readyFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return "", fmt.Errorf("encode ready file: %w", err)
		}
		if err := output.WriteFile(f.readyFile, append(text, '\n'), output.Private); err != nil {
			return "", &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("--ready-file %q: %w", f.readyFile, output.Reason(err))}
		}
	}
	talk.Line(fmt.Sprintf("emulator: hub %s, service API at %s, devices at %s", r.HostName, r.HTTPSAddr, r.MQTTAddr),
		slog.String("event", "ready"), slog.String("hostName", r.HostName), slog.String("httpsAddr", r.HTTPSAddr), slog.String("mqttAddr", r.MQTTAddr))
	if r.AdminAddr != "" {
		talk.Line("emulator: control at http://"+r.AdminAddr, slog.String("adminAddr", r.AdminAddr))
	}
	talk.Line("emulator: trust it with SSL_CERT_FILE="+caFile+" or --ca-file "+caFile, slog.String("caFile", caFile))
	if f.readyFile == "" {
		talk.Line("emulator: "+connectionStringVar+"='"+r.ServiceConnectionString+"'", slog.String("serviceConnectionString", r.ServiceConnectionString))
		for _, id := range f.devices {
			cs := r.DeviceConnectionStrings[id]
			talk.Line("emulator: "+deviceStringVar+"='"+cs+"'", slog.String("device", id), slog.String("deviceConnectionString", cs))
		}
	}
	return caFile, nil
}

func writeTempCA(pem []byte) (string, error) {
	f, err := os.CreateTemp("", "runner-ca-*.pem")
	if err != nil {
		return "", &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("write CA: %w", err)}
	}
	_, err = f.Write(pem)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil { // everybody may trust it
		return "", &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("write CA: %w", err)}
	}
	return f.Name(), nil
}

// loadFleet reads a fleet file; nil for no file.
func loadFleet(file string) (*fleet.Fleet, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // the emulator's word for an empty registry
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, &exit.Error{Code: exit.Invalid, Err: fmt.Errorf("read fleet %q: %w", file, output.Reason(err)), Hint: "name a fleet file: --emulator=FLEET.yaml, or --emulator alone for the built-in one"}
	}
	devices, err := fleet.Parse(file, src)
	if err != nil {
		return nil, &exit.Error{Code: exit.Invalid, Err: err}
	}
	return devices, nil
}

// openEmulator starts a hub and a fleet in this process, for a rehearsal.
func openEmulator(file string, like emulatedHub, c connection, connections int, log *slog.Logger) (*hubclient.Client, *emulator.Server, error) {
	devices := fleet.Default()
	if file != builtinFleet {
		var err error
		if devices, err = loadFleet(file); err != nil {
			return nil, nil, err
		}
	}
	server, err := emulator.Start(emulator.Options{HTTPSAddr: "127.0.0.1:0", Fleet: devices, StartAt: like.at, Tier: like.tier})
	if err != nil && like.tier != "" {
		return nil, nil, exit.Usage(fmt.Sprintf("--tier %q: %v", like.tier, err), "")
	}
	if err != nil {
		return nil, nil, &exit.Error{Code: exit.Internal, Err: fmt.Errorf("start emulator: %w", err)}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CAPEM())
	client, err := hubclient.New(hubclient.Options{
		ConnectionString: server.ConnectionString(), Connections: connections,
		RootCAs: roots, UserAgent: "runner/" + version, TraceParent: c.trace, Log: log,
	})
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return client, server, nil
}
