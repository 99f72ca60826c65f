package hub

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// testHub is a hub that runs in this process, with real TLS, NATS and files.
type testHub struct {
	*Hub
	t    testing.TB
	dir  string
	stop func() error
}

// newHub makes and runs a hub. wrap may put faults before its journal.
func newHub(t testing.TB, wrap func(writer) writer) *testHub {
	t.Helper()
	dir, err := os.MkdirTemp("", "hub")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, Init(context.Background(), InitOptions{Dir: filepath.Join(dir, "h"), Port: "testport", Listen: freeAddress(t), NATS: freeAddress(t)}))
	h := &testHub{t: t, dir: filepath.Join(dir, "h")}
	h.start(wrap)
	t.Cleanup(func() {
		if h.stop != nil {
			require.NoError(t, h.stop())
		}
	})
	return h
}

func (h *testHub) start(wrap func(writer) writer) {
	h.t.Helper()
	c, err := ReadConfig(filepath.Join(h.dir, "hub.toml"))
	require.NoError(h.t, err)
	h.Hub, err = Open(context.Background(), c, slog.New(slog.DiscardHandler))
	require.NoError(h.t, err)
	if wrap != nil {
		h.Hub.writes = wrap(h.Hub.writes)
	}
	ctx, cancel := context.WithCancel(context.Background())
	running, done := h.Hub, make(chan error, 1)
	go func() { done <- running.Run(ctx) }()
	select {
	case <-running.Ready():
	case err := <-done:
		require.NoError(h.t, err)
	}
	h.stop = func() error {
		h.stop = nil
		cancel()
		err := <-done
		if closing := running.Close(); err == nil {
			err = closing
		}
		return err
	}
}

// restart opens the hub again from disk.
func (h *testHub) restart(wrap func(writer) writer) {
	h.t.Helper()
	require.NoError(h.t, h.stop())
	h.start(wrap)
}

// freeAddress is a loopback address that nobody listens on now. It lies below
// the ports that the system gives to clients: one of those could take it while
// a hub is being restarted.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+mathrand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

// testMember is a member with the keys of its node, without a node's code.
type testMember struct {
	t       testing.TB
	id      nodeID
	conn    *grpc.ClientConn
	hub     pb.HubServiceClient
	signing ed25519.PrivateKey
	cert    *tls.Certificate
	root    *x509.Certificate
	addr    string
	nats    string
}

func (m *testMember) certificate() *tls.Certificate { return m.cert }

// join invites and joins a member and gives it a person named ciso.
func (h *testHub) join(id string, role pb.Role, communities ...string) *testMember {
	h.t.Helper()
	inv, err := h.Invite(context.Background(), &pb.InviteRequest{Member: id, Name: id + " の名", Role: role, Communities: communities, Ttl: durationpb.New(time.Hour)})
	require.NoError(h.t, err)
	m, err := joinWith(h.t, inv.GetToken())
	require.NoError(h.t, err)
	_, err = m.hub.SetProfile(context.Background(), &pb.SetProfileRequest{Profile: testProfile()})
	require.NoError(h.t, err)
	return m
}

func testProfile() *pb.Profile {
	return &pb.Profile{
		Organisation: "試験ターミナル",
		Desks:        []*pb.Desk{{Name: "窓口", Contacts: testContacts()}},
		Persons:      []*pb.Person{{Id: "ciso", Name: "港 一郎"}},
	}
}

func testContacts() []*pb.Contact {
	return []*pb.Contact{{Name: "港 一郎", Phone: "03-0000-0001"}, {Name: "波止 花子", Mail: "hanako@port.example"}}
}

func joinWith(t testing.TB, tokenText string) (*testMember, error) {
	t.Helper()
	tok, err := ca.ParseToken(tokenText)
	if err != nil {
		return nil, err
	}
	return joinAs(t, tok, func(exporter, csr, signing []byte) []byte { return ca.Proof(tok.Key, exporter, csr, signing) })
}

// joinAs joins with a proof of the caller's making.
func joinAs(t testing.TB, tok ca.Token, proof func(exporter, csr, signing []byte) []byte) (*testMember, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	signing, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	conn, export, err := rpc.DialPinned(tok.Addr, tok.Pin)
	require.NoError(t, err)
	defer conn.Close()
	exporter, err := export(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := pb.NewHubServiceClient(conn).Join(ctx, &pb.JoinRequest{
		CertificateRequest: csr, SigningKey: signing, TokenKey: tok.Key.Public().(ed25519.PublicKey), Proof: proof(exporter, csr, signing),
	})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(resp.GetCertificate())
	require.NoError(t, err)
	root, err := x509.ParseCertificate(resp.GetCaCertificate())
	require.NoError(t, err)
	m := &testMember{
		t: t, id: nodeID{resp.GetMember().GetId(), resp.GetNode()}, signing: private, root: root, addr: tok.Addr, nats: resp.GetNatsAddress(),
		cert: &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
	}
	m.dial()
	t.Cleanup(func() { m.conn.Close() })
	return m, nil
}

// dial makes a fresh connection, e.g. after the hub was started again.
func (m *testMember) dial() {
	m.t.Helper()
	if m.conn != nil {
		m.conn.Close()
	}
	var err error
	m.conn, err = rpc.DialHub(m.addr, rpc.ClientTLS(m.root, func() *tls.Certificate { return m.cert }))
	require.NoError(m.t, err)
	m.hub = pb.NewHubServiceClient(m.conn)
}

// submit signs a report and submits it under a request id.
func (m *testMember) submit(r *pb.Report, request string) (*pb.Envelope, error) {
	payload, err := proto.Marshal(r)
	require.NoError(m.t, err)
	return m.submitBytes(payload, seal.LiveReportType, request)
}

func (m *testMember) submitBytes(payload []byte, payloadType, request string) (*pb.Envelope, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := m.hub.SubmitReport(ctx, &pb.SubmitReportRequest{RequestId: request, Envelope: seal.Sign(m.signing, payloadType, payload)})
	return resp.GetReceipt(), err
}

// watch opens a gRPC session and confirms what comes, until ctx ends.
func (m *testMember) watch(ctx context.Context, lane pb.Lane, each func(*pb.Delivery)) error {
	stream, err := m.hub.WatchDeliveries(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Open{Open: &pb.OpenSessionRequest{Lane: lane}}}); err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		d := resp.GetMessage().GetDelivery()
		if d == nil {
			continue
		}
		each(d)
		if err := stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Receipt{Receipt: m.receipt(d, pb.ReceiptState_RECEIPT_STATE_STORED)}}); err != nil {
			return err
		}
	}
}

func (m *testMember) receipt(d *pb.Delivery, state pb.ReceiptState) *pb.Envelope {
	digest := sha256.Sum256(d.GetEnvelope().GetPayload())
	payload, err := proto.Marshal(&pb.DeliveryReceipt{
		ReportId: d.GetReportId(), Lane: d.GetLane(), PayloadDigest: digest[:], Member: m.id.member, Node: m.id.number,
		DeliverySequence: d.GetDeliverySequence(), State: state, ReceiptTime: timestamppb.Now(),
	})
	require.NoError(m.t, err)
	return seal.Sign(m.signing, seal.DeliveryReceiptType, payload)
}

// firstReport is a first report with little more than it must carry. Its source
// agrees that peers see it whole, so that what arrives is what was signed; what
// projections hold is tested apart.
func firstReport(to ...string) *pb.Report {
	r := &pb.Report{
		ReportId: newID(), CaseId: newID(), Sequence: 1, Stage: pb.Stage_STAGE_PRELIMINARY, Lane: pb.Lane_LANE_LIVE,
		Kind: pb.Kind_KIND_INCIDENT, SecrecyRegime: pb.SecrecyRegime_SECRECY_REGIME_NONE, Consents: &pb.Consents{PeerNamed: true, PeerDamage: true},
		Reason: pb.Reason_REASON_VOLUNTARY, RouteChoice: pb.RouteChoice_ROUTE_CHOICE_DIRECT, Tlp: pb.TlpLabel_TLP_LABEL_AMBER,
		Reporter: &pb.Reporter{Organisation: "試験ターミナル", Contacts: testContacts()},
		Title:    "件名", Summary: "一文。",
		Occurred: &pb.Moment{Certainty: pb.Certainty_CERTAINTY_UNKNOWN}, Recognised: &pb.Moment{Certainty: pb.Certainty_CERTAINTY_UNKNOWN},
		Place:         &pb.Place{Certainty: pb.Certainty_CERTAINTY_UNKNOWN},
		Event:         &pb.Event{Types: []pb.EventType{pb.EventType_EVENT_TYPE_UNKNOWN}},
		Cause:         &pb.Cause{Class: pb.CauseClass_CAUSE_CLASS_UNKNOWN},
		Impact:        &pb.Impact{Business: pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN},
		Spread:        &pb.Spread{Risk: pb.SpreadRisk_SPREAD_RISK_UNKNOWN},
		Recovery:      &pb.Recovery{State: pb.RecoveryState_RECOVERY_STATE_UNKNOWN},
		PersonalData:  pb.PersonalData_PERSONAL_DATA_UNKNOWN,
		CreateTime:    timestamppb.Now(),
		RetentionTime: timestamppb.New(time.Now().AddDate(1, 0, 0)),
	}
	for _, m := range to {
		r.Recipients = append(r.Recipients, &pb.Recipient{Member: m})
	}
	return r
}

func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

func requireReason(t testing.TB, err error, reason string) *rpc.Refusal {
	t.Helper()
	r, ok := rpc.RefusalOf(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, r.Reason, "%v", r)
	for _, v := range r.Violations {
		require.NotEmpty(t, v.Japanese, "%v", v)
		require.NotEmpty(t, v.English, "%v", v)
	}
	return r
}
