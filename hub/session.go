package hub

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/journal"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// maxReceipt bounds a delivery receipt, in bytes.
const maxReceipt = 4 << 10

const (
	queueLength      = 256     // records a session may lag before it reads the journal itself
	window           = 64      // deliveries a node may leave unconfirmed
	windowBytes      = 4 << 20 // and bytes of them
	heartbeatEvery   = 5 * time.Second
	silenceAllowed   = 6 * heartbeatEvery
	confirmWithin    = 2 * time.Minute // a node may have to fetch 64 MiB of parts first
	cursorEvery      = 250 * time.Millisecond
	fullRetry        = time.Second
	junkAllowed      = window // receipts that mean nothing, before the session ends
	receiptsAtATime  = 2 * window
	cursorLagAllowed = 1000 // records an idle node's cursor may lag behind
)

// pipe carries a session's messages to one node. Send may block; it returns
// when ctx ends. Silence is how long nothing has been heard from the node,
// where the way itself does not tell.
type pipe interface {
	Send(ctx context.Context, m *pb.SessionMessage) error
	Silence() time.Duration
}

// session sends one node of a member its copies of one lane, in order, with at
// most window of them unconfirmed. The same code serves NATS and gRPC; only
// the pipe differs. All fields but queue and receipts are owned by run.
type session struct {
	lane   *lane
	node   nodeID
	pipe   pipe
	cancel context.CancelCauseFunc

	queue    chan *grant       // filled by deliver while attached
	receipts chan *pb.Envelope // signed receipts of the node

	position    uint64 // everything of the journal up to here has been sent
	sequence    uint64 // deliveries sent since the node joined
	outstanding []*sent
	unconfirmed int // bytes of outstanding
	junk        int // receipts refused
}

// full says that the node has enough to confirm.
func (s *session) full() bool {
	return len(s.outstanding) >= window || s.unconfirmed >= windowBytes
}

// sent is a delivery that the node has not confirmed, or one behind such.
type sent struct {
	position  uint64
	sequence  uint64
	report    string
	digest    []byte
	time      time.Time
	confirmed bool
	size      int
}

var (
	errReplaced = errors.New("the node opened another session")
	errRevoked  = errors.New("the member has been revoked")
	errSilent   = errors.New("the node does not confirm")
	errFlood    = errors.New("the node sends more receipts than it got deliveries")
)

// newSession makes a session for a node; run serves it.
func newSession(ctx context.Context, l *lane, node nodeID, p pipe) (*session, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &session{lane: l, node: node, pipe: p, cancel: cancel, receipts: make(chan *pb.Envelope, receiptsAtATime)}, ctx
}

// register makes the session the one of its node, in place of an earlier one.
func (l *lane) register(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earlier, ok := l.sessions[s.node]; ok {
		earlier.cancel(errReplaced)
	}
	l.sessions[s.node] = s
}

// closeSessions ends the sessions of a member at once.
func (h *Hub) closeSessions(member string, why error) {
	for _, l := range h.lanes {
		l.mu.Lock()
		for node, s := range l.sessions {
			if node.member == member {
				s.cancel(why)
			}
		}
		l.mu.Unlock()
	}
}

// run serves a registered session until ctx ends, the node falls silent, or the member
// is revoked.
func (h *Hub) run(ctx context.Context, s *session) error {
	defer func() {
		s.lane.detach(s)
		s.lane.mu.Lock()
		if s.lane.sessions[s.node] == s {
			delete(s.lane.sessions, s.node)
		}
		s.lane.mu.Unlock()
		s.cancel(nil)
	}()
	h.log.InfoContext(ctx, "session opened", "member", s.node.member, "node", s.node.number, "lane", s.lane.kind.String())
	err := h.serve(ctx, s)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	h.log.InfoContext(ctx, "session closed", "member", s.node.member, "node", s.node.number, "lane", s.lane.kind.String(), "err", err)
	return err
}

func (h *Hub) serve(ctx context.Context, s *session) error {
	if err := h.resume(ctx, s); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	if err := h.heartbeat(ctx, s); err != nil {
		return err
	}
	for {
		if err := h.catchUp(ctx, s, beat.C); err != nil {
			return err
		}
		if !s.lane.attach(s, s.position) {
			continue
		}
		if err := h.follow(ctx, s, beat.C); err != nil {
			return err
		}
	}
}

// resume starts where the node has confirmed everything, or where it joined.
func (h *Hub) resume(ctx context.Context, s *session) error {
	r, err := h.journal.Last(ctx, s.lane.cursors, cursorKey(s.node))
	if errors.Is(err, journal.ErrNotFound) {
		joined := h.directory().starts[s.node]
		s.position = joined.live
		if s.lane.kind == pb.Lane_LANE_EXERCISE {
			s.position = joined.exercise
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read cursor: %w", err)
	}
	c := new(pb.Cursor)
	if err := proto.Unmarshal(r.Data, c); err != nil {
		return fmt.Errorf("read cursor: %w", err)
	}
	s.position, s.sequence = c.GetPosition(), c.GetDeliverySequence()
	return nil
}

// catchUp sends what the journal holds between the session's position and what
// has been routed.
func (h *Hub) catchUp(ctx context.Context, s *session, beat <-chan time.Time) error {
	s.lane.mu.Lock()
	target := s.lane.routed
	s.lane.mu.Unlock()
	if s.position >= target {
		return nil
	}
	err := h.journal.ReadTo(ctx, s.lane.reports, s.position, target, func(r journal.Record) error {
		grants, err := h.granting(ctx, s.lane, r)
		if err != nil {
			return err
		}
		// For each record: a long way without a copy must not look like silence.
		if err := h.awaitWindow(ctx, s, beat); err != nil {
			return err
		}
		if g := grants(s.node.member); g != nil {
			return h.send(ctx, s, g)
		}
		return nil
	})
	if err == nil {
		s.position = max(s.position, target)
	}
	return err
}

// awaitWindow handles what has come, and waits until another delivery may be
// sent.
func (h *Hub) awaitWindow(ctx context.Context, s *session, beat <-chan time.Time) error {
	for {
		if !s.full() && len(s.receipts) == 0 && len(beat) == 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case env := <-s.receipts:
			if err := h.confirm(ctx, s, env); err != nil {
				return err
			}
		case <-beat:
			if err := h.heartbeat(ctx, s); err != nil {
				return err
			}
		}
	}
}

// follow sends what deliver routes, until the session lags too far behind.
func (h *Hub) follow(ctx context.Context, s *session, beat <-chan time.Time) error {
	for {
		in := s.queue
		if s.full() {
			in = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-in:
			if !ok {
				return nil
			}
			if err := h.send(ctx, s, r); err != nil {
				return err
			}
		case env := <-s.receipts:
			if err := h.confirm(ctx, s, env); err != nil {
				return err
			}
		case <-beat:
			if err := h.heartbeat(ctx, s); err != nil {
				return err
			}
		}
	}
}

// send hands one copy to the node. Standing is checked again for every
// delivery, since an open connection outlives a revocation; what has expired
// meanwhile does not leave any more.
func (h *Hub) send(ctx context.Context, s *session, g *grant) error {
	if _, ok := h.directory().signingKey(s.node); !ok {
		return errRevoked
	}
	if g.expired(time.Now()) {
		s.position = g.position
		return nil
	}
	d, err := g.delivery(s.sequence + 1)
	if err != nil {
		return err
	}
	s.sequence++
	if err := s.pipe.Send(ctx, &pb.SessionMessage{Message: &pb.SessionMessage_Delivery{Delivery: d}}); err != nil {
		return fmt.Errorf("send delivery: %w", err)
	}
	size := len(d.GetEnvelope().GetPayload())
	s.position = g.position
	s.outstanding = append(s.outstanding, &sent{
		position: g.position, sequence: s.sequence, report: g.report(), digest: g.digest(), time: time.Now(), size: size,
	})
	s.unconfirmed += size
	return h.enqueue(ctx, s.lane, receiptJob{record: &pb.ReceiptRecord{
		ReportId: g.report(), Member: s.node.member, Node: s.node.number,
		State: pb.ReceiptState_RECEIPT_STATE_SENT, RecordTime: timestamppb.Now(),
	}, suffix: "sent"})
}

func (h *Hub) heartbeat(ctx context.Context, s *session) error {
	if _, ok := h.directory().signingKey(s.node); !ok {
		return errRevoked
	}
	if s.pipe.Silence() > silenceAllowed || (len(s.outstanding) > 0 && time.Since(s.outstanding[0].time) > confirmWithin) {
		return errSilent
	}
	if at, ok := s.lane.idle(s); ok && len(s.outstanding) == 0 && at > s.position+cursorLagAllowed {
		s.position = at
		if err := h.enqueue(ctx, s.lane, receiptJob{node: s.node, cursor: &pb.Cursor{Position: at, DeliverySequence: s.sequence}}); err != nil {
			return err
		}
	}
	return s.pipe.Send(ctx, &pb.SessionMessage{Message: &pb.SessionMessage_Heartbeat{Heartbeat: &pb.Heartbeat{DeliverySequence: s.sequence}}})
}

// confirm takes one signed receipt. The cursor moves over the confirmed front.
func (h *Hub) confirm(ctx context.Context, s *session, env *pb.Envelope) error {
	key, ok := h.directory().signingKey(s.node)
	if !ok {
		return errRevoked
	}
	r, env, err := openReceipt(env, key, s.node)
	if err != nil {
		// Logged once: it comes at line rate from a node that means harm.
		if s.junk++; s.junk == 1 {
			h.log.WarnContext(ctx, "receipt refused", "member", s.node.member, "node", s.node.number, "err", err)
		}
		if s.junk > junkAllowed {
			return errFlood
		}
		return nil
	}
	var of *sent
	for _, o := range s.outstanding {
		if o.sequence == r.GetDeliverySequence() && o.report == r.GetReportId() && !o.confirmed {
			of = o
		}
	}
	if of == nil || r.GetLane() != s.lane.kind || string(of.digest) != string(r.GetPayloadDigest()) {
		return nil // a repeat, or of a session before this one
	}
	suffix := ""
	switch r.GetState() {
	case pb.ReceiptState_RECEIPT_STATE_STORED:
		suffix = "stored"
	case pb.ReceiptState_RECEIPT_STATE_REJECTED:
		suffix = "rejected"
		h.log.WarnContext(ctx, "delivery rejected", "report", r.GetReportId(), "member", s.node.member, "node", s.node.number)
	default:
		return nil
	}
	of.confirmed = true
	job := receiptJob{record: &pb.ReceiptRecord{
		ReportId: r.GetReportId(), Member: s.node.member, Node: s.node.number, State: r.GetState(),
		RecordTime: timestamppb.Now(), Receipt: env,
	}, suffix: suffix}
	for len(s.outstanding) > 0 && s.outstanding[0].confirmed {
		job.node = s.node
		job.cursor = &pb.Cursor{Position: s.outstanding[0].position, DeliverySequence: s.outstanding[0].sequence}
		s.unconfirmed -= s.outstanding[0].size
		s.outstanding = s.outstanding[1:]
	}
	return h.enqueue(ctx, s.lane, job)
}

// openReceipt verifies a receipt and that it speaks for the node itself. The
// envelope that it returns holds nothing but what was verified.
func openReceipt(env *pb.Envelope, key ed25519.PublicKey, node nodeID) (*pb.DeliveryReceipt, *pb.Envelope, error) {
	only, err := seal.Only(env, seal.DeliveryReceiptType, key)
	if err != nil {
		return nil, nil, err
	}
	payload := only.GetPayload()
	r := new(pb.DeliveryReceipt)
	if err := proto.Unmarshal(payload, r); err != nil {
		return nil, nil, fmt.Errorf("malformed receipt: %w", err)
	}
	if len(payload) > maxReceipt || len(r.GetPerson()) > 200 || len(r.GetReason()) > 1000 {
		return nil, nil, errors.New("receipt too long")
	}
	if r.GetMember() != node.member || r.GetNode() != node.number {
		return nil, nil, errors.New("receipt of another node")
	}
	return r, only, nil
}

// receiptJob is a receipt to record, a cursor to move, or both.
type receiptJob struct {
	record *pb.ReceiptRecord
	suffix string
	node   nodeID
	cursor *pb.Cursor
}

func (h *Hub) enqueue(ctx context.Context, l *lane, job receiptJob) error {
	select {
	case l.records <- job:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// record writes the receipts of one lane and moves its cursors. Cursors are
// written together, four times a second, after the receipts that they stand on
// are durable: a cursor never runs ahead of its evidence.
func (h *Hub) record(ctx context.Context, l *lane) error {
	tick := time.NewTicker(cursorEvery)
	defer tick.Stop()
	moved := map[nodeID]*pb.Cursor{}
	flush := func(ctx context.Context) error {
		if len(moved) == 0 {
			return nil
		}
		if err := h.writes.Durable(ctx); err != nil {
			return err
		}
		for node, c := range moved {
			data, err := proto.Marshal(c)
			if err != nil {
				return err
			}
			err = h.writes.Put(ctx, l.cursors, cursorKey(node), data)
			if errors.Is(err, journal.ErrFull) || errors.Is(err, journal.ErrUnknown) {
				h.log.ErrorContext(ctx, "cursors wait for the journal", "lane", l.kind.String(), "err", err)
				return nil // the next tick tries again; a lagging cursor costs a repeat
			}
			if err != nil {
				return fmt.Errorf("move cursor: %w", err)
			}
			delete(moved, node)
		}
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			// What is not written is sent again and stored once.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			return flush(last)
		case job := <-l.records:
			if job.record != nil {
				if err := h.insist(ctx, l, job.record, job.suffix); err != nil {
					return ended(ctx, err)
				}
			}
			if job.cursor != nil {
				moved[job.node] = job.cursor
			}
		case <-tick.C:
			if err := flush(ctx); err != nil {
				return err
			}
		}
	}
}

// appendReceipt records one step of one copy; the first of its kind stands.
func (h *Hub) appendReceipt(ctx context.Context, l *lane, r *pb.ReceiptRecord, suffix string) error {
	data, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s.%s.%d.%s", r.GetReportId(), r.GetMember(), r.GetNode(), suffix)
	_, err = h.writes.Append(ctx, l.receipts, key, data)
	var exists *journal.ExistsError
	if errors.As(err, &exists) {
		return nil
	}
	return err
}

// insist appends a receipt until it is there: sessions wait until the
// administrator has made room or the disk has answered. The same key again
// changes nothing.
func (h *Hub) insist(ctx context.Context, l *lane, r *pb.ReceiptRecord, suffix string) error {
	for {
		err := h.appendReceipt(ctx, l, r, suffix)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, journal.ErrTooLarge):
			h.log.ErrorContext(ctx, "receipt too large, not recorded", "report", r.GetReportId(), "member", r.GetMember())
			return nil
		case errors.Is(err, journal.ErrFull) && r.GetState() == pb.ReceiptState_RECEIPT_STATE_SENT:
			return nil // a convenience; what the node signs is the evidence
		case !errors.Is(err, journal.ErrFull) && !errors.Is(err, journal.ErrUnknown):
			return fmt.Errorf("record receipt: %w", err)
		}
		h.log.ErrorContext(ctx, "receipts wait for the journal", "lane", l.kind.String(), "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fullRetry):
		}
	}
}

func cursorKey(n nodeID) string { return fmt.Sprintf("%s.%d", n.member, n.number) }
