package emulator

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// This file follows "Control access to IoT Hub with shared access signatures":
// the policies that a new hub has, and what each allows.

// permission is a set of the hub's permissions.
type permission uint8

const (
	registryRead permission = 1 << iota
	registryWrite
	serviceConnect
	deviceConnect
)

// policy is one shared access policy.
type policy struct {
	name     string
	allows   permission
	keys     [2][]byte // primary, secondary
	primary  string    // keys[0] as people write it
	fallback string    // keys[1]
}

// keyring holds the keys of the policies, and the secret that the keys of
// devices are derived from when nobody chose them.
type keyring struct {
	policies []policy
	secret   []byte
}

func policyPermissions() []policy {
	return []policy{
		{name: "iothubowner", allows: registryRead | registryWrite | serviceConnect | deviceConnect},
		{name: "service", allows: serviceConnect},
		{name: "device", allows: deviceConnect},
		{name: "registryRead", allows: registryRead},
		{name: "registryReadWrite", allows: registryRead | registryWrite},
	}
}

const keysFile = "keys.json"

// keyFile is what stands in keys.json: base64 all of it.
type keyFile struct {
	Secret   string               `json:"secret"`
	Policies map[string][2]string `json:"policies"`
}

// openKeyring reads the keys in dir, or makes them there. Without a directory
// it makes them in memory.
func openKeyring(dir string) (*keyring, error) {
	if dir == "" {
		return newKeyFile().keyring()
	}
	file := filepath.Join(dir, keysFile)
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		made := newKeyFile()
		if src, err = json.MarshalIndent(made, "", "  "); err != nil {
			return nil, fmt.Errorf("encode the keys: %w", err)
		}
		if err = writeSecret(file, append(src, '\n')); err != nil {
			return nil, err
		}
		return made.keyring()
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	var kept keyFile
	if err := json.Unmarshal(src, &kept); err != nil {
		return nil, fmt.Errorf("read the keys in %q: %w", file, err)
	}
	return kept.keyring()
}

func newKeyFile() keyFile {
	f := keyFile{Secret: randomKey(), Policies: map[string][2]string{}}
	for _, p := range policyPermissions() {
		f.Policies[p.name] = [2]string{randomKey(), randomKey()}
	}
	return f
}

func randomKey() string {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

func (f keyFile) keyring() (*keyring, error) {
	secret, err := base64.StdEncoding.DecodeString(f.Secret)
	if err != nil || len(secret) == 0 {
		return nil, fmt.Errorf("the keys' %q is not base64", "secret")
	}
	ring := &keyring{secret: secret, policies: policyPermissions()}
	for i := range ring.policies {
		p := &ring.policies[i]
		pair := f.Policies[p.name]
		p.primary, p.fallback = pair[0], pair[1]
		for j, text := range pair {
			if p.keys[j], err = base64.StdEncoding.DecodeString(text); err != nil || len(p.keys[j]) == 0 {
				return nil, fmt.Errorf("the keys of policy %q are missing or not base64", p.name)
			}
		}
	}
	return ring, nil
}

// policy returns the policy of that name, nil when there is none.
func (k *keyring) policy(name string) *policy {
	for i := range k.policies {
		if k.policies[i].name == name {
			return &k.policies[i]
		}
	}
	return nil
}

// derive makes the bytes that belong to a purpose and an id. They are the same
// at every start from the same state, and unguessable without it.
func (k *keyring) derive(purpose, id string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.secret)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(id))
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	return sum
}

// deviceKey is a derived key as people write it.
func (k *keyring) deviceKey(purpose, id string) string {
	sum := k.derive(purpose, id)
	return base64.StdEncoding.EncodeToString(sum[:])
}
