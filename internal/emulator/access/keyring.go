// Package access says who may ask the hub: keys, tokens and certificates.
package access

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

// Permission is a set of the hub's permissions.
type Permission uint8

// The permissions of a policy.
const (
	RegistryRead Permission = 1 << iota
	RegistryWrite
	ServiceConnect
	DeviceConnect
)

// Policy is one shared access policy.
type Policy struct {
	Name     string
	Allows   Permission
	Keys     [2][]byte // primary, secondary
	Primary  string    // keys[0] as people write it
	Fallback string    // keys[1]
}

// Keyring holds the keys of the policies, and the secret that the keys of
// devices are derived from when nobody chose them.
type Keyring struct {
	Policies []Policy
	Secret   []byte
}

func policyPermissions() []Policy {
	return []Policy{
		{Name: "iothubowner", Allows: RegistryRead | RegistryWrite | ServiceConnect | DeviceConnect},
		{Name: "service", Allows: ServiceConnect},
		{Name: "device", Allows: DeviceConnect},
		{Name: "registryRead", Allows: RegistryRead},
		{Name: "registryReadWrite", Allows: RegistryRead | RegistryWrite},
	}
}

// KeysFile is the name of the file that keeps the keys.
const KeysFile = "keys.json"

// keyFile is what stands in keys.json: base64 all of it.
type keyFile struct {
	Secret   string               `json:"secret"`
	Policies map[string][2]string `json:"policies"`
}

// OpenKeyring reads the keys in dir, or makes them there. Without a directory
// it makes them in memory.
func OpenKeyring(dir string) (*Keyring, error) {
	if dir == "" {
		return newKeyFile().keyring()
	}
	file := filepath.Join(dir, KeysFile)
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		made := newKeyFile()
		if src, err = json.MarshalIndent(made, "", "  "); err != nil {
			return nil, fmt.Errorf("encode the keys: %w", err)
		}
		if err = WriteSecret(file, append(src, '\n')); err != nil {
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
		f.Policies[p.Name] = [2]string{randomKey(), randomKey()}
	}
	return f
}

func randomKey() string {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

func (f keyFile) keyring() (*Keyring, error) {
	secret, err := base64.StdEncoding.DecodeString(f.Secret)
	if err != nil || len(secret) == 0 {
		return nil, fmt.Errorf("the keys' %q is not base64", "secret")
	}
	ring := &Keyring{Secret: secret, Policies: policyPermissions()}
	for i := range ring.Policies {
		p := &ring.Policies[i]
		pair := f.Policies[p.Name]
		p.Primary, p.Fallback = pair[0], pair[1]
		for j, text := range pair {
			if p.Keys[j], err = base64.StdEncoding.DecodeString(text); err != nil || len(p.Keys[j]) == 0 {
				return nil, fmt.Errorf("the keys of policy %q are missing or not base64", p.Name)
			}
		}
	}
	return ring, nil
}

// Policy returns the policy of that name, nil when there is none.
func (k *Keyring) Policy(name string) *Policy {
	for i := range k.Policies {
		if k.Policies[i].Name == name {
			return &k.Policies[i]
		}
	}
	return nil
}

// Derive makes the bytes that belong to a purpose and an id. They are the same
// at every start from the same state, and unguessable without it.
func (k *Keyring) Derive(purpose, id string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.Secret)
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(id))
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	return sum
}

// DeviceKey is a derived key as people write it.
func (k *Keyring) DeviceKey(purpose, id string) string {
	sum := k.Derive(purpose, id)
	return base64.StdEncoding.EncodeToString(sum[:])
}
