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
	for name, size := range map[string]int{"signing.key": ed25519.SeedSize, "hub.pub": ed25519.PublicKeySize} {
		if len(read[name]) != size {
			return nil, &KeyError{Path: filepath.Join(id.dir, name), Err: fmt.Errorf("%d bytes instead of %d", len(read[name]), size)}
		}
	}
	id.signing = ed25519.NewKeyFromSeed(read["signing.key"])
	id.hubKey = read["hub.pub"]
	var err error
	if id.root, err = x509.ParseCertificate(read["ca.der"]); err != nil {
		return nil, &KeyError{Path: filepath.Join(id.dir, "ca.der"), Err: err}
	}
	cert, err := parseCertificate(read["tls.key"])
	if err != nil {
		return nil, &KeyError{Path: filepath.Join(id.dir, "tls.key"), Err: err}
	}
	p, err := ca.PeerOf(cert.Leaf)
	if err != nil {
		return nil, &KeyError{Path: filepath.Join(id.dir, "tls.key"), Err: err}
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
	if own, ok := key.(*ecdsa.PrivateKey); !ok || !own.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("key and certificate are no pair")
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// KeyError is a file of the keys folder that cannot be used.
type KeyError struct {
	Path string
	Err  error
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("%s is damaged (%v). Restore the keys folder from the backup, or join again in a new directory with a new token.", e.Path, e.Err)
}

// Japanese is the message for people.
func (e *KeyError) Japanese() string {
	return fmt.Sprintf("%s が壊れています (%v)。keys フォルダーをバックアップから戻すか、新しい参加トークンを受け取り、別のディレクトリで参加し直してください。", e.Path, e.Err)
}

func (e *KeyError) Unwrap() error { return e.Err }

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
