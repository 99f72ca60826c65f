package journal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
)

// The door with the port's own certificates, as the hub opens it.
func TestTheDoorAdmitsWhomThePortsCANamesAndTheDirectoryAdmits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, ca.Create(dir, "kisarazu"))
	authority, err := ca.Open(dir)
	require.NoError(t, err)
	hubKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := authority.IssueHub(&hubKey.PublicKey, time.Now())
	require.NoError(t, err)
	hub := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: hubKey}

	issue := func(member string) *tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		require.NoError(t, err)
		der, err := authority.IssueNode(csr, member, 1, time.Now())
		require.NoError(t, err)
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}

	var revoked atomic.Bool
	cfg := created(t)
	cfg.Listen = &Listen{
		Addr: "127.0.0.1:0",
		TLS: rpc.ServerTLS(rpc.ServerConfig{
			CA:            authority.Certificate(),
			Certificate:   func() *tls.Certificate { return hub },
			RequireClient: true,
			Admit: func(ca.Peer) error {
				if revoked.Load() {
					return errors.New("revoked")
				}
				return nil
			},
		}),
		Authorize: func(cs tls.ConnectionState) (Grant, bool) {
			p, err := ca.PeerOf(cs.VerifiedChains[0][0])
			if err != nil {
				return Grant{}, false
			}
			g := memberGrant(p.Member)
			g.Deadline = p.NotAfter
			return g, true
		},
	}
	j := opened(t, cfg)
	dial := func(cert *tls.Certificate, opts ...nats.Option) (*nats.Conn, error) {
		c := rpc.ClientTLS(authority.Certificate(), func() *tls.Certificate { return cert })
		return nats.Connect("nats://"+j.ListenAddr(), append(opts, nats.Secure(c), nats.TLSHandshakeFirst(), nats.NoReconnect(), nats.Timeout(5*time.Second))...)
	}

	for _, user := range []string{hubUser, edgeUser} {
		nc, err := dial(issue("marine-x"), nats.UserInfo(user, j.server.password), nats.CustomInboxPrefix("_INBOX.marine-x"))
		require.NoError(t, err, "a member is its certificate; what else it says is not looked at")
		refused := make(chan error, 4)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
		require.NoError(t, nc.Publish("$JS.API.STREAM.DELETE.DIRECTORY", nil))
		require.ErrorIs(t, <-refused, nats.ErrPermissionViolation)
		require.NoError(t, nc.Publish("d.port-authority.x", nil))
		require.ErrorIs(t, <-refused, nats.ErrPermissionViolation)
		nc.Close()
	}
	_, err = dial(nil)
	require.Error(t, err, "no certificate")
	_, err = dial(hub)
	require.Error(t, err, "the hub's own certificate names no node")

	closed := make(chan struct{})
	nc, err := dial(issue("marine-x"), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	require.NoError(t, err)
	defer nc.Close()
	revoked.Store(true)
	require.Equal(t, 1, j.Disconnect(func(user string) bool { return user == "marine-x.1" }))
	<-closed
	_, err = dial(issue("marine-x"))
	require.Error(t, err, "revoked")
	require.NoError(t, j.Healthy())
}
