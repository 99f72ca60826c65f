package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"minato.example/internal/ca"
	"minato.example/internal/config"
	pb "minato.example/proto/minato/v1"
)

// identity is a node's keys and certificate.
type identity struct {
	dir     string
	member  string
	number  uint32
	root    *x509.Certificate
	hubKey  ed25519.PublicKey // verifies the hub's receipts
	signing ed25519.PrivateKey
	cert    atomic.Pointer[tls.Certificate]
}

func openIdentity(c Config) (*identity, error) {
	id := &identity{dir: filepath.Join(c.Dir, "keys"), member: c.Member, number: c.Node}
	if err := ca.CheckDir(id.dir); err != nil {
		return nil, err
	}
	read := map[string][]byte{"signing.key": nil, "ca.der": nil, "hub.pub": nil, "tls.key": nil}
	for name := range read {
		data, err := ca.ReadSecret(filepath.Join(id.dir, name))
		if err != nil {
			return nil, err
		}
		read[name] = data
	}
	if len(read["signing.key"]) != ed25519.SeedSize || len(read["hub.pub"]) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("keys in %s are damaged", id.dir)
	}
	id.signing = ed25519.NewKeyFromSeed(read["signing.key"])
	id.hubKey = read["hub.pub"]
	var err error
	if id.root, err = x509.ParseCertificate(read["ca.der"]); err != nil {
		return nil, fmt.Errorf("keys/ca.der: %w", err)
	}
	cert, err := parseCertificate(read["tls.key"])
	if err != nil {
		return nil, fmt.Errorf("keys/tls.key: %w", err)
	}
	p, err := ca.PeerOf(cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("keys/tls.key: %w", err)
	}
	if p.Port != c.Port || p.Member != c.Member || p.Node != c.Node {
		return nil, &config.Error{Path: filepath.Join(c.Dir, "node.toml"),
			Err: fmt.Errorf("the certificate is of port %s, member %s, node %d", p.Port, p.Member, p.Node)}
	}
	id.cert.Store(cert)
	return id, nil
}

// parseCertificate reads what writeCertificate wrote.
func parseCertificate(both []byte) (*tls.Certificate, error) {
	if len(both) < 8 {
		return nil, errors.New("too short")
	}
	n, err := strconv.Atoi(string(both[:8]))
	if err != nil || n <= 0 || n > len(both)-8 {
		return nil, errors.New("damaged")
	}
	key, err := x509.ParsePKCS8PrivateKey(both[8 : 8+n])
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(both[8+n:])
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// renewAt is when a certificate should be renewed: at half its life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
}

// renew gets a certificate for a new key and puts it in use. The file is
// replaced in one step.
func (id *identity) renew(ctx context.Context, hub pb.HubServiceClient) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := request(key)
	if err != nil {
		return err
	}
	resp, err := hub.RenewCertificate(ctx, &pb.RenewCertificateRequest{CertificateRequest: csr})
	if err != nil {
		return err
	}
	if err := checkCertificate(resp.GetCertificate(), id.root, key); err != nil {
		return fmt.Errorf("the renewed certificate cannot be used: %w", err)
	}
	if err := writeCertificate(id.dir, key, resp.GetCertificate()); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(resp.GetCertificate())
	if err != nil {
		return err
	}
	id.cert.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	return nil
}
