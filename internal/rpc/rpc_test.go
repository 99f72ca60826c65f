package rpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"minato.example/internal/ca"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// port is a CA and a gRPC server on loopback whose handlers a test fills in.
type port struct {
	t    *testing.T
	ca   *ca.CA
	addr string
	log  *syncBuffer

	revoked atomic.Bool
	called  atomic.Int32 // handlers that ran
	hub     *hub
}

type hub struct {
	pb.UnimplementedHubServiceServer
	port   *port
	join   func(context.Context, *pb.JoinRequest) (*pb.JoinResponse, error)
	submit func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error)
	watch  func(grpc.BidiStreamingServer[pb.WatchDeliveriesRequest, pb.WatchDeliveriesResponse]) error
	upload func(grpc.ClientStreamingServer[pb.UploadPartRequest, pb.UploadPartResponse]) error
}

func (h *hub) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinResponse, error) {
	h.port.called.Add(1)
	return h.join(ctx, r)
}

func (h *hub) SubmitReport(ctx context.Context, r *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
	h.port.called.Add(1)
	return h.submit(ctx, r)
}

func (h *hub) WatchDeliveries(s grpc.BidiStreamingServer[pb.WatchDeliveriesRequest, pb.WatchDeliveriesResponse]) error {
	h.port.called.Add(1)
	return h.watch(s)
}

func (h *hub) UploadPart(s grpc.ClientStreamingServer[pb.UploadPartRequest, pb.UploadPartResponse]) error {
	h.port.called.Add(1)
	return h.upload(s)
}

// ListMembers is registered and has no row in the table.
func (h *hub) ListMembers(context.Context, *pb.ListMembersRequest) (*pb.ListMembersResponse, error) {
	h.port.called.Add(1)
	return new(pb.ListMembersResponse), nil
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

var errRevoked = Refuse(codes.PermissionDenied, "NOT_ENROLLED", "", "取り消されています。", "Revoked.")

func newCA(t *testing.T) *ca.CA {
	dir := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, ca.Create(dir, "nagoya"))
	c, err := ca.Open(dir)
	require.NoError(t, err)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func newPort(t *testing.T, change ...func(*ServerOptions)) *port {
	p := &port{t: t, ca: newCA(t), log: new(syncBuffer)}
	p.hub = &hub{port: p}
	key := newKey(t)
	der, err := p.ca.IssueHub(&key.PublicKey, time.Now())
	require.NoError(t, err)
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	o := ServerOptions{
		TLS: ServerTLS(ServerConfig{CA: p.ca.Certificate(), Certificate: func() *tls.Certificate { return cert }, Admit: p.admit}),
		Log: slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Access: map[string]Access{
			pb.HubService_Join_FullMethodName:            Anyone,
			pb.HubService_SubmitReport_FullMethodName:    Members,
			pb.HubService_UploadPart_FullMethodName:      Members,
			pb.HubService_WatchDeliveries_FullMethodName: Members,
		},
		Admit: p.admit,
	}
	for _, c := range change {
		c(&o)
	}
	server := NewServer(o)
	pb.RegisterHubServiceServer(server, p.hub)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return p
}

func (p *port) admit(ca.Peer) error {
	if p.revoked.Load() {
		return errRevoked
	}
	return nil
}

// node issues a certificate of this port, or of another CA, at a time.
func (p *port) node(by *ca.CA, at time.Time) *tls.Certificate {
	key := newKey(p.t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	require.NoError(p.t, err)
	der, err := by.IssueNode(csr, "tos-a", 2, at)
	require.NoError(p.t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (p *port) clientTLS(cert *tls.Certificate) *tls.Config {
	return ClientTLS(p.ca.Certificate(), func() *tls.Certificate { return cert })
}

func (p *port) dial(cert *tls.Certificate) *grpc.ClientConn {
	conn, err := DialHub(p.addr, p.clientTLS(cert))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *port) member() pb.HubServiceClient {
	return pb.NewHubServiceClient(p.dial(p.node(p.ca, time.Now())))
}

func accept(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
	return new(pb.SubmitReportResponse), nil
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func requireRefusal(t *testing.T, err error, code codes.Code, reason string) *Refusal {
	t.Helper()
	r, ok := RefusalOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, r.Reason)
	require.Equal(t, code, r.Code)
	require.Equal(t, code, status.Code(err))
	require.NotEmpty(t, r.Japanese())
	require.NotEqual(t, r.Japanese(), r.Error())
	return r
}

// handshake makes a bare TLS connection and waits for the server's verdict,
// which comes after the client's part has ended.
func handshake(t *testing.T, addr string, c *tls.Config) error {
	t.Helper()
	return handshakeAs(t, addr, c, []string{"h2"})
}

func handshakeAs(t *testing.T, addr string, c *tls.Config, protocols []string) error {
	t.Helper()
	c = c.Clone()
	c.NextProtos = protocols
	raw, err := net.DialTimeout("tcp", addr, 10*time.Second)
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
	conn := tls.Client(raw, c)
	if err := conn.Handshake(); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1)) // the server's settings, or its alert
	return err
}

func TestMemberIsKnownByItsCertificate(t *testing.T) {
	p := newPort(t)
	var got ca.Peer
	p.hub.submit = func(ctx context.Context, _ *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
		got, _ = PeerFrom(ctx)
		return new(pb.SubmitReportResponse), nil
	}
	_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	require.NoError(t, err)
	require.Equal(t, "nagoya", got.Port)
	require.Equal(t, "tos-a", got.Member)
	require.Equal(t, uint32(2), got.Node)
}

func TestStreamKnowsItsPeerToo(t *testing.T) {
	p := newPort(t)
	p.hub.watch = func(s grpc.BidiStreamingServer[pb.WatchDeliveriesRequest, pb.WatchDeliveriesResponse]) error {
		who, ok := PeerFrom(s.Context())
		if !ok || who.Member != "tos-a" {
			return errors.New("no peer")
		}
		if _, limited := s.Context().Deadline(); limited {
			return errors.New("a session has no deadline")
		}
		return nil
	}
	s, err := p.member().WatchDeliveries(t.Context())
	require.NoError(t, err)
	_, err = s.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestMethodWithoutARowIsRefusedRegisteredOrNot(t *testing.T) {
	p := newPort(t)
	conn := p.dial(p.node(p.ca, time.Now()))
	for _, method := range []string{
		pb.HubService_ListMembers_FullMethodName, // registered
		pb.HubService_SetProfile_FullMethodName,
		"/minato.v1.AdminService/Revoke",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.health.v1.Health/Check",
	} {
		err := conn.Invoke(testContext(t), method, new(pb.ListMembersRequest), new(pb.ListMembersResponse))
		requireRefusal(t, err, codes.Unimplemented, "METHOD_UNKNOWN")
	}
	require.Zero(t, p.called.Load())
}

// The interceptors hold the table too, should the tap ever be gone.
func TestInterceptorsRefuseWithoutTheTap(t *testing.T) {
	d := &door{log: logger(nil), access: map[string]Access{"/x/Members": Members}}
	for method, reason := range map[string]string{"/x/Members": "CERTIFICATE_MISSING", "/x/Other": "METHOD_UNKNOWN"} {
		_, err := d.callUnary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
			t.Error("reached the handler")
			return nil, nil
		})
		r, ok := RefusalOf(err)
		require.True(t, ok)
		require.Equal(t, reason, r.Reason)
	}
}

func TestMembersMethodNeedsACertificate(t *testing.T) {
	p := newPort(t)
	client := pb.NewHubServiceClient(p.dial(nil))
	_, err := client.SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	r := requireRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_MISSING")
	require.Contains(t, r.Japanese(), "minato node join")
	require.Contains(t, r.Error(), "minato node join")
	require.Equal(t, 4, ExitCode(err))

	s, err := client.WatchDeliveries(testContext(t))
	require.NoError(t, err)
	_, err = s.Recv()
	requireRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_MISSING")
	require.Zero(t, p.called.Load())
}

func TestRevokedPeerIsRefusedOnTheNextCallOfAnOpenConnection(t *testing.T) {
	p := newPort(t)
	p.hub.submit = accept
	client := p.member()
	_, err := client.SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	require.NoError(t, err)
	p.revoked.Store(true)
	_, err = client.SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	r := requireRefusal(t, err, codes.PermissionDenied, "NOT_ENROLLED")
	require.Equal(t, "取り消されています。", r.Japanese())
	require.Equal(t, int32(1), p.called.Load())
}

func TestPeerRevokedWhileItsBodyCameIsRefused(t *testing.T) {
	var asked atomic.Int32
	p := newPort(t, func(o *ServerOptions) {
		o.Admit = func(ca.Peer) error {
			if asked.Add(1) > 1 {
				return errRevoked
			}
			return nil
		}
	})
	_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	requireRefusal(t, err, codes.PermissionDenied, "NOT_ENROLLED")
	require.Equal(t, int32(2), asked.Load())
	require.Zero(t, p.called.Load())
}

func TestExpiredCertificateIsRefusedOnAnOpenConnection(t *testing.T) {
	p := &port{t: t, ca: newCA(t)}
	d := &door{access: map[string]Access{"/x/Members": Members}}
	for reason, issued := range map[string]time.Time{"": time.Now(), "CERTIFICATE_EXPIRED": time.Now().Add(-ca.Lifetime - time.Second)} {
		cert, err := x509.ParseCertificate(p.node(p.ca, issued).Certificate[0])
		require.NoError(t, err)
		chain := []*x509.Certificate{cert, p.ca.Certificate()}
		ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: chain[:1], VerifiedChains: [][]*x509.Certificate{chain},
		}}})
		_, err = d.enter(ctx, "/x/Members")
		if reason == "" {
			require.NoError(t, err)
			continue
		}
		requireRefusal(t, err, codes.Unauthenticated, reason)
	}
}

func TestUnverifiedCertificateIsNoIdentity(t *testing.T) {
	p := &port{t: t, ca: newCA(t)}
	cert, err := x509.ParseCertificate(p.node(p.ca, time.Now()).Certificate[0])
	require.NoError(t, err)
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}}})
	_, err = (&door{access: map[string]Access{"/x/Members": Members}}).enter(ctx, "/x/Members")
	requireRefusal(t, err, codes.Unauthenticated, "CERTIFICATE_MISSING")
}

func TestAdmissionThatFailsSaysNothingOfItsCause(t *testing.T) {
	p := newPort(t, func(o *ServerOptions) {
		o.Admit = func(ca.Peer) error { return errors.New("the secret directory is torn") }
	})
	_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	requireRefusal(t, err, codes.Unauthenticated, "NOT_ADMITTED")
	require.NotContains(t, err.Error(), "torn")
}

func TestHandshakeRefusesAllButAdmittedNodesOfThisPort(t *testing.T) {
	p := newPort(t)
	good := p.node(p.ca, time.Now())
	require.NoError(t, handshake(t, p.addr, p.clientTLS(good)))
	require.NoError(t, handshake(t, p.addr, p.clientTLS(nil)), "a node comes without a certificate to join")

	for name, cert := range map[string]*tls.Certificate{
		"wrong CA":      p.node(newCA(t), time.Now()),
		"expired":       p.node(p.ca, time.Now().Add(-15*24*time.Hour)),
		"not yet valid": p.node(p.ca, time.Now().Add(time.Hour)),
		"a hub's":       hubCertificate(t, p.ca),
	} {
		err := handshake(t, p.addr, p.clientTLS(cert))
		require.ErrorContains(t, err, "remote error: tls:", name)
	}
	p.revoked.Store(true)
	err := handshake(t, p.addr, p.clientTLS(good))
	require.ErrorContains(t, err, "remote error: tls: bad certificate")
	require.True(t, certificateRefused(err.Error()))
}

func hubCertificate(t *testing.T, c *ca.CA) *tls.Certificate {
	key := newKey(t)
	der, err := c.IssueHub(&key.PublicKey, time.Now())
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOlderTLSIsRefusedByBothSides(t *testing.T) {
	p := newPort(t)
	c := p.clientTLS(nil)
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	require.ErrorContains(t, handshake(t, p.addr, c), "protocol version")

	old := tlsListener(t, &tls.Config{Certificates: []tls.Certificate{*hubCertificate(t, p.ca)}, MaxVersion: tls.VersionTLS12})
	require.ErrorContains(t, handshake(t, old, p.clientTLS(nil)), "protocol version")
	require.ErrorContains(t, handshake(t, old, pinnedTLS(ca.Pin(p.ca.Certificate()))), "protocol version")
}

// A profile of algorithms holds on both sides: who offers other groups only
// does not get in.
func TestOnlyTheGroupsOfTheProfileAgreeKeys(t *testing.T) {
	c := newCA(t)
	cert := hubCertificate(t, c)
	p := &port{t: t, ca: c}
	profile, err := seal.ProfileOf("cryptrec")
	require.NoError(t, err)
	addr := tlsListener(t, ServerTLS(ServerConfig{CA: c.Certificate(), Certificate: func() *tls.Certificate { return cert }, Groups: profile.Groups}))
	none := func() *tls.Certificate { return nil }
	agreed := func(groups ...tls.CurveID) (tls.CurveID, error) {
		conn, err := tls.Dial("tcp", addr, ClientTLS(c.Certificate(), none, groups...))
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().CurveID, nil
	}
	got, err := agreed()
	require.NoError(t, err)
	require.Contains(t, profile.Groups, got)
	got, err = agreed(profile.Groups...)
	require.NoError(t, err)
	require.Equal(t, tls.SecP256r1MLKEM768, got)
	_, err = agreed(tls.X25519, tls.X25519MLKEM768)
	require.ErrorContains(t, err, "handshake failure")
	require.NoError(t, handshake(t, addr, pinnedTLS(ca.Pin(p.ca.Certificate()))), "a node that joins does not know the profile yet")
}

// tlsListener shakes hands with whoever comes.
func tlsListener(t *testing.T, c *tls.Config) string {
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if conn.(*tls.Conn).Handshake() == nil {
					_, _ = conn.Write([]byte{0})
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestSessionsAreNeverResumed(t *testing.T) {
	p := newPort(t)
	c := p.clientTLS(p.node(p.ca, time.Now()))
	cache := tls.NewLRUClientSessionCache(8)
	c.ClientSessionCache = cache
	require.NoError(t, handshake(t, p.addr, c))
	_, found := cache.Get(ca.HubName)
	require.False(t, found)
}

func TestRequiredCertificateIsDemandedInTheHandshake(t *testing.T) {
	c := newCA(t)
	cert := hubCertificate(t, c)
	p := &port{t: t, ca: c}
	addr := tlsListener(t, ServerTLS(ServerConfig{CA: c.Certificate(), Certificate: func() *tls.Certificate { return cert }, RequireClient: true}))
	require.ErrorContains(t, handshakeAs(t, addr, p.clientTLS(nil), nil), "certificate required")
	require.NoError(t, handshakeAs(t, addr, p.clientTLS(p.node(c, time.Now())), nil))
}

func TestNodeTrustsNoHubOfAnotherCA(t *testing.T) {
	p, foreign := newPort(t), newPort(t)
	conn, err := DialHub(foreign.addr, p.clientTLS(p.node(p.ca, time.Now())))
	require.NoError(t, err)
	defer conn.Close()
	_, err = pb.NewHubServiceClient(conn).SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	requireRefusal(t, err, codes.Unavailable, "HUB_NOT_TRUSTED")
	require.Equal(t, 5, ExitCode(err))
	require.Zero(t, foreign.called.Load())
}

func TestRenewedCertificateIsShownWithoutARestart(t *testing.T) {
	p := newPort(t)
	var current atomic.Pointer[tls.Certificate]
	c := ClientTLS(p.ca.Certificate(), current.Load)
	require.NoError(t, handshake(t, p.addr, c))
	current.Store(p.node(p.ca, time.Now().Add(-15*24*time.Hour)))
	require.Error(t, handshake(t, p.addr, c))
	current.Store(p.node(p.ca, time.Now()))
	require.NoError(t, handshake(t, p.addr, c))
}

func TestPanicBecomesInternalAndItsTextStaysInside(t *testing.T) {
	p := newPort(t)
	p.hub.submit = func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
		panic("TLP:RED content")
	}
	p.hub.watch = func(grpc.BidiStreamingServer[pb.WatchDeliveriesRequest, pb.WatchDeliveriesResponse]) error {
		return fmt.Errorf("%d", []int{}[p.called.Load()])
	}
	client := p.member()
	_, err := client.SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	require.Equal(t, "rpc error: code = Internal desc = internal error", err.Error())
	s, err := client.WatchDeliveries(testContext(t))
	require.NoError(t, err)
	_, err = s.Recv()
	require.Equal(t, "rpc error: code = Internal desc = internal error", err.Error())
	require.Equal(t, 1, ExitCode(err))
	require.NotContains(t, p.log.String(), "TLP:RED content")
	require.Contains(t, p.log.String(), "call panicked")
	require.Contains(t, p.log.String(), "index out of range")
}

func TestInternalErrorIsLoggedOnceAndNotTold(t *testing.T) {
	p := newPort(t)
	for name, cause := range map[string]error{
		"plain":          errors.New("disk /dev/sda1 is full"),
		"foreign status": status.Error(codes.NotFound, "disk /dev/sda1 is full"),
	} {
		p.hub.submit = func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
			return nil, cause
		}
		before := strings.Count(p.log.String(), "/dev/sda1")
		_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
		require.Equal(t, "rpc error: code = Internal desc = internal error", err.Error(), name)
		require.Equal(t, before+1, strings.Count(p.log.String(), "/dev/sda1"), name)
	}
}

func TestCauseBesideARefusalIsLoggedAndNotTold(t *testing.T) {
	p := newPort(t)
	p.hub.submit = func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
		return nil, errors.Join(Refuse(codes.Unavailable, "HUB_FULL", "", "満杯です。「秘密の題名」", "Full: secret title"), errors.New("no space on /dev/sda1"))
	}
	_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	requireRefusal(t, err, codes.Unavailable, "HUB_FULL")
	require.NotContains(t, err.Error(), "/dev/sda1")
	require.Contains(t, p.log.String(), "no space on /dev/sda1")
	require.NotContains(t, p.log.String(), "secret title")
}

func TestRefusalCrossesTheWireInBothLanguages(t *testing.T) {
	p := newPort(t)
	want := &Refusal{Code: codes.InvalidArgument, Reason: "TLP_MISSING", Violations: []Violation{
		{Field: "report.tlp", Reason: "TLP_MISSING", Japanese: "TLP がありません。--tlp を付けてください。", English: "The TLP label is missing. Add --tlp."},
		{Field: "report.title", Reason: "TITLE_EMPTY", Japanese: "題名がありません。", English: "The title is empty."},
	}}
	p.hub.submit = func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) { return nil, want }
	p.hub.upload = func(grpc.ClientStreamingServer[pb.UploadPartRequest, pb.UploadPartResponse]) error { return want }
	client := p.member()
	_, err := client.SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	got, ok := RefusalOf(err)
	require.True(t, ok)
	require.Equal(t, want, got)
	require.Equal(t, "report.tlp: TLP がありません。--tlp を付けてください。 report.title: 題名がありません。", got.Japanese())
	require.Equal(t, "report.tlp: The TLP label is missing. Add --tlp. report.title: The title is empty.", got.Error())
	require.Equal(t, 2, ExitCode(err))

	s, err := client.UploadPart(testContext(t))
	require.NoError(t, err)
	_, err = s.CloseAndRecv()
	got, ok = RefusalOf(err)
	require.True(t, ok)
	require.Equal(t, want, got)
}

func TestLargestRefusalStillCrossesTheWire(t *testing.T) {
	p := newPort(t)
	big := &Refusal{Code: codes.InvalidArgument, Reason: "MANY"}
	for range 1000 {
		big.Violations = append(big.Violations, Violation{Field: strings.Repeat("f", 500), Reason: "R", Japanese: strings.Repeat("港", 5000), English: strings.Repeat("e", 5000) + "\xff"})
	}
	p.hub.submit = func(context.Context, *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) { return nil, big }
	_, err := p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	r := requireRefusal(t, err, codes.InvalidArgument, "MANY")
	last := r.Violations[len(r.Violations)-1]
	require.Equal(t, reasonMore, last.Reason)
	require.Contains(t, last.Japanese, "件")
}

func TestOversizedMessageIsRefusedInBothLanguages(t *testing.T) {
	p := newPort(t)
	p.hub.submit = accept
	p.hub.upload = func(s grpc.ClientStreamingServer[pb.UploadPartRequest, pb.UploadPartResponse]) error {
		_, err := s.Recv()
		return err
	}
	client := p.member()
	big := make([]byte, maxReceive)
	_, err := client.SubmitReport(testContext(t), &pb.SubmitReportRequest{Envelope: &pb.Envelope{Payload: big}})
	requireRefusal(t, err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
	require.Equal(t, 2, ExitCode(err))
	require.Zero(t, p.called.Load())

	s, err := client.UploadPart(testContext(t))
	require.NoError(t, err)
	_ = s.Send(&pb.UploadPartRequest{Data: big}) // may end early, with the same answer
	_, err = s.CloseAndRecv()
	requireRefusal(t, err, codes.ResourceExhausted, "MESSAGE_TOO_LARGE")
	_, err = client.SubmitReport(testContext(t), &pb.SubmitReportRequest{Envelope: &pb.Envelope{Payload: big[:maxReceive-100]}})
	require.NoError(t, err)
}

func TestBodyThatNeverEndsIsCutByTheDeadline(t *testing.T) {
	p := newPort(t, func(o *ServerOptions) { o.UnaryDeadline = 200 * time.Millisecond })
	p.hub.submit = accept
	conn := p.dial(p.node(p.ca, time.Now()))
	// Headers, and then nothing: the interceptors never see this call.
	s, err := conn.NewStream(testContext(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.HubService_SubmitReport_FullMethodName)
	require.NoError(t, err)
	err = s.RecvMsg(new(pb.SubmitReportResponse))
	require.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
	require.Zero(t, p.called.Load())
	_, err = pb.NewHubServiceClient(conn).SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	require.NoError(t, err, "the connection goes on")
}

func TestHandlerSeesTheDeadlineAndTheShorterOneWins(t *testing.T) {
	p := newPort(t)
	left := make(chan time.Duration, 1)
	p.hub.submit = func(ctx context.Context, _ *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
		d, _ := ctx.Deadline()
		left <- time.Until(d)
		return new(pb.SubmitReportResponse), nil
	}
	client := p.member()
	_, err := client.SubmitReport(t.Context(), new(pb.SubmitReportRequest))
	require.NoError(t, err)
	d := <-left
	require.LessOrEqual(t, d, 10*time.Second)
	require.Greater(t, d, 5*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = client.SubmitReport(ctx, new(pb.SubmitReportRequest))
	require.NoError(t, err)
	require.LessOrEqual(t, <-left, 3*time.Second)
}

func TestStrangersHoldOnlyAFewCalls(t *testing.T) {
	p := newPort(t)
	p.hub.submit = accept
	release := make(chan struct{})
	entered := make(chan struct{}, 2*maxStrangers)
	p.hub.join = func(context.Context, *pb.JoinRequest) (*pb.JoinResponse, error) {
		entered <- struct{}{}
		<-release
		return new(pb.JoinResponse), nil
	}
	conn, _, err := DialPinned(p.addr, ca.Pin(p.ca.Certificate()))
	require.NoError(t, err)
	defer conn.Close()
	client := pb.NewHubServiceClient(conn)
	ended := make(chan error, maxStrangers)
	for range maxStrangers {
		go func() {
			_, err := client.Join(testContext(t), new(pb.JoinRequest))
			ended <- err
		}()
	}
	for range maxStrangers {
		<-entered
	}
	_, err = client.Join(testContext(t), new(pb.JoinRequest))
	requireRefusal(t, err, codes.Unavailable, "HUB_BUSY")
	_, err = p.member().SubmitReport(testContext(t), new(pb.SubmitReportRequest))
	require.NoError(t, err, "members are not held up")
	close(release)
	for range maxStrangers {
		require.NoError(t, <-ended)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := client.Join(testContext(t), new(pb.JoinRequest))
		require.NoError(c, err)
	}, 10*time.Second, 5*time.Millisecond)
}

func TestJoinIsBoundToItsConnection(t *testing.T) {
	p := newPort(t)
	token, err := ca.NewToken(rand.Reader, p.addr, ca.Pin(p.ca.Certificate()))
	require.NoError(t, err)
	pub := token.Key.Public().(ed25519.PublicKey)
	seen := make(chan []byte, 4)
	p.hub.join = func(ctx context.Context, r *pb.JoinRequest) (*pb.JoinResponse, error) {
		if _, known := PeerFrom(ctx); known {
			return nil, errors.New("a stranger has no identity")
		}
		exporter, err := Exporter(ctx)
		if err != nil {
			return nil, err
		}
		seen <- exporter
		if !ca.CheckProof(pub, exporter, r.GetCertificateRequest(), r.GetSigningKey(), r.GetProof()) {
			return nil, Refuse(codes.PermissionDenied, "TOKEN_REFUSED", "proof", "使えません。", "Not accepted.")
		}
		return new(pb.JoinResponse), nil
	}
	connect := func() (pb.HubServiceClient, []byte) {
		conn, exporter, err := DialPinned(token.Addr, token.Pin)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		value, err := exporter(testContext(t))
		require.NoError(t, err)
		require.Len(t, value, 32)
		return pb.NewHubServiceClient(conn), value
	}
	client, value := connect()
	req := &pb.JoinRequest{CertificateRequest: []byte("csr"), SigningKey: []byte("key")}
	req.Proof = ca.Proof(token.Key, value, req.CertificateRequest, req.SigningKey)
	_, err = client.Join(testContext(t), req)
	require.NoError(t, err)
	require.Equal(t, value, <-seen)

	other, otherValue := connect()
	require.NotEqual(t, value, otherValue)
	_, err = other.Join(testContext(t), req)
	requireRefusal(t, err, codes.PermissionDenied, "TOKEN_REFUSED")
	require.Equal(t, otherValue, <-seen)
}

func TestPinnedConnectionRefusesAnyOtherHub(t *testing.T) {
	p, foreign := newPort(t), newPort(t)
	for name, addr := range map[string]string{
		"another CA": foreign.addr,
		// It has the pinned CA's certificate, which is public, but no leaf by it.
		"pinned CA beside a foreign leaf": func() string {
			cert := hubCertificate(t, foreign.ca)
			cert.Certificate = append(cert.Certificate, p.ca.Certificate().Raw)
			return tlsListener(t, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})
		}(),
		"a node of the port as hub": func() string {
			cert := p.node(p.ca, time.Now())
			cert.Certificate = append(cert.Certificate, p.ca.Certificate().Raw)
			return tlsListener(t, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}})
		}(),
		"no chain": func() string {
			return tlsListener(t, &tls.Config{Certificates: []tls.Certificate{*hubCertificate(t, p.ca)}, NextProtos: []string{"h2"}})
		}(),
	} {
		conn, exporter, err := DialPinned(addr, ca.Pin(p.ca.Certificate()))
		require.NoError(t, err)
		_, err = exporter(testContext(t))
		require.Error(t, err, name)
		r := requireRefusal(t, err, codes.Unauthenticated, "PIN_MISMATCH")
		require.Contains(t, r.Error(), addr)
		require.Equal(t, 4, ExitCode(err))
		_, err = pb.NewHubServiceClient(conn).Join(testContext(t), new(pb.JoinRequest))
		require.Error(t, err, name)
		conn.Close()
	}
	require.Zero(t, foreign.called.Load())
}

func TestJoinSaysWhenNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	conn, exporter, err := DialPinned(addr, [32]byte{})
	require.NoError(t, err)
	defer conn.Close()
	_, err = exporter(testContext(t))
	r := requireRefusal(t, err, codes.Unavailable, "HUB_NOT_REACHED")
	require.Contains(t, r.Japanese(), addr)
}

func TestPinnedConnectionIsMadeOnce(t *testing.T) {
	p := newPort(t)
	once := &onceCreds{TransportCredentials: credentials.NewTLS(pinnedTLS(ca.Pin(p.ca.Certificate())))}
	shake := func(c credentials.TransportCredentials) error {
		raw, err := net.Dial("tcp", p.addr)
		require.NoError(t, err)
		defer raw.Close()
		_, _, err = c.ClientHandshake(testContext(t), ca.HubName, raw)
		return err
	}
	require.NoError(t, shake(once))
	want, err := once.exporter()
	require.NoError(t, err)
	require.Error(t, shake(once))
	require.Error(t, shake(once.Clone()), "nor by a clone")
	got, err := once.exporter()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestCallWithoutTLSHasNoIdentity(t *testing.T) {
	_, err := Exporter(t.Context())
	require.Error(t, err)
	_, ok := PeerFrom(t.Context())
	require.False(t, ok)
	p, ok := PeerFrom(ContextWithPeer(t.Context(), ca.Peer{Member: "a"}))
	require.True(t, ok)
	require.Equal(t, "a", p.Member)
}
