package access

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// This file follows "Control access to IoT Hub by using Microsoft Entra ID": whom the
// hub believes, and what each built-in role lets an identity do.

// Audience is what a token for the hub's service APIs is for.
const Audience = "https://iothubs.azure.net"

// Role is a built-in role: the data actions that it allows, below Microsoft.Devices/IotHubs.
type Role struct {
	Name    string
	Actions []string // a star at either end stands for anything
}

// Roles are the built-in ones.
func Roles() []Role {
	return []Role{
		{"IoT Hub Data Contributor", []string{"*"}},
		{"IoT Hub Data Reader", []string{"*/read"}},
		{"IoT Hub Registry Contributor", []string{"devices/*"}},
		{"IoT Hub Twin Contributor", []string{"twins/*"}},
	}
}

// Lets tells whether the role allows an action.
func (r *Role) Lets(action string) bool {
	for _, a := range r.Actions {
		start, end := strings.CutSuffix(a, "*")
		if end && strings.HasPrefix(action, start) {
			return true
		}
		if rest, star := strings.CutPrefix(a, "*"); star && strings.HasSuffix(action, rest) {
			return true
		}
	}
	return false
}

// Entra believes tokens of one issuer, by its keys.
type Entra struct {
	issuer string
	keys   map[string]*rsa.PublicKey
	roles  map[string]Role // by the object id of an identity; nil: everybody may do all
}

// OpenEntra reads the keys of an issuer from a JWKS file. Roles are the names of roles by
// object id; without any, everybody has the first.
func OpenEntra(issuer, jwks string, roles map[string]string) (*Entra, error) {
	text, err := os.ReadFile(jwks)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's keys: %w", err)
	}
	var set struct {
		Keys []struct{ Kty, Kid, N, E string }
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read the issuer's keys in %q: %w", jwks, err)
	}
	e := &Entra{issuer: issuer, keys: map[string]*rsa.PublicKey{}}
	for _, k := range set.Keys {
		n, err := base64.RawURLEncoding.DecodeString(k.N)
		exponent, expErr := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kty != "RSA" || err != nil || expErr != nil || len(n) == 0 {
			continue // keys of other kinds sign nothing that we are sent
		}
		e.keys[k.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(exponent).Int64())}
	}
	if len(e.keys) == 0 {
		return nil, fmt.Errorf("the issuer's keys in %q hold no RSA key", jwks)
	}
	for id, name := range roles {
		role, err := roleNamed(name)
		if err != nil {
			return nil, err
		}
		if e.roles == nil {
			e.roles = map[string]Role{}
		}
		e.roles[id] = role
	}
	return e, nil
}

func roleNamed(name string) (Role, error) {
	var names []string
	for _, r := range Roles() {
		if strings.EqualFold(r.Name, name) {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Role{}, fmt.Errorf("there is no role %q; there are %s", name, strings.Join(names, ", "))
}

// claims are those that the hub looks at.
type claims struct {
	jwt.RegisteredClaims

	Tenant string `json:"tid"`
	Object string `json:"oid"`
}

// Verify returns what the holder of a token may do.
func (e *Entra) Verify(text string, now time.Time) (*Grant, error) {
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		if key := e.keys[id]; key != nil {
			return key, nil
		}
		return nil, errors.New("the issuer has no such key")
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(e.issuer), jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now }), jwt.WithAudience(Audience))
	if err != nil {
		return nil, err
	}
	if c.Tenant != "" && !strings.Contains(e.issuer, c.Tenant) {
		return nil, errors.New("the token is of another tenant")
	}
	g := &Grant{Allows: RegistryRead | RegistryWrite | ServiceConnect, Expires: c.ExpiresAt.Time, Principal: c.Object, Role: &Role{Name: "none"}}
	if role, ok := e.roles[c.Object]; ok {
		g.Role = &role
	} else if e.roles == nil {
		g.Role = &Roles()[0]
	}
	return g, nil
}
