package journal

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	c := a.issue("ca", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) issue(name string, fn func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	require.NoError(a.t, err)
	c := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"hub.minato.example"},
		URIs:         []*url.URL{{Scheme: "minato", Host: "port", Path: "/member/" + name}},
	}
	if fn != nil {
		fn(c)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// port is a journal with its door open to alice and bob.
type port struct {
	t       testing.TB
	j       *Journal
	ca      *authority
	log     *syncBuffer
	revoked sync.Map
	grant   func(name string) Grant // what Authorize gives
}

func newPort(t testing.TB) *port {
	p := &port{t: t, ca: newAuthority(t), log: new(syncBuffer), grant: memberGrant}
	cfg := created(t)
	cfg.Log = slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Listen = &Listen{
		Addr: "127.0.0.1:0",
		TLS: &tls.Config{ // mistakes of the caller that the door must mend
			Certificates: []tls.Certificate{p.ca.issue("hub", nil)},
			ClientCAs:    p.ca.pool(),
			ClientAuth:   tls.VerifyClientCertIfGiven,
		},
		Authorize: func(cs tls.ConnectionState) (Grant, bool) {
			name := cs.VerifiedChains[0][0].Subject.CommonName
			if _, gone := p.revoked.Load(name); gone {
				return Grant{}, false
			}
			g := p.grant(name)
			if g.Deadline.IsZero() {
				g.Deadline = cs.VerifiedChains[0][0].NotAfter
			}
			return g, true
		},
	}
	p.j = opened(t, cfg)
	return p
}

func memberGrant(name string) Grant {
	return Grant{
		User:      name + ".1",
		Publish:   []string{"hub." + name + ".>"},
		Subscribe: []string{"d." + name + ".>", "_INBOX." + name + ".>"},
	}
}

func (p *port) dial(cert *tls.Certificate, opts ...nats.Option) (*nats.Conn, error) {
	c := &tls.Config{RootCAs: p.ca.pool(), ServerName: "hub.minato.example"}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	opts = append([]nats.Option{nats.Secure(c), nats.TLSHandshakeFirst(), nats.NoReconnect(), nats.Timeout(5 * time.Second)}, opts...)
	return nats.Connect("nats://"+p.j.ListenAddr(), opts...)
}

// member is a connected member that notes what the server refuses.
type member struct {
	*nats.Conn
	t       testing.TB
	refused chan string
	closed  chan struct{}
}

func (p *port) member(name string) *member {
	p.t.Helper()
	m := &member{t: p.t, refused: make(chan string, 64), closed: make(chan struct{})}
	cert := p.ca.issue(name, nil)
	var err error
	m.Conn, err = p.dial(&cert, nats.CustomInboxPrefix("_INBOX."+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { m.refused <- err.Error() }),
		nats.ClosedHandler(func(*nats.Conn) { close(m.closed) }))
	require.NoError(p.t, err)
	p.t.Cleanup(m.Close)
	return m
}

// mustRefuse demands that the server refuses what fn asks.
func (m *member) mustRefuse(what string, fn func() error) {
	m.t.Helper()
	require.NoError(m.t, fn(), what)
	require.NoError(m.t, m.Flush(), what)
	select {
	case text := <-m.refused:
		require.Contains(m.t, strings.ToLower(text), "permissions violation", what)
	case <-time.After(5 * time.Second):
		m.t.Fatalf("not refused: %s", what)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// answering is an edge that answers like hub/nats.go: only to the reply
// subjects of the member that asks. With check off, it is the deputy that
// answers whatever it is told to.
func answering(t testing.TB, j *Journal, check bool) *nats.Conn {
	edge, err := j.Edge()
	require.NoError(t, err)
	_, err = edge.Subscribe("hub.>", func(m *nats.Msg) {
		name := strings.Split(m.Subject, ".")[1]
		if check && !strings.HasPrefix(m.Reply, "_INBOX."+name+".") {
			return
		}
		edge.Publish(m.Reply, []byte("answer to "+name))
	})
	require.NoError(t, err)
	require.NoError(t, edge.Flush())
	return edge
}

func TestAMemberReachesItsOwnSubjectsAndNothingElse(t *testing.T) {
	p := newPort(t)
	appendN(t, p.j, LiveReports, 0, 7)
	edge := answering(t, p.j, true)
	alice, bob := p.member("alice"), p.member("bob")

	m, err := alice.Request("hub.alice.pull", nil, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "answer to alice", string(m.Data))

	mine, err := alice.SubscribeSync("d.alice.>")
	require.NoError(t, err)
	require.NoError(t, alice.Flush())
	require.NoError(t, edge.Publish("d.alice.1", []byte("delivery")))
	m, err = mine.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "delivery", string(m.Data))

	for _, subject := range []string{
		"d.bob.>", "d.>", "d.*.1", ">", "*", "*.*.*", "_INBOX.>", "_INBOX.bob.>", "hub.>", "hub.alice.>",
		"$SYS.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "live.report.>", "live.>", "directory.>", "$O.>", "$KV.>",
	} {
		alice.mustRefuse("subscribe "+subject, func() error { _, err := alice.SubscribeSync(subject); return err })
		alice.mustRefuse("queue "+subject, func() error { _, err := alice.QueueSubscribeSync(subject, "q"); return err })
	}
	for _, subject := range []string{
		"hub.bob.ack", "d.bob.1", "d.alice.1", "_INBOX.bob.x", "_INBOX.alice.x",
		"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.PURGE.LIVE_REPORTS", "$JS.API.STREAM.DELETE.LIVE_REPORTS",
		"$JS.API.DIRECT.GET.LIVE_REPORTS", "$JS.API.STREAM.MSG.GET.LIVE_REPORTS", "$JS.ACK.LIVE_REPORTS.x.1.1.1.1.1",
		"$SYS.REQ.SERVER.PING", "live.report.fake", "directory.fake", "live.part.head.x",
	} {
		alice.mustRefuse("publish "+subject, func() error { return alice.Publish(subject, []byte("forged")) })
		alice.mustRefuse("request "+subject, func() error {
			return alice.PublishRequest(subject, "_INBOX.alice.x", []byte("{}"))
		})
	}
	require.NoError(t, bob.Flush())
	require.Empty(t, bob.refused)
	pos, err := p.j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Equal(t, uint64(7), pos)
	require.NoError(t, p.j.Healthy())
}

// The confused deputy: the server does not check a reply subject against what
// the sender may publish, and whoever answers speaks with rights of its own.
func TestAReplySubjectMakesNobodyActForAMember(t *testing.T) {
	p := newPort(t)
	appendN(t, p.j, LiveReports, 0, 7)
	bob := p.member("bob")
	atBob, err := bob.SubscribeSync("d.bob.>")
	require.NoError(t, err)
	inbox, err := bob.SubscribeSync("_INBOX.bob.>")
	require.NoError(t, err)
	require.NoError(t, bob.Flush())
	replies := []string{
		"$JS.API.STREAM.DELETE.LIVE_REPORTS", "$JS.API.STREAM.PURGE.LIVE_REPORTS", "live.report.fake", "directory.fake",
		"live.cursor.bob.1", "$SYS.REQ.SERVER.PING", "hub.bob.ack", "d.bob.x", "_INBOX.bob.x", "d.bob.1.2",
	}
	heardHub := func(edge *nats.Conn) *atomic.Int64 {
		var n atomic.Int64
		_, err := edge.Subscribe("hub.bob.>", func(*nats.Msg) { n.Add(1) })
		require.NoError(t, err)
		require.NoError(t, edge.Flush())
		return &n
	}
	ask := func(alice *member) {
		for _, reply := range replies {
			require.NoError(t, alice.PublishRequest("hub.alice.pull", reply, []byte("{}")))
		}
		// The deputy takes them in order: its answer to this is its last.
		m, err := alice.Request("hub.alice.last", nil, 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, "answer to alice", string(m.Data))
	}

	edge := answering(t, p.j, true)
	asBob := heardHub(edge)
	ask(p.member("alice"))
	require.NoError(t, edge.Flush())
	require.NoError(t, bob.Flush())
	require.Zero(t, pending(t, atBob)+pending(t, inbox), "a handler that checks reaches no other member")
	require.Zero(t, asBob.Load())
	edge.Close()

	// Even a handler that forgets the check can do no harm to the journal or
	// speak in a member's name: the connection has no right to.
	edge = answering(t, p.j, false)
	asBob = heardHub(edge)
	ask(p.member("alice"))
	require.NoError(t, edge.Flush())
	require.Zero(t, asBob.Load(), "the edge may not publish hub.>")

	pos, err := p.j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Equal(t, uint64(7), pos, "nothing purged, nothing added")
	for s, want := range map[Stream]uint64{Directory: 1, LiveCursors: 0} {
		pos, err := p.j.Position(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, want, pos, s)
	}
	require.NoError(t, p.j.ReadTo(t.Context(), LiveReports, 0, 7, func(Record) error { return nil }))
	require.NoError(t, p.j.Healthy())
}

func pending(t testing.TB, s *nats.Subscription) int {
	n, _, err := s.Pending()
	require.NoError(t, err)
	return n
}

func TestTheEdgeMayOnlySpeakToMembers(t *testing.T) {
	p := newPort(t)
	edge, err := p.j.Edge()
	require.NoError(t, err)
	refused := make(chan error, 8)
	edge.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	for _, subject := range []string{"$JS.API.INFO", "live.report.x", "hub.alice.ack", "$SYS.REQ.SERVER.PING"} {
		require.NoError(t, edge.Publish(subject, nil))
		require.ErrorIs(t, <-refused, nats.ErrPermissionViolation, subject)
	}
	for _, subject := range []string{"d.>", "_INBOX.>", ">", "$JS.>"} {
		_, err := edge.SubscribeSync(subject)
		require.NoError(t, err)
		require.ErrorIs(t, <-refused, nats.ErrPermissionViolation, subject)
	}
	require.NoError(t, p.j.Close())
	require.True(t, edge.IsClosed())
	_, err = p.j.Edge()
	require.ErrorIs(t, err, ErrClosed)
}

func TestOnlyAVerifiedCertificateOpensTheDoor(t *testing.T) {
	p := newPort(t)
	alice := p.ca.issue("alice", nil)

	// The hub's own names and even its password open nothing from outside.
	nc, err := p.dial(&alice, nats.UserInfo(hubUser, p.j.server.password))
	require.NoError(t, err, "the certificate is alice's; the password is not looked at")
	defer nc.Close()
	_, err = nc.Request("$JS.API.INFO", nil, 200*time.Millisecond)
	require.Error(t, err)
	_, err = p.dial(nil, nats.UserInfo(hubUser, p.j.server.password))
	require.Error(t, err, "no certificate")
	_, err = p.dial(nil, nats.UserInfo(edgeUser, p.j.server.password))
	require.Error(t, err)

	foreign := newAuthority(t).issue("alice", nil)
	_, err = p.dial(&foreign)
	require.Error(t, err, "another CA")
	expired := p.ca.issue("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	_, err = p.dial(&expired)
	require.Error(t, err, "expired")

	old := &tls.Config{RootCAs: p.ca.pool(), ServerName: "hub.minato.example", MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{alice}}
	_, err = nats.Connect("nats://"+p.j.ListenAddr(), nats.Secure(old), nats.TLSHandshakeFirst(), nats.NoReconnect())
	require.Error(t, err, "TLS 1.2")

	// Without TLS not even the server's INFO is said.
	plain, err := net.Dial("tcp", p.j.ListenAddr())
	require.NoError(t, err)
	defer plain.Close()
	fmt.Fprintf(plain, "CONNECT {\"user\":\"hub\",\"pass\":%q}\r\nPING\r\n", p.j.server.password)
	plain.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, _ := bufio.NewReader(plain).ReadString('\n')
	require.NotContains(t, line, "INFO")
	require.NotContains(t, line, "PONG")

	// In process, a wrong password or an unknown user is nobody.
	_, err = wrongConnect(p.j.server, hubUser, "guess")
	require.Error(t, err)
	_, err = wrongConnect(p.j.server, "alice", p.j.server.password)
	require.Error(t, err)
	require.NotContains(t, p.log.String(), p.j.server.password)
}

func wrongConnect(e *embedded, user, password string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(e.srv), nats.UserInfo(user, password), nats.NoReconnect())
}

func TestAGrantThatWouldOpenMoreIsRefused(t *testing.T) {
	p := newPort(t)
	alice := p.ca.issue("alice", nil)
	for _, g := range []Grant{
		{User: "a.1", Publish: []string{">"}},
		{User: "a.1", Publish: []string{"hub.>"}},
		{User: "a.1", Publish: []string{"hub.*.ack"}},
		{User: "a.1", Publish: []string{"hub.alice"}},
		{User: "a.1", Publish: []string{"$JS.API.>"}},
		{User: "a.1", Publish: []string{"d.alice.>"}},
		{User: "a.1", Publish: []string{"hub.a lice.>"}},
		{User: "a.1", Subscribe: []string{"hub.alice.>"}},
		{User: "a.1", Subscribe: []string{"d.>"}},
		{User: "a.1", Subscribe: []string{"d.*.>"}},
		{User: "a.1", Subscribe: []string{"_INBOX.>"}},
		{User: "a.1", Subscribe: []string{"d.alice.> queue"}},
		{User: "", Publish: []string{"hub.alice.>"}},
		{User: hubUser, Publish: []string{"hub.alice.>"}},
		{User: edgeUser},
	} {
		p.grant = func(string) Grant { return g }
		_, err := p.dial(&alice)
		require.ErrorIs(t, err, nats.ErrAuthorization, "%+v", g)
	}
	// Nothing granted is nothing allowed.
	p.grant = func(string) Grant { return Grant{User: "a.1"} }
	m := p.member("alice")
	m.mustRefuse("publish", func() error { return m.Publish("hub.alice.x", nil) })
	m.mustRefuse("subscribe", func() error { _, err := m.SubscribeSync("d.alice.>"); return err })
}

func TestDisconnectClosesAtOnceAndKeepsOut(t *testing.T) {
	p := newPort(t)
	alice1, alice2, bob := p.member("alice"), p.member("alice"), p.member("bob")
	p.revoked.Store("alice", true)
	n := p.j.Disconnect(func(user string) bool { return strings.HasPrefix(user, "alice.") })
	require.Equal(t, 2, n)
	for _, m := range []*member{alice1, alice2} {
		select {
		case <-m.closed:
		case <-time.After(5 * time.Second):
			t.Fatal("a revoked member stays connected")
		}
	}
	cert := p.ca.issue("alice", nil)
	_, err := p.dial(&cert)
	require.ErrorIs(t, err, nats.ErrAuthorization)
	require.NoError(t, bob.Flush())
	require.Zero(t, p.j.Disconnect(func(user string) bool { return user == "alice.1" }), "they are gone")
	require.Zero(t, p.j.Disconnect(func(user string) bool { return user == hubUser || user == edgeUser }))
	require.NoError(t, p.j.Healthy())
}

func TestALoginUnderWayDoesNotOutliveARevocation(t *testing.T) {
	p := newPort(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	p.grant = func(name string) Grant {
		close(asked)
		<-answer // authorized by the directory of before
		return memberGrant(name)
	}
	closed := make(chan struct{})
	cert := p.ca.issue("alice", nil)
	dialed := make(chan error, 1)
	go func() {
		nc, err := p.dial(&cert, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		if err != nil {
			close(closed)
		} else if nc.Flush() == nil {
			defer nc.Close()
			<-closed
		}
		dialed <- err
	}()
	<-asked
	p.revoked.Store("alice", true)
	done := make(chan int)
	go func() { done <- p.j.Disconnect(func(user string) bool { return user == "alice.1" }) }()
	close(answer)
	require.Equal(t, 1, <-done)
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("a revoked member stays connected")
	}
	<-dialed
}

func TestAConnectionEndsWithItsDeadline(t *testing.T) {
	p := newPort(t)
	p.grant = func(name string) Grant {
		g := memberGrant(name)
		g.Deadline = time.Now().Add(300 * time.Millisecond)
		return g
	}
	m := p.member("alice")
	select {
	case <-m.closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection outlives its deadline")
	}
}

func TestOneMemberIsBoundedInWhatItMayAskOfTheServer(t *testing.T) {
	p := newPort(t)
	m := p.member("alice")
	require.LessOrEqual(t, m.MaxPayload(), int64(maxPayload))
	for i := range 70 {
		_, err := m.SubscribeSync(fmt.Sprintf("d.alice.%d", i))
		require.NoError(t, err)
	}
	select {
	case text := <-m.refused:
		require.Contains(t, text, "maximum subscriptions exceeded")
	case <-m.closed:
	case <-time.After(5 * time.Second):
		t.Fatal("70 subscriptions of one member")
	}
}

func TestLoginsOfManyConnectionsAreForgottenWhenTheyEnd(t *testing.T) {
	p := newPort(t)
	cert := p.ca.issue("alice", nil)
	for range 200 {
		nc, err := p.dial(&cert)
		require.NoError(t, err)
		nc.Close()
	}
	e := p.j.server
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Less(t, len(e.users), 150)
}

func TestADoorThatCannotOpenFailsTheStartInWords(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	ca := newAuthority(t)
	cfg := created(t)
	cfg.Listen = &Listen{
		Addr:      taken.Addr().String(),
		TLS:       &tls.Config{Certificates: []tls.Certificate{ca.issue("hub", nil)}, ClientCAs: ca.pool()},
		Authorize: func(tls.ConnectionState) (Grant, bool) { return Grant{}, false },
	}
	_, err = Open(t.Context(), cfg)
	require.ErrorContains(t, err, "address already in use")
	cfg.Listen.Addr = "nonsense"
	_, err = Open(t.Context(), cfg)
	require.Error(t, err)
	cfg.Listen = nil
	j := opened(t, cfg)
	require.Empty(t, j.ListenAddr())
}
