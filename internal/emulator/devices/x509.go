package devices

import (
	"crypto/sha1" //nolint:gosec // a thumbprint is what the registry has, whatever one thinks of its hash
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"iothub-runner/internal/emulator/store"
)

// This file follows "Authenticate devices with X.509 certificates", section on
// thumbprints.
//
// The handshake has proved that the device holds the certificate's key. Who
// signed the certificate, and when it ends, is looked at by nobody: the registry
// names this very certificate.

// certificate is the one that a device showed when it connected, nil if none.
func (c *deviceConn) certificate() *x509.Certificate {
	below := c.Conn
	if ws, ok := below.(*socketConn); ok {
		below = ws.Conn
	}
	t, ok := below.(*tls.Conn)
	if !ok {
		return nil
	}
	if shown := t.ConnectionState().PeerCertificates; len(shown) > 0 {
		return shown[0]
	}
	return nil
}

// distrustCertificate says what is wrong with a device's certificate, nothing
// if the registry knows its thumbprint.
func (s *Front) distrustCertificate(m store.Subject, cert *x509.Certificate) string {
	ident := s.IdentityOf(m)
	switch {
	case ident.Auth == store.AuthCA:
		return s.distrustAuthority(m)
	case ident.Auth != store.AuthSelfSigned:
		return "the password is no shared access signature"
	case cert == nil:
		return "the device authenticates with a certificate and showed none"
	}
	short, long := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw) //nolint:gosec // as above
	for _, want := range []string{ident.Primary, ident.Secondary} {
		if strings.EqualFold(want, hex.EncodeToString(short[:])) || strings.EqualFold(want, hex.EncodeToString(long[:])) {
			return ""
		}
	}
	return "the device's certificate has neither of its thumbprints"
}

// distrustAuthority tells whoever runs the hub, too: nothing that the device
// could do would help.
func (s *Front) distrustAuthority(m store.Subject) string {
	s.Log.Warn("a device was refused: it authenticates by a certificate authority, which the emulator does not verify; register it with type selfSigned and the thumbprint of its certificate", "device", m.FullID())
	return "the device authenticates by a certificate authority"
}
