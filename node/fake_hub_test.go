package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// The calls of a node that a test can disturb.
const (
	callUpload   = "UploadPart"
	callSubmit   = "SubmitReport"
	callReact    = "AcknowledgeReport"
	callSession  = "Session"
	callDownload = "DownloadPart"
	callRenew    = "RenewCertificate"
	callProfile  = "SetProfile"
	callMembers  = "ListMembers"
	callJoin     = "Join"
	callPlan     = "PlanReport"
	callKey      = "SetKey"
	callInstruct = "InstructReport"
	callExplain  = "ExplainReport"
)

// fault decides what becomes of one call: do is what the hub does, the error
// is what the node is told.
type fault func(ctx context.Context, do func() error) error

var errAway = status.Error(codes.Unavailable, "connection reset")

func lostOnTheWay(context.Context, func() error) error { return errAway }

func answerLost(_ context.Context, do func() error) error { return errors.Join(errAway, do()) }

func answerLate(ctx context.Context, do func() error) error {
	err := do()
	<-ctx.Done()
	return errors.Join(err, ctx.Err())
}

func refusedByHub(context.Context, func() error) error {
	return rpc.Refuse(codes.FailedPrecondition, "NOT_WANTED", "report", "このハブでは受け付けません。", "This hub does not take it.")
}

// fakeHub is a hub that remembers what it was told and fails as a test wants.
// It has a real CA, TLS, gRPC and, where asked for, a real NATS server.
type fakeHub struct {
	pb.UnsafeHubServiceServer

	ca          *ca.CA
	key         ed25519.PrivateKey // signs receipts
	source      ed25519.PrivateKey // of terminal-b, which reports
	second      ed25519.PrivateKey // of its second node, where it has one
	sibling     ed25519.PublicKey  // of a further node of terminal-a
	clients     []string           // of terminal-a
	communities []string           // of terminal-b
	silent      time.Duration      // how long this hub may say nothing over gRPC
	addr        string
	nats        *nats.Conn // nil without NATS
	broker      string     // its address
	ctx         context.Context

	mu        sync.Mutex
	issued    time.Time // when certificates are issued
	barred    bool      // no certificate is accepted
	nodeKey   ed25519.PublicKey
	node      *Node // the running node, to look into its store
	faults    map[string][]fault
	taken     map[string]int // faults that have been met
	calls     map[string]int
	onSubmit  func(*pb.SubmitReportResponse) // alters the answer
	parts     map[string][]byte
	submits   []submitted
	accepted  map[string][]byte // marshalled receipt by report
	reactions []*pb.DeliveryReceipt
	profile   *pb.Profile
	renewed   []byte // last renewed certificate
	onJoin    func(*pb.JoinResponse)
	keys      map[string][]*pb.SignedKey // of each member, as it was published
	role      pb.Role                    // of terminal-a
	plan      func(*pb.Outline) *pb.Plan // nil gives everybody's whole report to terminal-b
	// toInstruct answers an instruction that verifies; nil takes it with an
	// empty plan.
	toInstruct   func(i *pb.Instruction, preview bool) (*pb.Plan, error)
	instructions []*pb.Instruction // taken, without previews
	sealed       map[string]*pb.SealedReport
	explained    *pb.ExplainReportRequest
	lanes        map[pb.Lane]*fakeLane
	wrong        []string // rules that the node broke
}

var _ pb.HubServiceServer = (*fakeHub)(nil)

// submitted is one try that reached the hub.
type submitted struct {
	report, request string
	digest          [sha256.Size]byte
	time            time.Time
	isNew           bool
}

type fakeLane struct {
	deliveries []*pb.Delivery // in order, numbered from 1
	confirmed  int            // the cursor
	receipts   []*pb.DeliveryReceipt
	opened     int
	cancel     context.CancelFunc
	changed    chan struct{}
	// alter changes or, with nil, loses what the hub says in its nth session.
	alter func(session int, m *pb.SessionMessage) *pb.SessionMessage
	// deaf loses the receipts of the nth session.
	deaf func(session int) bool
}

// newFakeHub runs a hub until the test ends.
func newFakeHub(t testing.TB, transport Transport) *fakeHub {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, ca.Create(filepath.Join(dir, "ca"), "testport"))
	authority, err := ca.Open(filepath.Join(dir, "ca"))
	require.NoError(t, err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, source, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	h := &fakeHub{
		ca: authority, key: key, source: source, silent: time.Second, ctx: ctx, issued: time.Now(), faults: map[string][]fault{}, taken: map[string]int{}, calls: map[string]int{},
		parts: map[string][]byte{}, accepted: map[string][]byte{}, lanes: map[pb.Lane]*fakeLane{},
		keys: map[string][]*pb.SignedKey{}, sealed: map[string]*pb.SealedReport{},
	}
	for _, lane := range lanes {
		h.lanes[lane] = &fakeLane{changed: make(chan struct{}, 1)}
	}
	own := certificate(t, func(key *ecdsa.PrivateKey, _ []byte) ([]byte, error) {
		return authority.IssueHub(&key.PublicKey, time.Now())
	})
	conf := func(demand bool) *tls.Config {
		return rpc.ServerTLS(rpc.ServerConfig{
			CA: authority.Certificate(), Certificate: func() *tls.Certificate { return own }, Admit: h.admit, RequireClient: demand,
		})
	}
	access := map[string]rpc.Access{}
	for _, m := range pb.HubService_ServiceDesc.Methods {
		access["/"+pb.HubService_ServiceDesc.ServiceName+"/"+m.MethodName] = rpc.Members
	}
	for _, m := range pb.HubService_ServiceDesc.Streams {
		access["/"+pb.HubService_ServiceDesc.ServiceName+"/"+m.StreamName] = rpc.Members
	}
	access[pb.HubService_Join_FullMethodName] = rpc.Anyone
	server := rpc.NewServer(rpc.ServerOptions{TLS: conf(false), Access: access})
	pb.RegisterHubServiceServer(server, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		server.Stop()
		require.NoError(t, <-served)
	})
	if transport == NATS {
		h.startNATS(t, conf(true))
	}
	return h
}

func (h *fakeHub) startNATS(t testing.TB, conf *tls.Config) {
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoLog: true, NoSigs: true, TLS: true, TLSConfig: conf, TLSVerify: true, TLSHandshakeFirst: true,
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	h.broker = s.Addr().String()
	edge := certificate(t, func(_ *ecdsa.PrivateKey, csr []byte) ([]byte, error) {
		return h.ca.IssueNode(csr, "edge", 1, time.Now())
	})
	h.nats, err = nats.Connect("tls://"+h.broker, nats.TLSHandshakeFirst(),
		nats.Secure(rpc.ClientTLS(h.ca.Certificate(), func() *tls.Certificate { return edge })))
	require.NoError(t, err)
	t.Cleanup(h.nats.Close)
}

func certificate(t testing.TB, issue func(*ecdsa.PrivateKey, []byte) ([]byte, error)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	csr, err := request(key)
	require.NoError(t, err)
	der, err := issue(key, csr)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// bar lets nobody in, or everybody again.
func (h *fakeHub) bar(barred bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.barred = barred
}

func (h *fakeHub) admit(ca.Peer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.barred {
		return errors.New("revoked")
	}
	return nil
}

// fail disturbs the next calls of a kind.
func (h *fakeHub) fail(call string, f ...fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[call] = append(h.faults[call], f...)
}

// meet does what a call asks for, or what its fault makes of it.
func (h *fakeHub) meet(ctx context.Context, call string, do func() error) error {
	h.mu.Lock()
	h.calls[call]++
	var f fault
	if waiting := h.faults[call]; len(waiting) > 0 {
		f, h.faults[call] = waiting[0], waiting[1:]
	}
	h.mu.Unlock()
	if f == nil {
		return do()
	}
	took := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.taken[call]++
	}
	var once sync.Once
	defer once.Do(took)
	return f(ctx, func() error {
		defer once.Do(took) // a late answer is late from here on
		return do()
	})
}

// see reads what the hub remembers.
func (h *fakeHub) see(look func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	look()
}

func (h *fakeHub) count(call string) (n int) {
	h.see(func() { n = h.calls[call] })
	return n
}

func (h *fakeHub) broke(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// token permits a node to join.
func (h *fakeHub) token(t testing.TB) string {
	t.Helper()
	tok, err := ca.NewToken(rand.Reader, h.addr, ca.Pin(h.ca.Certificate()))
	require.NoError(t, err)
	return tok.String()
}

// join makes a node's directory, with a short path: that of a Unix socket is
// bounded.
func (h *fakeHub) join(t testing.TB) string {
	t.Helper()
	base, err := os.MkdirTemp("", "node")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "n")
	_, err = Join(t.Context(), JoinOptions{Token: h.token(t), Dir: dir})
	require.NoError(t, err)
	return dir
}

// runningNode is a node with what ends it.
type runningNode struct {
	*Node
	end func()
}

// run opens a node's directory and serves it, with short waits. The node ends
// with the test or at end.
func (h *fakeHub) run(t testing.TB, dir string, log ...*slog.Logger) *runningNode {
	t.Helper()
	c, err := ReadConfig(filepath.Join(dir, "node.toml"))
	require.NoError(t, err)
	log = append(log, slog.New(slog.DiscardHandler))
	n, err := Open(t.Context(), c, log[0])
	require.NoError(t, err)
	n.retry, n.within, n.silent = 5*time.Millisecond, time.Second, h.silent
	h.see(func() { h.node = n })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	<-n.Ready()
	var once sync.Once
	r := &runningNode{Node: n, end: func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
			require.NoError(t, n.Close())
		})
	}}
	t.Cleanup(r.end)
	return r
}

// deliver queues a report for the node and gives its id. alter may spoil the
// delivery after it was signed.
func (h *fakeHub) deliver(t testing.TB, r *pb.Report, alter ...func(*pb.Delivery)) string {
	t.Helper()
	payload, err := proto.Marshal(r)
	require.NoError(t, err)
	d := &pb.Delivery{
		Lane: r.GetLane(), ReportId: r.GetReportId(), Envelope: seal.Sign(h.source, seal.ReportType(r.GetLane()), payload),
		Source: "terminal-b", SourceName: "西ターミナル", AcceptTime: timestamppb.Now(), Copy: &pb.Copy{Member: "terminal-a", Named: true},
		SourceKey: h.source.Public().(ed25519.PublicKey),
	}
	lane := r.GetLane()
	for _, f := range alter {
		f(d)
	}
	h.mu.Lock()
	l := h.lanes[lane]
	d.DeliverySequence = uint64(len(l.deliveries) + 1)
	l.deliveries = append(l.deliveries, d)
	h.mu.Unlock()
	l.wake()
	return r.GetReportId()
}

func (l *fakeLane) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (h *fakeHub) Join(ctx context.Context, req *pb.JoinRequest) (resp *pb.JoinResponse, err error) {
	err = h.meet(ctx, callJoin, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		cert, err := h.ca.IssueNode(req.GetCertificateRequest(), "terminal-a", 1, h.issued)
		if err != nil {
			return err
		}
		h.nodeKey = req.GetSigningKey()
		resp = &pb.JoinResponse{
			Certificate: cert, CaCertificate: h.ca.Certificate().Raw, HubKey: h.key.Public().(ed25519.PublicKey), PortId: "testport",
			Member: &pb.Member{Id: "terminal-a", Name: "東ターミナル"}, Node: 1, NatsAddress: h.broker,
		}
		if h.onJoin != nil {
			h.onJoin(resp)
		}
		return nil
	})
	return resp, err
}

func (h *fakeHub) RenewCertificate(ctx context.Context, req *pb.RenewCertificateRequest) (*pb.RenewCertificateResponse, error) {
	resp := new(pb.RenewCertificateResponse)
	err := h.meet(ctx, callRenew, func() (err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		resp.Certificate, err = h.ca.IssueNode(req.GetCertificateRequest(), "terminal-a", 1, time.Now())
		h.renewed = resp.Certificate
		return err
	})
	return resp, err
}

func (h *fakeHub) UploadPart(stream pb.HubService_UploadPartServer) error {
	err := h.meet(stream.Context(), callUpload, func() error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		data := bytes.Clone(first.GetData())
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			data = append(data, m.GetData()...)
		}
		sum := sha256.Sum256(data)
		if !bytes.Equal(sum[:], first.GetPart().GetDigest()) || first.GetPart().GetSize() != uint64(len(data)) {
			h.broke("a part came with another digest or size")
		}
		h.see(func() { h.parts[string(sum[:])] = data })
		return nil
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&pb.UploadPartResponse{})
}

func (h *fakeHub) SubmitReport(ctx context.Context, req *pb.SubmitReportRequest) (resp *pb.SubmitReportResponse, err error) {
	err = h.meet(ctx, callSubmit, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		resp, err = h.take(req)
		return err
	})
	return resp, err
}

// take accepts a report, or finds the first receipt of a repeat.
func (h *fakeHub) take(req *pb.SubmitReportRequest) (*pb.SubmitReportResponse, error) {
	for _, lane := range lanes {
		if req.GetEnvelope().GetPayloadType() == seal.SealedReportType(lane) {
			return h.takeSealed(req, lane)
		}
	}
	payload, err := seal.Verify(req.GetEnvelope(), seal.LiveReportType, h.nodeKey)
	if err != nil {
		if payload, err = seal.Verify(req.GetEnvelope(), seal.ExerciseReportType, h.nodeKey); err != nil {
			return nil, err
		}
	}
	r := new(pb.Report)
	if err := proto.Unmarshal(payload, r); err != nil {
		return nil, err
	}
	if label := check.Label(r.GetTlp()); label.NeedsSeal() {
		h.wrong = append(h.wrong, fmt.Sprintf("a %s came open", label))
	}
	return h.receipt(req, r.Outline(), payload, r.Parts())
}

// takeSealed holds a sealed report against the plan of the moment: every
// holder has a wrap, and nobody else.
func (h *fakeHub) takeSealed(req *pb.SubmitReportRequest, lane pb.Lane) (*pb.SubmitReportResponse, error) {
	s, err := seal.VerifySealed(req.GetEnvelope(), lane, h.nodeKey)
	if err != nil {
		return nil, err
	}
	var parts []*pb.Part
	for _, v := range s.GetVariants() {
		parts = append(parts, ciphertexts(v)...)
	}
	for _, p := range parts {
		if bad := check.Part("part", p, limits); len(bad) > 0 {
			h.wrong = append(h.wrong, fmt.Sprintf("a sealed part that the hub refuses: %v", bad))
		}
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, c := range h.planOf(s.GetOutline()).GetCopies() {
		for _, person := range append(c.GetPersons(), map[bool][]string{true: {""}}[len(c.GetPersons()) == 0]...) {
			want[c.GetMember()+"/"+person+c.GetFlow().String()] = true
		}
	}
	for _, w := range s.GetWraps() {
		got[w.GetMember()+"/"+w.GetPerson()+s.GetVariants()[w.GetVariant()].GetFlow().String()] = true
	}
	if !maps.Equal(want, got) {
		return nil, rpc.Refuse(codes.FailedPrecondition, "PLAN_CHANGED", "variants", "判断が変わりました。", "The decision has changed.")
	}
	h.sealed[s.GetOutline().GetReportId()] = s
	return h.receipt(req, s.GetOutline(), req.GetEnvelope().GetPayload(), parts)
}

func (h *fakeHub) planOf(o *pb.Outline) *pb.Plan {
	if h.plan != nil {
		return h.plan(o)
	}
	return &pb.Plan{DirectoryRevision: 1, Copies: []*pb.Copy{{Member: "terminal-b", Flow: pb.Flow_FLOW_AUTHORITY, Named: true}}}
}

// receipt promises a report, or finds the first promise of a repeat.
func (h *fakeHub) receipt(req *pb.SubmitReportRequest, r *pb.Outline, payload []byte, parts []*pb.Part) (_ *pb.SubmitReportResponse, err error) {
	for _, p := range parts {
		if _, ok := h.parts[string(p.GetDigest())]; !ok {
			return nil, rpc.Refuse(codes.FailedPrecondition, "PART_MISSING", "parts", "添付がありません。", "A part is missing.")
		}
	}
	s := submitted{report: r.GetReportId(), request: req.GetRequestId(), digest: sha256.Sum256(payload), time: time.Now()}
	kept, again := h.accepted[s.report]
	s.isNew = !again
	h.submits = append(h.submits, s)
	if !again {
		kept, err = proto.Marshal(&pb.SubmitReceipt{
			ReportId: r.GetReportId(), CaseId: r.GetCaseId(), Sequence: r.GetSequence(), Lane: r.GetLane(), PayloadDigest: s.digest[:],
			AcceptTime: timestamppb.Now(), Plan: h.planOf(r), PortId: "testport",
		})
		if err != nil {
			return nil, err
		}
		h.accepted[s.report] = kept
	}
	resp := &pb.SubmitReportResponse{Receipt: seal.Sign(h.key, seal.SubmitReceiptType, kept)}
	if h.onSubmit != nil {
		h.onSubmit(resp)
	}
	return resp, nil
}

func (h *fakeHub) PlanReport(ctx context.Context, req *pb.PlanReportRequest) (resp *pb.PlanReportResponse, err error) {
	err = h.meet(ctx, callPlan, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if label := check.Label(req.GetReport().GetTlp()); label.NeedsSeal() {
			h.wrong = append(h.wrong, fmt.Sprintf("a preview of a %s came open", label))
		}
		outline := req.GetOutline()
		if outline == nil {
			outline = req.GetReport().Outline()
		}
		resp = &pb.PlanReportResponse{Plan: proto.CloneOf(h.planOf(outline))}
		return nil
	})
	return resp, err
}

func (h *fakeHub) ExplainReport(ctx context.Context, req *pb.ExplainReportRequest) (*pb.ExplainReportResponse, error) {
	err := h.meet(ctx, callExplain, func() error {
		h.see(func() { h.explained = req })
		return nil
	})
	return &pb.ExplainReportResponse{PolicyVersion: "2026-1"}, err
}

func (h *fakeHub) InstructReport(ctx context.Context, req *pb.InstructReportRequest) (resp *pb.InstructReportResponse, err error) {
	err = h.meet(ctx, callInstruct, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		i, err := seal.VerifyInstruction(req.GetInstruction(), h.nodeKey)
		if err != nil {
			return err
		}
		resp = &pb.InstructReportResponse{Plan: new(pb.Plan)}
		if h.toInstruct != nil {
			if resp.Plan, err = h.toInstruct(i, req.GetPreview()); err != nil {
				return err
			}
		}
		if !req.GetPreview() {
			h.instructions = append(h.instructions, i)
		}
		return nil
	})
	return resp, err
}

// SetKey takes an entry of terminal-a and replaces the earlier one.
func (h *fakeHub) SetKey(ctx context.Context, req *pb.SetKeyRequest) (*pb.SetKeyResponse, error) {
	err := h.meet(ctx, callKey, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		e, err := seal.VerifyKey(req.GetKey(), h.nodeKey)
		if err != nil {
			return err
		}
		if e.GetMember() != "terminal-a" || e.GetNode() != 1 {
			h.wrong = append(h.wrong, "a key of somebody else was published")
		}
		for _, k := range h.keys[e.GetMember()] {
			newer := k.GetEntry().GetCreateTime().AsTime().After(e.GetCreateTime().AsTime())
			if k.GetEntry().GetPerson() == e.GetPerson() && k.GetEntry().GetNode() == e.GetNode() && newer {
				return rpc.Refuse(codes.InvalidArgument, "KEY_OLDER", "key.create_time", "古い鍵です。", "The key is older than the one that is published.")
			}
		}
		h.list(e, req.GetKey())
		return nil
	})
	return &pb.SetKeyResponse{}, err
}

// list puts an entry into the directory, in the place of the owner's last one.
func (h *fakeHub) list(e *pb.KeyEntry, env *pb.Envelope) {
	own := slices.DeleteFunc(h.keys[e.GetMember()], func(k *pb.SignedKey) bool {
		return k.GetEntry().GetPerson() == e.GetPerson() && k.GetEntry().GetNode() == e.GetNode()
	})
	h.keys[e.GetMember()] = append(own, &pb.SignedKey{Entry: e, Envelope: env})
}

func (h *fakeHub) ListReceipts(context.Context, *pb.ListReceiptsRequest) (*pb.ListReceiptsResponse, error) {
	return nil, errAway
}

func (h *fakeHub) DownloadPart(req *pb.DownloadPartRequest, stream pb.HubService_DownloadPartServer) error {
	var data []byte
	err := h.meet(stream.Context(), callDownload, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		var ok bool
		if data, ok = h.parts[string(req.GetDigest())]; !ok {
			return status.Error(codes.NotFound, "no part")
		}
		return stream.Send(&pb.DownloadPartResponse{Data: data[:len(data)/2]})
	})
	if err != nil {
		return err
	}
	return stream.Send(&pb.DownloadPartResponse{Data: data[len(data)/2:]})
}

func (h *fakeHub) AcknowledgeReport(ctx context.Context, req *pb.AcknowledgeReportRequest) (*pb.AcknowledgeReportResponse, error) {
	err := h.meet(ctx, callReact, func() error {
		r, err := h.openReceipt(req.GetReceipt())
		h.see(func() { h.reactions = append(h.reactions, r) })
		return err
	})
	return &pb.AcknowledgeReportResponse{}, err
}

func (h *fakeHub) ListMembers(ctx context.Context, req *pb.ListMembersRequest) (resp *pb.ListMembersResponse, err error) {
	err = h.meet(ctx, callMembers, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		own := []*pb.Node{{Number: 1, SigningKey: h.nodeKey}}
		if h.sibling != nil {
			own = append(own, &pb.Node{Number: 2, SigningKey: h.sibling})
		}
		resp = &pb.ListMembersResponse{Revision: 7, Members: []*pb.Member{{
			Id: "terminal-a", Name: "東ターミナル", Role: h.role, Profile: h.profile, Keys: slices.Clone(h.keys["terminal-a"]),
			Nodes: own, Clients: h.clients,
		}}, NextPageToken: "terminal-a"}
		if req.GetPageToken() != "" {
			nodes := []*pb.Node{{Number: 1, SigningKey: h.source.Public().(ed25519.PublicKey)}}
			if h.second != nil {
				nodes = append(nodes, &pb.Node{Number: 2, SigningKey: h.second.Public().(ed25519.PublicKey)})
			}
			resp = &pb.ListMembersResponse{Revision: 7, Members: []*pb.Member{{
				Id: "terminal-b", Name: "西ターミナル", Nodes: nodes, Keys: slices.Clone(h.keys["terminal-b"]), Communities: h.communities,
			}}}
		}
		return nil
	})
	return resp, err
}

func (h *fakeHub) SetProfile(ctx context.Context, req *pb.SetProfileRequest) (*pb.SetProfileResponse, error) {
	err := h.meet(ctx, callProfile, func() error {
		h.see(func() { h.profile = req.GetProfile() })
		return nil
	})
	return &pb.SetProfileResponse{}, err
}

func (h *fakeHub) WatchDeliveries(stream pb.HubService_WatchDeliveriesServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	receipts := make(chan *pb.Envelope)
	go func() {
		defer cancel()
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case receipts <- m.GetReceipt():
			case <-ctx.Done():
				return
			}
		}
	}()
	return h.meet(ctx, callSession, func() error {
		return h.session(ctx, first.GetOpen().GetLane(), func(m *pb.SessionMessage) error {
			return stream.Send(&pb.WatchDeliveriesResponse{Message: m})
		}, receipts)
	})
}

// fakeBeat is how often the fake hub says that it is there, and brokerBeat
// what it promises over NATS: silence is noticed after half a second.
const (
	fakeBeat   = 20 * time.Millisecond
	brokerBeat = 400 * time.Millisecond
)

func (h *fakeHub) OpenSession(ctx context.Context, req *pb.OpenSessionRequest) (*pb.OpenSessionResponse, error) {
	resp := &pb.OpenSessionResponse{Key: make([]byte, 32), HeartbeatMillis: uint32(brokerBeat.Milliseconds())}
	rand.Read(resp.Key)
	err := h.meet(ctx, callSession, func() error {
		p, _ := rpc.PeerFrom(ctx)
		receipts := make(chan *pb.Envelope, 64)
		sub, err := h.nats.Subscribe("hub."+p.Member+".receipt."+req.GetSessionId(), func(m *nats.Msg) {
			sealed, env := new(pb.SealedMessage), new(pb.Envelope)
			plain, err := []byte(nil), proto.Unmarshal(m.Data, sealed)
			if err == nil {
				plain, err = seal.OpenMessage(resp.Key, req.GetSessionId(), seal.ToHub, sealed.GetCiphertext())
			}
			if err == nil {
				err = proto.Unmarshal(plain, env)
			}
			if err != nil {
				h.broke("receipt over NATS: %v", err)
				return
			}
			if proto.Size(env) > 0 { // an empty one says that the node is there
				receipts <- env
			}
		})
		if err != nil {
			return err
		}
		go func() {
			defer sub.Unsubscribe()
			_ = h.session(h.ctx, req.GetLane(), func(m *pb.SessionMessage) error {
				plain, err := proto.Marshal(m)
				if err != nil {
					return err
				}
				sealed, err := seal.SealMessage(resp.Key, req.GetSessionId(), seal.ToNode, plain)
				if err != nil {
					return err
				}
				data, err := proto.Marshal(&pb.SealedMessage{SessionId: req.GetSessionId(), Ciphertext: sealed})
				if err != nil {
					return err
				}
				return h.nats.Publish("d."+p.Member+"."+req.GetSessionId(), data)
			}, receipts)
		}()
		return nil
	})
	return resp, err
}

// session sends one lane from its cursor on, and takes receipts.
func (h *fakeHub) session(ctx context.Context, lane pb.Lane, send func(*pb.SessionMessage) error, receipts <-chan *pb.Envelope) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.mu.Lock()
	l := h.lanes[lane]
	if l.cancel != nil {
		l.cancel()
	}
	l.cancel = cancel
	l.opened++
	number, sent, alter, deaf := l.opened, l.confirmed, l.alter, l.deaf
	h.mu.Unlock()
	say := func(m *pb.SessionMessage) error {
		if alter != nil {
			if m = alter(number, proto.CloneOf(m)); m == nil {
				return nil
			}
		}
		return send(m)
	}
	tick := time.NewTicker(fakeBeat)
	defer tick.Stop()
	for {
		if err := say(beat(sent)); err != nil {
			return err
		}
		for {
			var next *pb.Delivery
			h.see(func() {
				if sent < len(l.deliveries) {
					next = l.deliveries[sent]
				}
			})
			if next == nil {
				break
			}
			sent++
			if err := say(&pb.SessionMessage{Message: &pb.SessionMessage_Delivery{Delivery: next}}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.ctx.Done():
			return h.ctx.Err()
		case env := <-receipts:
			if deaf == nil || !deaf(number) {
				h.confirm(lane, env)
			}
		case <-l.changed:
		case <-tick.C:
		}
	}
}

func beat(sequence int) *pb.SessionMessage {
	return &pb.SessionMessage{Message: &pb.SessionMessage_Heartbeat{Heartbeat: &pb.Heartbeat{DeliverySequence: uint64(sequence)}}}
}

// confirm takes one receipt and looks whether the node keeps its word.
func (h *fakeHub) confirm(lane pb.Lane, env *pb.Envelope) {
	r, err := h.openReceipt(env)
	if err != nil {
		h.broke("receipt: %v", err)
		return
	}
	var n *Node
	h.see(func() { n = h.node })
	if r.GetState() == pb.ReceiptState_RECEIPT_STATE_STORED {
		if _, err := n.store.item(context.Background(), lane, r.GetReportId()); errors.Is(err, errNotFound) {
			h.broke("report %s was confirmed before it was stored", r.GetReportId())
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lanes[lane]
	i := int(r.GetDeliverySequence()) - 1
	if i < 0 || i >= len(l.deliveries) || l.deliveries[i].GetReportId() != r.GetReportId() || !bytes.Equal(r.GetPayloadDigest(), digestOf(l.deliveries[i])) || r.GetLane() != lane {
		h.wrong = append(h.wrong, fmt.Sprintf("receipt for another delivery: %v", r))
		return
	}
	l.receipts = append(l.receipts, r)
	if i == l.confirmed {
		l.confirmed++
	}
}

func (h *fakeHub) openReceipt(env *pb.Envelope) (*pb.DeliveryReceipt, error) {
	var key ed25519.PublicKey
	h.see(func() { key = h.nodeKey })
	payload, err := seal.Verify(env, seal.DeliveryReceiptType, key)
	if err != nil {
		return nil, err
	}
	r := new(pb.DeliveryReceipt)
	if err := proto.Unmarshal(payload, r); err != nil {
		return nil, err
	}
	if r.GetMember() != "terminal-a" || r.GetNode() != 1 {
		return nil, errors.New("receipt of another node")
	}
	return r, nil
}
