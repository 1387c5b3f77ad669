package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the registry knows certificates by it, among others
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"iothub-runner/internal/hubtest/wire"
)

func certificateAssumptions() []Assumption {
	return []Assumption{
		{ID: "A110", Says: "A thumbprint may be that of SHA-1 or that of SHA-256, each the first or the second", Source: "documents on X.509; unconfirmed for MQTT", Expect: "0 0", observe: func(p *probe) string {
			first, second := p.certificate(time.Hour), p.certificate(time.Hour)
			d := p.certified("", first.short(), second.long())
			return p.code(p.shows(d, first)) + " " + p.code(p.shows(d, second))
		}},
		{ID: "A111", Says: "A certificate that is neither of the device's, and none at all, are refused with a CONNACK of code 5", Source: "inferred from what tokens get", Expect: "5 5", observe: func(p *probe) string {
			d := p.certified("", p.certificate(time.Hour).long(), "")
			bare := p.shows(d, p.certificate(time.Hour))
			other := p.code(bare)
			bare.TLS = p.hub.TLS
			return other + " " + p.code(bare)
		}},
		{ID: "A112", Says: "A certificate that has ended is taken all the same: its thumbprint is enough", Source: "inferred: the registry names the very certificate", Expect: "0", observe: func(p *probe) string {
			ended := p.certificate(-time.Hour)
			return p.code(p.shows(p.certified("", ended.long(), ""), ended))
		}},
		{ID: "A113", Says: "A module connects with a certificate of its own", Source: "inferred: modules have the same authentication as devices", Expect: "0", observe: func(p *probe) string {
			c := p.certificate(time.Hour)
			return p.code(p.shows(p.certified("m", c.long(), ""), c))
		}},
	}
}

// certificate is one that signed itself, with its key.
type certificate struct{ tls.Certificate }

func (c certificate) short() string {
	sum := sha1.Sum(c.raw()) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

func (c certificate) long() string {
	sum := sha256.Sum256(c.raw())
	return hex.EncodeToString(sum[:])
}

func (c certificate) raw() []byte {
	if len(c.Certificate.Certificate) == 0 {
		return nil // it could not be made, and the probe knows
	}
	return c.Certificate.Certificate[0]
}

// certificate makes one that ends after a time, or ended before now.
func (p *probe) certificate(life time.Duration) certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.fail(err)
		return certificate{}
	}
	ends := time.Now().Add(life)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: p.prefix}, NotBefore: ends.Add(-24 * time.Hour), NotAfter: ends,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		p.fail(err)
		return certificate{}
	}
	return certificate{tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}}
}

// certified registers a device, or a module of a new one, that has thumbprints
// in place of keys.
func (p *probe) certified(module, primary, secondary string) identity {
	auth := fmt.Sprintf(`{"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":%q,"secondaryThumbprint":%q}}}`, primary, secondary)
	d := p.register()
	if module == "" {
		p.must("PUT", d.device(), auth, "If-Match", `"*"`)
		return d
	}
	p.must("PUT", d.module(module), auth)
	return identity{id: d.id + "/" + module}
}

// shows is what a device says that has a certificate and no password.
func (p *probe) shows(d identity, c certificate) wire.Hello {
	h := p.hello(d)
	h.Password = ""
	h.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if p.hub.TLS != nil {
		h.TLS = p.hub.TLS.Clone()
	}
	h.TLS.Certificates = []tls.Certificate{c.Certificate}
	return h
}
