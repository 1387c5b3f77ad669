package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority is the certificate authority of one emulated hub.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	Pem  []byte // of cert
	File string // where pem stands; empty in memory
}

// The files of the authority.
const (
	CaFile      = "ca.pem"
	CaKeyFile   = "ca-key.pem"
	caLifetime  = 10 * 365 * 24 * time.Hour
	certLife    = 397 * 24 * time.Hour // the longest that every client accepts
	certHeadway = 24 * time.Hour       // tolerates clients whose clock is behind
)

// OpenAuthority reads the authority in dir, or makes one there. Without a
// directory it makes one in memory.
func OpenAuthority(dir string) (*Authority, error) {
	if dir == "" {
		return newAuthority()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the TLS directory: %w", err)
	}
	a, err := readAuthority(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if a, err = newAuthority(); err != nil {
		return nil, err
	}
	return a, a.write(dir)
}

// newKey makes a key, and a serial number for its certificate.
func newKey() (*ecdsa.PrivateKey, *big.Int, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("choose a serial number: %w", err)
	}
	return key, serial, nil
}

func newAuthority() (*Authority, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "runner emulator CA"},
		NotBefore:             now.Add(-certHeadway),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the CA certificate: %w", err)
	}
	return &Authority{cert: cert, key: key, Pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func (a *Authority) write(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("encode the CA key: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	// The key goes first: a certificate without its key would be taken for a
	// finished authority at the next start.
	if err := WriteSecret(filepath.Join(dir, CaKeyFile), keyPEM); err != nil {
		return err
	}
	a.File = filepath.Join(dir, CaFile)
	return writeFile(a.File, a.Pem, 0o644) // everybody may trust it
}

func readAuthority(dir string) (*Authority, error) {
	file := filepath.Join(dir, CaFile)
	certPEM, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, CaKeyFile))
	if err != nil {
		// Not wrapped: a certificate without key is damage, not a first start.
		return nil, fmt.Errorf("read the CA key beside %q: %v; remove the directory to start afresh", file, err) //nolint:errorlint // wrapping fs.ErrNotExist here would make openAuthority overwrite the certificate
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the CA in %q: %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the CA in %q: want an ECDSA key", dir)
	}
	cert := pair.Leaf
	if time.Now().After(cert.NotAfter) {
		return nil, fmt.Errorf("the CA in %q ended on %s: remove the directory to make another", dir, cert.NotAfter.Format(time.DateOnly))
	}
	return &Authority{cert: cert, key: key, Pem: certPEM, File: file}, nil
}

// ServerConfig signs a certificate for hostName and for the loopback names.
func (a *Authority) ServerConfig(hostName string) (*tls.Config, error) {
	key, serial, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	form := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: hostName},
		NotBefore:    now.Add(-certHeadway),
		NotAfter:     now.Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(hostName); ip != nil {
		form.IPAddresses = append(form.IPAddresses, ip)
	} else {
		form.DNSNames = append(form.DNSNames, hostName)
	}
	if hostName != "localhost" {
		form.DNSNames = append(form.DNSNames, "localhost")
	}
	der, err := x509.CreateCertificate(rand.Reader, form, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the server certificate: %w", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		// Devices may show a certificate, which the registry judges.
		ClientAuth: tls.RequestClientCert,
	}, nil
}

// WriteSecret writes a whole file that only its owner may read. A crash leaves
// the old file or none, never a part.
func WriteSecret(file string, data []byte) error { return writeFile(file, data, 0o600) }

// writeFile writes a whole file with a mode.
func writeFile(file string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write %q: %w", file, err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", file, err), os.Remove(tmp.Name()))
	}
	return nil
}
