// Package ca is the built-in certificate authority of a port: it issues the
// certificates that are the identity of nodes and hub, reads identities back,
// makes the one-time tokens with which a node joins, and keeps key files.
// There is no revocation list: certificates are short-lived and the hub's
// directory decides who is admitted.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	// HubName is the DNS name in every hub's certificate. It never resolves:
	// a node trusts its port's CA, wherever the hub stands.
	HubName = "hub.minato.example"
	// Lifetime of a certificate of a node or hub. Renew at half of it.
	Lifetime = 14 * 24 * time.Hour

	backdate    = 5 * time.Minute // clocks of terminals are off
	rootYears   = 20
	certFile    = "ca.crt"
	keyFile     = "ca.key"
	maxRequest  = 16 << 10
	uriScheme   = "minato://"
	maxIDLength = 63
)

// What goes wrong; test with errors.Is.
var (
	// ErrExists: the folder holds a CA already.
	ErrExists = errors.New("CA exists")
	// ErrRequest: a certificate request is damaged, unsigned or not P-256.
	ErrRequest = errors.New("certificate request not accepted")
)

// CA issues the certificates of one port. Its methods may be called at the
// same time.
type CA struct {
	port string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Create makes the CA of a port: dir/ca.crt and dir/ca.key (0600 in 0700). It
// never replaces a CA: ErrExists.
func Create(dir, port string) error {
	if !ValidID(port) {
		return invalidID("port", port)
	}
	if err := MakeDir(dir); err != nil {
		return err
	}
	// The certificate is written last: a key alone is a creation that a power
	// cut ended, and nothing was issued with it.
	if _, err := os.Lstat(filepath.Join(dir, certFile)); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return err
		}
		return &told{
			en:  fmt.Sprintf("%s holds the CA of a port already. Name another folder, or run it: minato hub run", dir),
			ja:  fmt.Sprintf("%s には既に港の認証局があります。別のフォルダーを指定するか、そのまま起動してください: minato hub run", dir),
			err: ErrExists,
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Minato CA " + port},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(rootYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		URIs:                  []*url.URL{{Scheme: "minato", Host: port}},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := WriteKey(filepath.Join(dir, keyFile), keyDER); err != nil {
		return err
	}
	return replace(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// Open opens the CA in dir. It refuses modes wider than 0600 and 0700
// (ErrMode) and a certificate that is not that of the key.
func Open(dir string) (*CA, error) {
	if err := CheckDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, certFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return nil, notCA(path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !cert.IsCA {
		return nil, notCA(path)
	}
	names, err := uriNames(cert)
	if err != nil || len(names) != 1 || len(names[0]) <= len(uriScheme) || names[0][:len(uriScheme)] != uriScheme || !ValidID(names[0][len(uriScheme):]) {
		return nil, notCA(path)
	}
	signer, err := ReadKey(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	key, ok := signer.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, notCA(path)
	}
	return &CA{port: names[0][len(uriScheme):], cert: cert, key: key}, nil
}

func notCA(path string) error {
	return &told{
		en:  fmt.Sprintf("%s is damaged or does not belong to the key beside it. Restore both from the backup.", path),
		ja:  fmt.Sprintf("%s が壊れているか、隣の鍵と組になっていません。両方をバックアップから戻してください。", path),
		err: ErrKey,
	}
}

// Port is the id of the port.
func (c *CA) Port() string { return c.port }

// Certificate is the CA's own certificate.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// IssueNode issues the certificate of a node, DER, for 14 days from now. Of
// the request (PKCS#10, DER) only the key counts; it must be P-256 and have
// signed the request, else ErrRequest.
func (c *CA) IssueNode(csr []byte, member string, node uint32, now time.Time) ([]byte, error) {
	if !ValidID(member) {
		return nil, invalidID("member", member)
	}
	if node == 0 {
		return nil, errors.New("node = 0: nodes are numbered from 1")
	}
	if len(csr) > maxRequest {
		return nil, badRequest()
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil || req.CheckSignature() != nil {
		return nil, badRequest()
	}
	key, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, badRequest()
	}
	return c.issue(key, now, &x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "minato", Host: c.port, Path: fmt.Sprintf("/member/%s/node/%d", member, node)}},
	})
}

func badRequest() error {
	return &told{
		en:  "The certificate request is damaged, unsigned or not for a P-256 key. Update minato on this node and try again.",
		ja:  "証明書の要求が壊れているか、署名がないか、P-256 の鍵ではありません。このノードの minato を更新してやり直してください。",
		err: ErrRequest,
	}
}

// IssueHub issues the hub's certificate, DER, for 14 days from now.
func (c *CA) IssueHub(key *ecdsa.PublicKey, now time.Time) ([]byte, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return nil, badRequest()
	}
	return c.issue(key, now, &x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{HubName},
	})
}

func (c *CA) issue(key *ecdsa.PublicKey, now time.Time, cert *x509.Certificate) ([]byte, error) {
	cert.SerialNumber = serial()
	cert.NotBefore = now.Add(-backdate)
	cert.NotAfter = now.Add(Lifetime)
	if cert.NotAfter.After(c.cert.NotAfter) {
		cert.NotAfter = c.cert.NotAfter
	}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, cert, c.cert, key, c.key)
}

// serial is 128 random bits below a fixed one, so that its length says nothing
// and it is positive and at most 20 octets long (RFC 5280, 4.1.2.2).
func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	n := new(big.Int).SetBytes(b)
	return n.SetBit(n, 128, 1)
}

// Pin is the SHA-256 of the certificate's public key (SubjectPublicKeyInfo).
func Pin(cert *x509.Certificate) [32]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}
