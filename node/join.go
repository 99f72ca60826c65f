package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// JoinOptions are what `minato node join` is told.
type JoinOptions struct {
	Token string // as the hub's administrator gave it
	Dir   string // made with mode 0700; must be empty or missing
}

// Identity is who a node is after it has joined.
type Identity struct {
	Member, MemberName, Port string
	Node                     uint32
	HubAddress               string
}

// Join exchanges a one-time token for a certificate and writes the node's
// directory; node.toml comes last and marks it as complete. When it fails,
// nothing is left behind.
func Join(ctx context.Context, o JoinOptions) (id *Identity, err error) {
	tok, err := ca.ParseToken(o.Token)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, &JoinedError{Dir: dir}
	}
	made := missing(dir)
	defer func() {
		if err != nil {
			os.RemoveAll(filepath.Join(dir, "keys"))
			for _, d := range made {
				os.Remove(d)
			}
		}
	}()
	if err := ca.MakeDir(dir); err != nil {
		return nil, err
	}
	keys, err := newKeys()
	if err != nil {
		return nil, err
	}
	resp, err := keys.exchange(ctx, tok)
	if err != nil {
		return nil, err
	}
	if err := keys.check(resp, tok); err != nil {
		return nil, fmt.Errorf("the hub's answer cannot be trusted: %w", err)
	}
	if err := keys.write(filepath.Join(dir, "keys"), resp); err != nil {
		return nil, err
	}
	c := Config{
		Hub: tok.Addr, NATS: resp.GetNatsAddress(), Port: resp.GetPortId(),
		Member: resp.GetMember().GetId(), Node: resp.GetNode(),
	}
	if err := c.fill(); err != nil {
		return nil, err
	}
	text, err := toml.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(filepath.Join(dir, "node.toml"), text, 0o600); err != nil {
		return nil, err
	}
	return &Identity{
		Member: c.Member, MemberName: resp.GetMember().GetName(), Port: c.Port, Node: c.Node, HubAddress: c.Hub,
	}, nil
}

// missing are dir and the folders above it that are not there, innermost first.
func missing(dir string) (all []string) {
	for {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return all
		}
		all = append(all, dir)
		dir = filepath.Dir(dir)
	}
}

// keys is what a node makes for itself and never shows.
type keys struct {
	tls     *ecdsa.PrivateKey
	signing ed25519.PrivateKey
}

func newKeys() (*keys, error) {
	t, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, s, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &keys{tls: t, signing: s}, nil
}

// request is the PKCS#10 request for a key. Names in it would mean nothing:
// the hub writes who the node is.
func request(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// exchange calls Join over a connection pinned to the token's CA.
func (k *keys) exchange(ctx context.Context, tok ca.Token) (*pb.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, export, err := rpc.DialPinned(tok.Addr, tok.Pin)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	exporter, err := export(ctx)
	if err != nil {
		return nil, err
	}
	csr, err := request(k.tls)
	if err != nil {
		return nil, err
	}
	signing := k.signing.Public().(ed25519.PublicKey)
	return pb.NewHubServiceClient(conn).Join(ctx, &pb.JoinRequest{
		CertificateRequest: csr, SigningKey: signing, TokenKey: tok.Key.Public().(ed25519.PublicKey),
		Proof: ca.Proof(tok.Key, exporter, csr, signing),
	})
}

// check holds the answer against the token and the node's own key.
func (k *keys) check(resp *pb.JoinResponse, tok ca.Token) error {
	root, err := x509.ParseCertificate(resp.GetCaCertificate())
	if err != nil {
		return err
	}
	if ca.Pin(root) != tok.Pin {
		return errors.New("its CA is not the one of the token")
	}
	if err := checkCertificate(resp.GetCertificate(), root, k.tls); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(resp.GetCertificate())
	if err != nil {
		return err
	}
	p, err := ca.PeerOf(cert)
	if err != nil {
		return err
	}
	if p.Port != resp.GetPortId() || p.Member != resp.GetMember().GetId() || p.Node != resp.GetNode() {
		return errors.New("the certificate names another node")
	}
	if len(resp.GetHubKey()) != ed25519.PublicKeySize {
		return errors.New("the hub's key is damaged")
	}
	return nil
}

// checkCertificate holds a new certificate against the CA and the key.
func checkCertificate(der []byte, root *x509.Certificate, key *ecdsa.PrivateKey) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return err
	}
	want, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, want) {
		return errors.New("the certificate is for another key")
	}
	return nil
}

func (k *keys) write(dir string, resp *pb.JoinResponse) error {
	if err := ca.MakeDir(dir); err != nil {
		return err
	}
	if err := writeCertificate(dir, k.tls, resp.GetCertificate()); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"signing.key": k.signing.Seed(), "ca.der": resp.GetCaCertificate(), "hub.pub": resp.GetHubKey(),
	} {
		if err := ca.WriteSecret(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// writeCertificate stores certificate and key in one file, so that a crash
// never leaves one without the other: eight digits of length, key, certificate.
func writeCertificate(dir string, key *ecdsa.PrivateKey, cert []byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var both bytes.Buffer
	fmt.Fprintf(&both, "%08d", len(der))
	both.Write(der)
	both.Write(cert)
	return ca.WriteSecret(filepath.Join(dir, "tls.key"), both.Bytes())
}

// JoinedError is a directory that holds something already.
type JoinedError struct{ Dir string }

func (e *JoinedError) Error() string {
	return fmt.Sprintf("%s is not empty; a node that has joined is never overwritten and the token has not been used. Choose another --dir.", e.Dir)
}

// Japanese is the message for people.
func (e *JoinedError) Japanese() string {
	return fmt.Sprintf("%s は空ではありません。参加済みのノードは上書きしません (トークンは未使用のままです)。別の --dir を指定してください。", e.Dir)
}
