package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	"minato.example/internal/stix"
	pb "minato.example/proto/minato/v1"
)

// This is the one file of the node that knows NATS. The node listens on
// d.<member>.<session> and confirms on hub.<member>.receipt.<session>.

var lanes = []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE}

// receive keeps a session of one lane open for as long as ctx lasts. The lanes
// share nothing, not even a connection: what stops a drill never stops a real
// report.
func (n *Node) receive(ctx context.Context, lane pb.Lane) error {
	wait := newBackoff(n.retry)
	for ctx.Err() == nil {
		begin := time.Now()
		stored, err := n.receiveOnce(ctx, lane)
		if ctx.Err() != nil {
			break
		}
		if stored > 0 || time.Since(begin) > steady {
			wait.Reset() // it went forward; otherwise the waits grow
		}
		n.state.disconnected(lane, err)
		n.log.InfoContext(ctx, "session ended", "lane", lane.String(), "err", err)
		pause(ctx, wait.NextBackOff())
	}
	return nil
}

// steady is how long a session lives that is not one of a series of failures.
const steady = 10 * time.Second

// receiveOnce opens a session and returns when it ends, with the number of
// deliveries confirmed.
func (n *Node) receiveOnce(ctx context.Context, lane pb.Lane) (stored int, err error) {
	open := n.openGRPC
	if n.config.Transport == NATS {
		conn, err := n.dialNATS()
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		open = func(ctx context.Context, lane pb.Lane) (link, error) { return n.openNATS(ctx, conn, lane) }
	}
	l, err := open(ctx, lane)
	if err != nil {
		return 0, err
	}
	defer l.close()
	return n.session(ctx, lane, l)
}

// link is one open session: what the hub says and the way to confirm.
type link interface {
	// next waits for the next message. It gives up when the hub is silent for
	// longer than its heartbeat allows.
	next(ctx context.Context) (*pb.SessionMessage, error)
	// confirm sends a signed receipt.
	confirm(env *pb.Envelope) error
	close()
}

var errDigest = errors.New("the bytes of a part do not match their digest")

var errGap = errors.New("a delivery is missing; the session is opened again")

// session stores what comes and confirms what is stored. The first message is
// a heartbeat with the number of the last delivery; from there on numbers go up
// by one, or something was lost on the way and the session starts anew.
func (n *Node) session(ctx context.Context, lane pb.Lane, l link) (stored int, err error) {
	m, err := l.next(ctx)
	if err != nil {
		return 0, err
	}
	if m.GetHeartbeat() == nil {
		return 0, errGap
	}
	last := m.GetHeartbeat().GetDeliverySequence()
	n.state.connected(lane)
	n.hubReached(ctx)
	for {
		m, err := l.next(ctx)
		if err != nil {
			return stored, err
		}
		if m.GetHeartbeat() != nil {
			if m.GetHeartbeat().GetDeliverySequence() != last {
				return stored, errGap
			}
			continue
		}
		d := m.GetDelivery()
		if d.GetDeliverySequence() != last+1 {
			return stored, errGap
		}
		last++
		env, err := n.accept(ctx, lane, d)
		if err != nil {
			return stored, err
		}
		if err := l.confirm(env); err != nil {
			return stored, fmt.Errorf("confirm delivery: %w", err)
		}
		stored++
	}
}

// accept verifies one delivery, fetches what belongs to it, stores it, and
// returns the signed receipt: STORED when it is on disk, REJECTED when it can
// never be. An error means that it may succeed later.
func (n *Node) accept(ctx context.Context, lane pb.Lane, d *pb.Delivery) (*pb.Envelope, error) {
	receipt := &pb.DeliveryReceipt{
		ReportId: d.GetReportId(), Lane: lane, Member: n.id.member, Node: n.id.number,
		PayloadDigest: digestOf(d), DeliverySequence: d.GetDeliverySequence(), State: pb.ReceiptState_RECEIPT_STATE_STORED,
	}
	if d.GetRelabelling() != nil && d.GetEnvelope() == nil {
		if err := n.relabelled(ctx, lane, d, nil); errors.Is(err, errRejected) {
			receipt.State, receipt.Reason = pb.ReceiptState_RECEIPT_STATE_REJECTED, err.Error()
		} else if err != nil {
			return nil, err
		}
		return n.signReceipt(receipt)
	}
	a, err := n.arrive(ctx, lane, d)
	if err != nil {
		if !errors.Is(err, errRejected) {
			return nil, err
		}
		n.log.WarnContext(ctx, "delivery rejected", "report", d.GetReportId(), "err", err)
		receipt.State, receipt.Reason = pb.ReceiptState_RECEIPT_STATE_REJECTED, err.Error()
		if err := n.store.addRejection(ctx, rejection{lane: lane, reportID: d.GetReportId(), reason: receipt.Reason}); err != nil {
			return nil, err
		}
		return n.signReceipt(receipt)
	}
	isNew, err := n.store.keep(ctx, lane, a)
	if err != nil {
		return nil, fmt.Errorf("store delivery: %w", err)
	}
	if isNew {
		n.log.InfoContext(ctx, "report received", "report", d.GetReportId(), "lane", lane.String())
		n.arrived.signal()
	}
	if d.GetRelabelling() != nil {
		if err := n.relabelled(ctx, lane, d, a.report); err != nil && !errors.Is(err, errRejected) {
			return nil, err
		}
	}
	return n.signReceipt(receipt)
}

// errRejected is a delivery that can never be taken. What wraps it says why,
// without a word of the content.
var errRejected = errors.New("not taken")

func reject(format string, args ...any) error {
	return &rejected{fmt.Errorf(format, args...)}
}

// rejected keeps its text free of errRejected's, since the hub reads it.
type rejected struct{ error }

func (r *rejected) Is(target error) bool { return target == errRejected }
func (r *rejected) Unwrap() error        { return r.error }

// arrive makes of a delivery what is stored: the report as its source signed
// it, a copy that the hub has built and signed, or what a seal held.
func (n *Node) arrive(ctx context.Context, lane pb.Lane, d *pb.Delivery) (arrival, error) {
	if d.GetCopy().GetMember() != n.id.member {
		return arrival{}, reject("the copy is for another member")
	}
	a := arrival{delivery: d}
	var err error
	switch d.GetEnvelope().GetPayloadType() {
	case seal.SealedReportType(lane), seal.SealedCopyType(lane):
		return n.arriveSealed(ctx, lane, d)
	case seal.CopyType(lane):
		a.report, err = verifyCopy(lane, d, n.id.hubKey)
	default:
		if a.report, err = verify(lane, d); err == nil {
			a.unlisted, err = n.checkSource(ctx, d.GetSource(), d.GetSourceKey())
		}
	}
	if err != nil {
		if errors.Is(err, errUnchecked) {
			return arrival{}, err
		}
		return arrival{}, reject("%w", err)
	}
	a.parts = a.report.Parts()
	for _, p := range a.parts {
		if err := n.havePart(ctx, lane, d.GetReportId(), p); err != nil {
			return arrival{}, err
		}
	}
	a.observables, err = n.observablesOf(ctx, a.report)
	return a, err
}

// relabelled notes the label that the source has given a report since. by is
// the report that says so, nil when this member gets none of it. Only the source
// relabels: what the hub could not read it cannot make wider by its word alone.
func (n *Node) relabelled(ctx context.Context, lane pb.Lane, d *pb.Delivery, by *pb.Report) error {
	id, label := d.GetRelabelling().GetReportId(), check.Label(d.GetRelabelling().GetTlp())
	if d.GetLane() != lane || !isID(id, 32) || !label.Valid() {
		return reject("malformed change of a label")
	}
	signed := by.GetRelabels() == id && by.GetTlp() == d.GetRelabelling().GetTlp()
	switch d.GetEnvelope().GetPayloadType() {
	case seal.CopyType(lane), seal.SealedCopyType(lane): // the hub's word again
		signed = false
	}
	known, err := n.store.relabel(ctx, lane, d, signed)
	if err != nil {
		return fmt.Errorf("store delivery: %w", err)
	}
	if known {
		n.log.InfoContext(ctx, "report has another label", "report", id, "lane", lane.String())
		n.arrived.signal()
	}
	return nil
}

// verify holds a delivery against the signature of its source and the label
// against the copy.
func verify(lane pb.Lane, d *pb.Delivery) (*pb.Report, error) {
	payload, err := seal.Verify(d.GetEnvelope(), seal.ReportType(lane), d.GetSourceKey())
	if err != nil {
		return nil, fmt.Errorf("signature of the source: %w", err)
	}
	return announced(lane, d, payload)
}

// verifyCopy holds a copy that the hub has built against the hub's signature.
// The hub builds none of what it may not read.
func verifyCopy(lane pb.Lane, d *pb.Delivery, hub ed25519.PublicKey) (*pb.Report, error) {
	payload, err := seal.Verify(d.GetEnvelope(), seal.CopyType(lane), hub)
	if err != nil {
		return nil, fmt.Errorf("signature of the hub: %w", err)
	}
	r, err := announced(lane, d, payload)
	switch {
	case err != nil:
		return nil, err
	case check.Label(r.GetTlp()).NeedsSeal():
		return nil, errors.New("a copy by the hub of a report that it may not read")
	case d.GetCopy().GetFlow() == pb.Flow_FLOW_AUTHORITY:
		return nil, errors.New("a whole report that its source has not signed")
	}
	return r, nil
}

// announced parses a verified report and holds it against its delivery.
func announced(lane pb.Lane, d *pb.Delivery, payload []byte) (*pb.Report, error) {
	r := new(pb.Report)
	if err := proto.Unmarshal(payload, r); err != nil {
		return nil, errors.New("malformed report")
	}
	label := check.Label(r.GetTlp())
	switch {
	case !isID(r.GetReportId(), 32) || r.GetReportId() != d.GetReportId() || r.GetLane() != lane || d.GetLane() != lane:
		return nil, errors.New("the report is not the one announced")
	case !label.Valid():
		return nil, errors.New("the report has no label")
	case label.NeedsPersons() && len(d.GetCopy().GetPersons()) == 0:
		return nil, errors.New("TLP:RED without a named person")
	}
	return r, nil
}

// errUnchecked is no verdict: the key may be one that the node has yet to hear
// of, so the delivery comes again.
var errUnchecked = errors.New("the directory cannot be read to check the source")

// checkSource holds the key of a delivery against the port's directory: a hub
// may not put its own key in the place of a member's. A source that is not in
// the directory has left since, or never was: its reports are taken, and people
// are told that nothing vouches for the key.
func (n *Node) checkSource(ctx context.Context, source string, key []byte) (unlisted bool, err error) {
	for _, fresh := range []bool{false, true} {
		if fresh {
			if err := n.fetchDirectory(ctx); err != nil {
				return false, fmt.Errorf("%w: %w", errUnchecked, err)
			}
		}
		keys, known := (*n.signers.Load())[source]
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			return false, nil
		}
		if fresh && !known {
			return true, nil
		}
	}
	return false, errors.New("the signature is not by a key of the source")
}

// havePart downloads a part that is not here yet.
func (n *Node) havePart(ctx context.Context, lane pb.Lane, report string, p *pb.Part) error {
	have, err := n.store.hasPart(ctx, p.GetDigest())
	if err != nil || have {
		return err
	}
	switch err := n.fetchPart(ctx, lane, report, p); {
	case errors.Is(err, errTooLarge), errors.Is(err, errDigest):
		return reject("fetch part: %w", err)
	case err != nil:
		return fmt.Errorf("fetch part: %w", err)
	}
	return nil
}

// observablesOf are those of a report's STIX bundle, for the search.
func (n *Node) observablesOf(ctx context.Context, r *pb.Report) ([]stix.Observable, error) {
	bundle := r.GetAttackTechnical().GetStixBundle()
	if bundle == nil {
		return nil, nil
	}
	data, err := n.store.readPart(ctx, bundle.GetDigest())
	if err != nil {
		return nil, err
	}
	summary, err := stix.Scan(data)
	if err != nil {
		// The bundle is delivered as it is; it is only not searchable.
		n.log.WarnContext(ctx, "bundle not indexed", "report", r.GetReportId())
		return nil, nil
	}
	return summary.Observables, nil
}

func (n *Node) fetchPart(ctx context.Context, lane pb.Lane, report string, p *pb.Part) error {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	stream, err := n.hub.DownloadPart(ctx, &pb.DownloadPartRequest{Lane: lane, ReportId: report, Digest: p.GetDigest()})
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() {
		for {
			in, err := stream.Recv()
			if err != nil { // io.EOF at the end, which the reader sees as such
				pw.CloseWithError(err)
				return
			}
			if _, err := pw.Write(in.GetData()); err != nil {
				return
			}
		}
	}()
	defer pr.Close()
	// Without the file's name, which an error would carry into the log.
	got, err := n.store.addPart(ctx, nil, pr, int64(p.GetSize()))
	if err != nil {
		return err
	}
	if !bytes.Equal(got.GetDigest(), p.GetDigest()) {
		return errDigest
	}
	return nil
}

func (n *Node) signReceipt(r *pb.DeliveryReceipt) (*pb.Envelope, error) {
	r.ReceiptTime = timestamppb.Now()
	payload, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	return seal.Sign(n.id.signing, seal.DeliveryReceiptType, payload), nil
}

// dialNATS connects with the node's certificate. A lost connection ends the
// sessions; they are opened again over a new one.
func (n *Node) dialNATS() (*nats.Conn, error) {
	conn, err := nats.Connect("tls://"+n.config.NATS,
		nats.Secure(rpc.ClientTLS(n.id.root, n.id.cert.Load, n.config.profile().Groups...)), nats.TLSHandshakeFirst(), nats.NoReconnect(),
		nats.CustomInboxPrefix("_INBOX."+n.id.member), nats.Timeout(10*time.Second),
		nats.PingInterval(20*time.Second), nats.MaxPingsOutstanding(2),
		// Without a handler the library writes to stderr.
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { n.log.Info("NATS connection", "err", err) }))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", n.config.NATS, err)
	}
	return conn, nil
}

// natsLink is a session over NATS. Everything is sealed with its key.
type natsLink struct {
	conn     *nats.Conn
	sub      *nats.Subscription
	id       string
	receipts string
	key      []byte
	silence  time.Duration
	cancel   context.CancelFunc
}

func (n *Node) openNATS(ctx context.Context, conn *nats.Conn, lane pb.Lane) (link, error) {
	id := randomID()
	l := &natsLink{conn: conn, id: id, receipts: "hub." + n.id.member + ".receipt." + id}
	var err error
	if l.sub, err = conn.SubscribeSync("d." + n.id.member + "." + id); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := conn.FlushTimeout(10 * time.Second); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	resp, err := n.hub.OpenSession(call, &pb.OpenSessionRequest{Lane: lane, SessionId: id})
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	l.key = resp.GetKey()
	l.silence = silence(resp.GetHeartbeatMillis())
	ctx, l.cancel = context.WithCancel(ctx)
	go l.live(ctx, time.Duration(resp.GetHeartbeatMillis())*time.Millisecond)
	return l, nil
}

// live tells the hub that the node is there, with empty receipts, also while
// it is busy fetching a large part: NATS itself does not tell.
func (l *natsLink) live(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.confirm(&pb.Envelope{}); err != nil {
				return // the connection has ended, as next will say
			}
		}
	}
}

// silence is how long a hub may say nothing: two heartbeats and a half.
func silence(heartbeatMillis uint32) time.Duration {
	return time.Duration(heartbeatMillis) * time.Millisecond * 5 / 2
}

func (l *natsLink) next(ctx context.Context) (*pb.SessionMessage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.silence, errors.New("the hub is silent"))
	defer cancel()
	m, err := l.sub.NextMsgWithContext(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	sealed, out := new(pb.SealedMessage), new(pb.SessionMessage)
	if err := proto.Unmarshal(m.Data, sealed); err != nil {
		return nil, errors.New("malformed message from NATS")
	}
	plain, err := seal.OpenMessage(l.key, l.id, seal.ToNode, sealed.GetCiphertext())
	if err != nil {
		return nil, fmt.Errorf("open sealed message: %w", err)
	}
	if err := proto.Unmarshal(plain, out); err != nil {
		return nil, errors.New("malformed message from the hub")
	}
	return out, nil
}

func (l *natsLink) confirm(env *pb.Envelope) error {
	plain, err := proto.Marshal(env)
	if err != nil {
		return err
	}
	sealed, err := seal.SealMessage(l.key, l.id, seal.ToHub, plain)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(&pb.SealedMessage{SessionId: l.id, Ciphertext: sealed})
	if err != nil {
		return err
	}
	return l.conn.Publish(l.receipts, data)
}

func (l *natsLink) close() {
	l.cancel()
	_ = l.sub.Unsubscribe()
}

// grpcLink is a session over gRPC.
type grpcLink struct {
	stream pb.HubService_WatchDeliveriesClient
	cancel context.CancelFunc
	in     chan *pb.SessionMessage
	silent time.Duration
	failed error // set before in is closed
}

// grpcSilence allows for the hub's default heartbeat.
const grpcSilence = 15 * time.Second

func (n *Node) openGRPC(ctx context.Context, lane pb.Lane) (link, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := n.hub.WatchDeliveries(ctx)
	if err == nil {
		err = stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Open{Open: &pb.OpenSessionRequest{Lane: lane}}})
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open session: %w", err)
	}
	l := &grpcLink{stream: stream, cancel: cancel, in: make(chan *pb.SessionMessage), silent: n.silent}
	go func() {
		defer close(l.in)
		for {
			m, err := stream.Recv()
			if err != nil {
				l.failed = err
				return
			}
			select {
			case l.in <- m.GetMessage():
			case <-ctx.Done():
				l.failed = ctx.Err()
				return
			}
		}
	}()
	return l, nil
}

func (l *grpcLink) next(ctx context.Context) (*pb.SessionMessage, error) {
	timer := time.NewTimer(l.silent)
	defer timer.Stop()
	select {
	case m, ok := <-l.in:
		if !ok {
			return nil, l.failed
		}
		return m, nil
	case <-timer.C:
		return nil, errors.New("the hub is silent")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *grpcLink) confirm(env *pb.Envelope) error {
	return l.stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Receipt{Receipt: env}})
}

func (l *grpcLink) close() { l.cancel() }

func randomID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// digestOf is the SHA-256 of a delivery's signed payload.
func digestOf(d *pb.Delivery) []byte {
	digest := sha256.Sum256(d.GetEnvelope().GetPayload())
	return digest[:]
}
