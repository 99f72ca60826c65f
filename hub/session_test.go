package hub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// patience bounds every wait for something that must come.
const patience = 30 * time.Second

// testSession is an open session whose every message the test sees and whose
// every receipt the test sends itself.
type testSession struct {
	t        testing.TB
	m        *testMember
	messages chan *pb.SessionMessage
	wire     chan []byte // on NATS: the bytes as they came
	tell     func(receipt *pb.Envelope) error
	ended    chan error // why the session or its connection ended
	id       string
	key      []byte
	close    func()
}

type transport func(t testing.TB, m *testMember, lane pb.Lane) *testSession

// transports are the two ways to receive; what is promised holds for both.
var transports = map[string]transport{"gRPC": viaGRPC, "NATS": viaNATS}

func (m *testMember) open(t testing.TB, lane pb.Lane, via transport) *testSession {
	t.Helper()
	return via(t, m, lane)
}

func viaGRPC(t testing.TB, m *testMember, lane pb.Lane) *testSession {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := m.hub.WatchDeliveries(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Open{Open: &pb.OpenSessionRequest{Lane: lane}}}))
	s := &testSession{t: t, m: m, messages: make(chan *pb.SessionMessage, 10000), ended: make(chan error, 1), close: cancel}
	s.tell = func(receipt *pb.Envelope) error {
		return stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Receipt{Receipt: receipt}})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			resp, err := stream.Recv()
			if err != nil {
				s.ended <- err
				return
			}
			s.messages <- resp.GetMessage()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func (m *testMember) natsConn(opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("tls://"+m.nats, append([]nats.Option{
		nats.Secure(rpc.ClientTLS(m.root, m.certificate)), nats.TLSHandshakeFirst(), nats.NoReconnect(),
		nats.CustomInboxPrefix("_INBOX." + m.id.member), nats.Timeout(10 * time.Second),
	}, opts...)...)
}

func viaNATS(t testing.TB, m *testMember, lane pb.Lane) *testSession {
	t.Helper()
	s := &testSession{t: t, m: m, messages: make(chan *pb.SessionMessage, 10000), wire: make(chan []byte, 10000), ended: make(chan error, 1), id: newID()}
	conn, err := m.natsConn(nats.ClosedHandler(func(*nats.Conn) { s.ended <- errors.New("the connection was closed") }))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s.close = conn.Close
	keys := make(chan []byte, 1)
	var key []byte
	_, err = conn.Subscribe("d."+m.id.member+"."+s.id, func(msg *nats.Msg) {
		if key == nil {
			key = <-keys
		}
		s.wire <- msg.Data
		sealed, said := new(pb.SealedMessage), new(pb.SessionMessage)
		if proto.Unmarshal(msg.Data, sealed) != nil {
			t.Error("what came is no sealed message")
			return
		}
		plain, err := seal.OpenMessage(key, s.id, seal.ToNode, sealed.GetCiphertext())
		if err != nil || proto.Unmarshal(plain, said) != nil {
			t.Error("what came does not open")
			return
		}
		s.messages <- said
	})
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
	resp, err := m.hub.OpenSession(context.Background(), &pb.OpenSessionRequest{Lane: lane, SessionId: s.id})
	require.NoError(t, err)
	s.key = resp.GetKey()
	keys <- s.key
	s.tell = func(receipt *pb.Envelope) error {
		data, err := s.sealed(receipt)
		if err != nil {
			return err
		}
		return conn.Publish("hub."+m.id.member+".receipt."+s.id, data)
	}
	return s
}

// sealed is a receipt as the session's node sends it on NATS.
func (s *testSession) sealed(receipt *pb.Envelope) ([]byte, error) {
	plain, err := proto.Marshal(receipt)
	if err != nil {
		return nil, err
	}
	back, err := seal.SealMessage(s.key, s.id, seal.ToHub, plain)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&pb.SealedMessage{SessionId: s.id, Ciphertext: back})
}

func (s *testSession) next() *pb.SessionMessage {
	s.t.Helper()
	select {
	case m := <-s.messages:
		return m
	case <-time.After(patience):
		require.FailNow(s.t, "nothing came", "%s", s.m.id)
		return nil
	}
}

// heartbeat is the next message, which must be one.
func (s *testSession) heartbeat() uint64 {
	s.t.Helper()
	m := s.next()
	require.NotNil(s.t, m.GetHeartbeat(), "%v", m)
	return m.GetHeartbeat().GetDeliverySequence()
}

// delivery is the next delivery.
func (s *testSession) delivery() *pb.Delivery {
	s.t.Helper()
	for {
		if d := s.next().GetDelivery(); d != nil {
			return d
		}
	}
}

// rest is the deliveries that have come and were not looked at.
func (s *testSession) rest() (all []*pb.Delivery) {
	for {
		select {
		case m := <-s.messages:
			if m.GetDelivery() != nil {
				all = append(all, m.GetDelivery())
			}
		default:
			return all
		}
	}
}

// end waits until the session has ended.
func (s *testSession) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		require.FailNow(s.t, "the session goes on", "%s", s.m.id)
		return nil
	}
}

func (s *testSession) confirm(d *pb.Delivery, state pb.ReceiptState) {
	s.t.Helper()
	require.NoError(s.t, s.tell(s.m.receipt(d, state)))
}

const stored = pb.ReceiptState_RECEIPT_STATE_STORED

// confirmed waits until the hub has written a node's cursor.
func (h *testHub) confirmed(m *testMember, lane pb.Lane, sequence uint64) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		r, err := h.journal.Last(context.Background(), h.lanes[lane].cursors, cursorKey(m.id))
		c := new(pb.Cursor)
		return err == nil && proto.Unmarshal(r.Data, c) == nil && c.GetDeliverySequence() == sequence
	}, patience, 5*time.Millisecond, "cursor of %s never comes to %d", m.id, sequence)
}

// records is every receipt record of a report, by key.
func (h *testHub) records(report string) map[string]*pb.ReceiptRecord {
	h.t.Helper()
	all := map[string]*pb.ReceiptRecord{}
	for _, l := range h.lanes {
		require.NoError(h.t, h.journal.Match(context.Background(), l.receipts, report+".>", func(r journal.Record) error {
			all[r.Key] = new(pb.ReceiptRecord)
			return proto.Unmarshal(r.Data, all[r.Key])
		}))
	}
	return all
}

func TestDeliveriesAreNumberedForEachNodeWithoutGaps(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil)
			a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
			toB, toC := b.open(t, pb.Lane_LANE_LIVE, via), c.open(t, pb.Lane_LANE_LIVE, via)
			require.Zero(t, toB.heartbeat())
			require.Zero(t, toC.heartbeat())
			var forB, forC []string
			for i := range 30 {
				to := [][]string{{"b"}, {"c"}, {"b", "c"}, {"c"}}[i%4]
				r := firstReport(to...)
				_, err := a.submit(r, newID())
				require.NoError(t, err)
				for _, m := range to {
					if m == "b" {
						forB = append(forB, r.GetReportId())
					} else {
						forC = append(forC, r.GetReportId())
					}
				}
			}
			for s, want := range map[*testSession][]string{toB: forB, toC: forC} {
				for i, report := range want {
					d := s.delivery()
					require.Equal(t, uint64(i+1), d.GetDeliverySequence())
					require.Equal(t, report, d.GetReportId())
					require.Equal(t, pb.Lane_LANE_LIVE, d.GetLane())
					require.Equal(t, s.m.id.member, d.GetCopy().GetMember())
					_, err := seal.Verify(d.GetEnvelope(), seal.LiveReportType, d.GetSourceKey())
					require.NoError(t, err)
					s.confirm(d, stored)
				}
			}
			h.confirmed(b, pb.Lane_LANE_LIVE, uint64(len(forB)))
			h.confirmed(c, pb.Lane_LANE_LIVE, uint64(len(forC)))
		})
	}
}

func TestAReopenedSessionSendsAgainWhatWasNotConfirmed(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil)
			a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
			var ids []string
			for range 6 {
				r := firstReport("b")
				_, err := a.submit(r, newID())
				require.NoError(t, err)
				ids = append(ids, r.GetReportId())
			}
			s := b.open(t, pb.Lane_LANE_LIVE, via)
			var got []*pb.Delivery
			for range ids {
				got = append(got, s.delivery())
			}
			// 1, 2, 3 and 5: the front ends before 4.
			for _, i := range []int{1, 0, 2, 4} {
				s.confirm(got[i], stored)
			}
			h.confirmed(b, pb.Lane_LANE_LIVE, 3)
			s.close()

			check := func() {
				t.Helper()
				s := b.open(t, pb.Lane_LANE_LIVE, via)
				require.Equal(t, uint64(3), s.heartbeat())
				for i, id := range ids[3:] {
					d := s.delivery()
					require.Equal(t, uint64(4+i), d.GetDeliverySequence())
					require.Equal(t, id, d.GetReportId())
				}
			}
			check()
			h.restart(nil)
			a.dial()
			b.dial()
			check()
			s = b.open(t, pb.Lane_LANE_LIVE, via)
			for range ids[3:] {
				s.confirm(s.delivery(), stored)
			}
			h.confirmed(b, pb.Lane_LANE_LIVE, 6)
			s = b.open(t, pb.Lane_LANE_LIVE, via)
			require.Equal(t, uint64(6), s.heartbeat())
			last := firstReport("b")
			_, err := a.submit(last, newID())
			require.NoError(t, err)
			d := s.delivery()
			require.Equal(t, last.GetReportId(), d.GetReportId(), "what is confirmed is not sent again")
			require.Equal(t, uint64(7), d.GetDeliverySequence())
		})
	}
}

func TestANodeGetsWhatWasDecidedAfterItJoined(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	early, late := firstReport("b"), firstReport("b")
	_, err := a.submit(early, newID())
	require.NoError(t, err)
	tok := h.inviteAgain("b")
	second, err := joinAs(t, tok, honest(tok))
	require.NoError(t, err)
	_, err = a.submit(late, newID())
	require.NoError(t, err)
	one, two := b.open(t, pb.Lane_LANE_LIVE, viaGRPC), second.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	require.Equal(t, early.GetReportId(), one.delivery().GetReportId())
	require.Equal(t, late.GetReportId(), one.delivery().GetReportId())
	d := two.delivery()
	require.Equal(t, late.GetReportId(), d.GetReportId())
	require.Equal(t, uint64(1), d.GetDeliverySequence())
}

func TestASecondSessionOfANodeReplacesTheFirst(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	first := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	first.heartbeat()
	second := b.open(t, pb.Lane_LANE_LIVE, viaNATS)
	second.heartbeat()
	requireReason(t, first.end(), "SESSION_ENDED")
	third := b.open(t, pb.Lane_LANE_LIVE, viaNATS)
	third.heartbeat()
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	third.confirm(third.delivery(), stored)
	h.confirmed(b, pb.Lane_LANE_LIVE, 1)
	require.Empty(t, second.rest(), "the session before gets nothing more")
	require.Equal(t, uint32(1), h.sessionsOf("b"))
}

func TestASlowNodeHoldsUpNobodyAndLosesNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, slow, quick := h.join("a", pb.Role_ROLE_OPERATOR), h.join("slow", pb.Role_ROLE_OPERATOR), h.join("quick", pb.Role_ROLE_OPERATOR)
	toSlow, toQuick := slow.open(t, pb.Lane_LANE_LIVE, viaGRPC), quick.open(t, pb.Lane_LANE_LIVE, viaNATS)
	toSlow.heartbeat()
	toQuick.heartbeat()
	const reports = window + queueLength + 40
	errs := make(chan error, 16)
	for worker := range cap(errs) {
		go func() {
			for i := worker; i < reports; i += cap(errs) {
				if _, err := a.submit(firstReport("slow", "quick"), newID()); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var order []string
	for i := range reports {
		d := toQuick.delivery()
		require.Equal(t, uint64(i+1), d.GetDeliverySequence())
		order = append(order, d.GetReportId())
		toQuick.confirm(d, stored)
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	l := h.lanes[pb.Lane_LANE_LIVE]
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.attached[l.sessions[slow.id]]
	}, patience, 5*time.Millisecond, "the queue overflows and the session falls back to the journal")
	held := toSlow.rest()
	require.Len(t, held, window, "no more than a window is sent unconfirmed")
	for i := range reports {
		var d *pb.Delivery
		if i < len(held) {
			d = held[i]
		} else {
			d = toSlow.delivery()
		}
		require.Equal(t, uint64(i+1), d.GetDeliverySequence())
		require.Equal(t, order[i], d.GetReportId(), "the same order for everybody")
		toSlow.confirm(d, stored)
	}
	h.confirmed(slow, pb.Lane_LANE_LIVE, reports)
}

// edited is a receipt with something changed, signed all the same.
func (m *testMember) edited(d *pb.Delivery, change func(*pb.DeliveryReceipt)) *pb.Envelope {
	r := new(pb.DeliveryReceipt)
	require.NoError(m.t, proto.Unmarshal(m.receipt(d, stored).GetPayload(), r))
	change(r)
	payload, err := proto.Marshal(r)
	require.NoError(m.t, err)
	return seal.Sign(m.signing, seal.DeliveryReceiptType, payload)
}

func TestAForgedReceiptConfirmsNothing(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, nil)
			a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
			s := b.open(t, pb.Lane_LANE_LIVE, via)
			one, two := firstReport("b"), firstReport("b")
			for _, r := range []*pb.Report{one, two} {
				_, err := a.submit(r, newID())
				require.NoError(t, err)
			}
			d, other := s.delivery(), s.delivery()
			forgeries := []*pb.Envelope{
				c.receipt(d, stored), // of another member, by its own key
				seal.Sign(c.signing, seal.DeliveryReceiptType, b.receipt(d, stored).GetPayload()),
				seal.Sign(b.signing, seal.LiveReportType, b.receipt(d, stored).GetPayload()),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.ReportId = other.GetReportId() }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.ReportId = newID() }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.Node = 2 }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.Member = "c" }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.DeliverySequence = 2 }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.DeliverySequence = 99 }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.Lane = pb.Lane_LANE_EXERCISE }),
				b.edited(d, func(r *pb.DeliveryReceipt) { digest := sha256.Sum256(nil); r.PayloadDigest = digest[:] }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.State = pb.ReceiptState_RECEIPT_STATE_SENT }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.State = pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED }),
				b.edited(d, func(r *pb.DeliveryReceipt) { r.State = 0 }),
				seal.Sign(b.signing, seal.DeliveryReceiptType, []byte{0xff}),
				{},
			}
			for _, env := range forgeries {
				require.NoError(t, s.tell(env))
			}
			s.confirm(other, stored)
			require.Eventually(t, func() bool { return len(h.records(two.GetReportId())) == 2 }, patience, 5*time.Millisecond)
			require.Len(t, h.records(one.GetReportId()), 1, "SENT and nothing else")
			s.confirm(d, stored)
			h.confirmed(b, pb.Lane_LANE_LIVE, 2)
			require.Len(t, h.records(one.GetReportId()), 2)
		})
	}
}

func TestANodeThatSendsNothingButJunkLosesItsSessionAndNoReport(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	s := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	s.heartbeat()
	for range junkAllowed + 1 {
		require.NoError(t, s.tell(&pb.Envelope{Payload: []byte("junk")}))
	}
	requireReason(t, s.end(), "SESSION_ENDED")
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	s = b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	require.Equal(t, r.GetReportId(), s.delivery().GetReportId())
}

func TestARejectedDeliveryMovesOnAndTheSourceHearsOfIt(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	s := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	d := s.delivery()
	require.NoError(t, s.tell(b.edited(d, func(r *pb.DeliveryReceipt) {
		r.State, r.Reason = pb.ReceiptState_RECEIPT_STATE_REJECTED, "SIGNATURE_INVALID"
	})))
	h.confirmed(b, pb.Lane_LANE_LIVE, 1)
	resp, err := a.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: r.GetReportId()})
	require.NoError(t, err)
	require.Len(t, resp.GetCopies(), 1)
	require.Equal(t, "SIGNATURE_INVALID", resp.GetCopies()[0].GetRejection())
	require.Nil(t, resp.GetCopies()[0].GetStoreTime())
}

func TestAReactionReachesTheSourceAndNobodyElse(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	s := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	d := s.delivery()
	s.confirm(d, stored)
	react := func(m *testMember, reaction pb.Reaction) error {
		_, err := m.hub.AcknowledgeReport(context.Background(), &pb.AcknowledgeReportRequest{Receipt: m.edited(d, func(r *pb.DeliveryReceipt) {
			r.State, r.Reaction, r.Person, r.ReceiptTime = pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED, reaction, "ciso", timestamppb.Now()
		})})
		return err
	}
	require.NoError(t, react(b, pb.Reaction_REACTION_CHECKING))
	require.NoError(t, react(b, pb.Reaction_REACTION_NOT_AFFECTED))
	requireReason(t, react(b, 0), "RECEIPT_INVALID")
	requireReason(t, react(a, pb.Reaction_REACTION_SEEN), "NOT_FOUND")
	requireReason(t, react(c, pb.Reaction_REACTION_SEEN), "NOT_FOUND")
	h.confirmed(b, pb.Lane_LANE_LIVE, 1)
	ask := &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: r.GetReportId()}
	resp, err := a.hub.ListReceipts(context.Background(), ask)
	require.NoError(t, err)
	state := resp.GetCopies()[0]
	require.Equal(t, pb.Reaction_REACTION_NOT_AFFECTED, state.GetReaction())
	require.Equal(t, "ciso", state.GetPerson())
	require.NotNil(t, state.GetSendTime())
	require.NotNil(t, state.GetStoreTime())
	for _, m := range []*testMember{b, c} {
		_, err = m.hub.ListReceipts(context.Background(), ask)
		requireReason(t, err, "NOT_FOUND")
	}
}

// transcript is everything that a member can learn: its sessions with their
// numbers, and the answers to every question about reports it may think of.
// Ids and clocks are named by their order, so that two hubs can be compared.
func transcript(t *testing.T, withhold bool, via transport) (said []string) {
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	secret, canary := firstReport("b"), []byte("canary")
	digest := sha256.Sum256(canary)
	attach(t, a, pb.Lane_LANE_LIVE, canary)
	secret.Attachments = []*pb.Part{{Digest: digest[:], Size: uint64(len(canary)), Class: pb.DisclosureClass_DISCLOSURE_CLASS_DAMAGE}}
	named := map[string]string{secret.GetReportId(): "secret"}
	note := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	withheld := func() {
		if withhold {
			_, err := a.submit(secret, newID())
			require.NoError(t, err)
			s := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
			d := s.delivery()
			s.confirm(d, stored)
			h.confirmed(b, pb.Lane_LANE_LIVE, 1)
			s.close()
		}
	}
	shared := func(name string) {
		r := firstReport("c")
		named[r.GetReportId()] = name
		_, err := a.submit(r, newID())
		require.NoError(t, err)
	}
	session := func(deliveries int, until uint64) {
		s := c.open(t, pb.Lane_LANE_LIVE, via)
		note("heartbeat %d", s.heartbeat())
		for range deliveries {
			d := s.delivery()
			// The digest is of content that is random here; that it is the content's is checked.
			digest := sha256.Sum256(d.GetEnvelope().GetPayload())
			require.Equal(t, digest[:], d.GetCopy().GetPayloadDigest())
			d.Copy.PayloadDigest = nil
			note("delivery %d %s from %s: %v", d.GetDeliverySequence(), named[d.GetReportId()], d.GetSource(), protojson.Format(d.GetCopy()))
			s.confirm(d, stored)
		}
		h.confirmed(c, pb.Lane_LANE_LIVE, until)
		for _, d := range s.rest() {
			note("more: %s", named[d.GetReportId()])
		}
		s.close()
	}
	shared("one")
	withheld()
	shared("two")
	session(2, 2)
	shared("three")
	session(1, 3)
	h.restart(nil)
	c.dial()
	a.dial()
	shared("four")
	session(1, 4)

	ask := func(what string, err error) {
		r, ok := rpc.RefusalOf(err)
		require.True(t, ok, "%s: %v", what, err)
		note("%s: %v %s %v", what, r.Code, r.Reason, r.Violations)
	}
	for _, lane := range []pb.Lane{pb.Lane_LANE_LIVE, pb.Lane_LANE_EXERCISE} {
		_, err := c.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: lane, ReportId: secret.GetReportId()})
		ask("receipts", err)
		stream, err := c.hub.DownloadPart(context.Background(), &pb.DownloadPartRequest{Lane: lane, ReportId: secret.GetReportId(), Digest: digest[:]})
		require.NoError(t, err)
		_, err = stream.Recv()
		ask("part", err)
		payload, err := proto.Marshal(secret)
		require.NoError(t, err)
		_, err = c.hub.AcknowledgeReport(context.Background(), &pb.AcknowledgeReportRequest{Receipt: c.edited(&pb.Delivery{
			ReportId: secret.GetReportId(), Lane: lane, Envelope: &pb.Envelope{Payload: payload}, DeliverySequence: 3,
		}, func(r *pb.DeliveryReceipt) {
			r.State, r.Reaction = pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED, pb.Reaction_REACTION_SEEN
		})})
		ask("acknowledge", err)
	}
	claims := firstReport("b")
	claims.Attachments = secret.GetAttachments()
	_, err := c.submit(claims, newID())
	ask("a part that another has uploaded", err)
	members, err := c.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
	require.NoError(t, err)
	for _, m := range members.GetMembers() {
		note("member %s %v %d", m.GetId(), m.GetCommunities(), len(m.GetNodes()))
	}
	note("revision %d", members.GetRevision())
	return said
}

func TestAWithheldReportLeavesNoTrace(t *testing.T) {
	t.Parallel()
	for name, via := range transports {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, transcript(t, false, via), transcript(t, true, via))
		})
	}
}

func TestNATSCarriesNothingInTheClear(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	s := b.open(t, pb.Lane_LANE_LIVE, viaNATS)
	s.heartbeat()
	r := firstReport("b")
	r.Title, r.Summary = "canary-title", "canary-summary"
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	require.Equal(t, r.GetReportId(), s.delivery().GetReportId())
	require.GreaterOrEqual(t, len(s.wire), 2)
	for len(s.wire) > 0 {
		data := string(<-s.wire)
		for _, canary := range []string{"canary", r.GetReportId(), r.GetCaseId(), "a の名", "試験ターミナル", "hanako@port.example", "ADDRESSED"} {
			require.NotContains(t, data, canary)
		}
	}
}

func TestAMemberReachesNoSubjectOfAnother(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	h.join("a", pb.Role_ROLE_OPERATOR)
	b := h.join("b", pb.Role_ROLE_OPERATOR)
	for _, try := range []struct {
		subject string
		publish bool
	}{
		{"d.a.>", false}, {"d.>", false}, {">", false}, {"d.*.*", false}, {"hub.>", false}, {"hub.a.>", false}, {"hub.b.>", false},
		{"_INBOX.a.>", false}, {"_INBOX.>", false}, {"$JS.>", false}, {"$SYS.>", false}, {"live.report.>", false},
		{"d.b.x", true}, {"d.a.x", true}, {"hub.a.receipt.x", true}, {"_INBOX.a.x", true}, {"live.report.x", true},
		{"directory.x", true}, {"$JS.API.STREAM.LIST", true}, {"$JS.API.STREAM.PURGE.LIVE_REPORTS", true},
	} {
		refused := make(chan error, 4)
		conn, err := b.natsConn(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		require.NoError(t, err)
		if try.publish {
			require.NoError(t, conn.Publish(try.subject, []byte("x")))
		} else {
			_, err = conn.SubscribeSync(try.subject)
			require.NoError(t, err)
		}
		_ = conn.Flush()
		select {
		case err := <-refused:
			require.ErrorIs(t, err, nats.ErrPermissionViolation, try.subject)
		case <-time.After(patience):
			require.Fail(t, "not refused", try.subject)
		}
		conn.Close()
	}
}

func TestAReceiptOnAnotherMembersSubjectIsIgnored(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b, c := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR), h.join("c", pb.Role_ROLE_OPERATOR)
	s := b.open(t, pb.Lane_LANE_LIVE, viaNATS)
	r := firstReport("b")
	_, err := a.submit(r, newID())
	require.NoError(t, err)
	d := s.delivery()
	// The worst case: c holds b's signing key and the session's key.
	forged, err := s.sealed(b.edited(d, func(r *pb.DeliveryReceipt) { r.Reason = "forged" }))
	require.NoError(t, err)
	conn, err := c.natsConn()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Publish("hub.c.receipt."+s.id, forged))
	require.NoError(t, conn.Flush())
	genuine := b.receipt(d, stored)
	require.NoError(t, s.tell(genuine))
	h.confirmed(b, pb.Lane_LANE_LIVE, 1)
	record := h.records(r.GetReportId())[r.GetReportId()+".b.1.stored"]
	require.True(t, proto.Equal(genuine, record.GetReceipt()), "the first receipt that counts is b's own")
}

func TestASessionsIdIsItsOwn(t *testing.T) {
	t.Parallel()
	h := newHub(t, nil)
	a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
	s := a.open(t, pb.Lane_LANE_LIVE, viaNATS)
	s.heartbeat()
	_, err := b.hub.OpenSession(context.Background(), &pb.OpenSessionRequest{Lane: pb.Lane_LANE_LIVE, SessionId: s.id})
	requireReason(t, err, "ID_REUSED")
	for _, id := range []string{"", "x", "*", ">", s.id + ".x", "d.b.>"} {
		_, err := b.hub.OpenSession(context.Background(), &pb.OpenSessionRequest{Lane: pb.Lane_LANE_LIVE, SessionId: id})
		requireReason(t, err, "ID_INVALID")
	}
	_, err = b.hub.OpenSession(context.Background(), &pb.OpenSessionRequest{SessionId: newID()})
	requireReason(t, err, "LANE_MISSING")
	stream, err := b.hub.WatchDeliveries(context.Background())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&pb.WatchDeliveriesRequest{Request: &pb.WatchDeliveriesRequest_Receipt{Receipt: new(pb.Envelope)}}))
	_, err = stream.Recv()
	requireReason(t, err, "OPEN_MISSING")
}
