package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"minato.example/internal/ca"
)

// ServerConfig is what the hub's listeners need. CA and Certificate are
// required.
type ServerConfig struct {
	// CA of the port: who it signed may come in.
	CA *x509.Certificate
	// Certificate gives the hub's certificate for the next handshake, so that
	// it is renewed without a restart. The chain is completed with CA.
	Certificate func() *tls.Certificate
	// Admit refuses a peer in the handshake, e.g. one that is revoked. Nil
	// admits all that the CA signed.
	Admit func(ca.Peer) error
	// RequireClient demands a certificate in the handshake (NATS). Without it
	// a node may come without one, to join, and each method decides (gRPC).
	RequireClient bool
	// Groups for the key agreement; none means those of the standard library.
	Groups []tls.CurveID
}

// ServerTLS makes the TLS configuration of a listener: TLS 1.3 only, no
// session tickets, identity and admission checked in every handshake.
func ServerTLS(c ServerConfig) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(c.CA)
	auth := tls.VerifyClientCertIfGiven
	if c.RequireClient {
		auth = tls.RequireAndVerifyClientCert
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		CurvePreferences:       c.Groups,
		ClientAuth:             auth,
		ClientCAs:              pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := c.Certificate()
			if cert == nil {
				return nil, errors.New("the hub has no certificate")
			}
			if len(cert.Certificate) == 1 { // a node that joins finds its pin in the chain
				chained := *cert
				chained.Certificate = [][]byte{cert.Certificate[0], c.CA.Raw}
				cert = &chained
			}
			return cert, nil
		},
		// Not VerifyPeerCertificate: that one is skipped on resumption.
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				if c.RequireClient {
					return ca.ErrIdentity
				}
				return nil
			}
			p, err := ca.PeerOf(cs.PeerCertificates[0])
			if err != nil || c.Admit == nil {
				return err
			}
			return c.Admit(p)
		},
	}
}

// ClientTLS makes the TLS configuration with which a node reaches its hub:
// TLS 1.3, a hub of this CA only, and the certificate of the moment. A nil
// certificate means none; without groups those of the standard library are
// offered.
func ClientTLS(caCert *x509.Certificate, certificate func() *tls.Certificate, groups ...tls.CurveID) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(caCert)
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: groups,
		ServerName:       ca.HubName,
		RootCAs:          pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert := certificate(); cert != nil {
				return cert, nil
			}
			return new(tls.Certificate), nil
		},
	}
}

// errPin: the server's chain has no CA with the pin of the token.
var errPin = errors.New("no CA certificate with the token's pin in the server's chain")

// pinnedTLS accepts a hub whose chain ends at a CA with this pin, and
// nothing else. It shows no certificate.
func pinnedTLS(pin [32]byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ca.HubName,
		// The roots are not known before the chain is seen: the check that this
		// switches off is done in full by VerifyConnection.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			opts := x509.VerifyOptions{
				DNSName:       ca.HubName,
				Roots:         x509.NewCertPool(),
				Intermediates: x509.NewCertPool(),
				KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			}
			found := false
			for _, cert := range cs.PeerCertificates {
				if cert.IsCA && ca.Pin(cert) == pin {
					opts.Roots.AddCert(cert)
					found = true
				} else {
					opts.Intermediates.AddCert(cert)
				}
			}
			if !found {
				return errPin
			}
			_, err := cs.PeerCertificates[0].Verify(opts)
			return err
		},
	}
}
