package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/journal"
	pb "minato.example/proto/minato/v1"
)

// fault says apart what happened to a call and what the caller was told.
type fault func() (applied bool, err error)

var errTest = fmt.Errorf("%w: test", journal.ErrUnknown)

func lostOnTheWay() (bool, error) { return false, errTest }
func answerLost() (bool, error)   { return true, errTest }

// faulty stands between hub and journal. Every other call of one kind fails,
// as long as there are faults left.
type faulty struct {
	kind  string // as call has it
	fault fault

	mu     sync.Mutex
	armed  bool
	calls  int
	faults int
}

// strikes decides over one call; nil lets it through.
func (f *faulty) strikes(kind string) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed || kind != f.kind || f.faults == 0 {
		return nil
	}
	if f.calls++; f.calls%2 == 0 {
		return nil
	}
	f.faults--
	return f.fault
}

func (f *faulty) arm(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = on
}

func (f *faulty) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faults
}

func (f *faulty) between(w writer) writer { return &faultyWriter{f, w} }

type faultyWriter struct {
	*faulty
	journal writer
}

func (w *faultyWriter) Append(ctx context.Context, s journal.Stream, key string, data []byte) (uint64, error) {
	strike := w.strikes("append " + string(s))
	if strike == nil {
		return w.journal.Append(ctx, s, key, data)
	}
	applied, told := strike()
	if applied {
		if _, err := w.journal.Append(ctx, s, key, data); err != nil {
			return 0, err
		}
	}
	return 0, told
}

func (w *faultyWriter) Put(ctx context.Context, s journal.Stream, key string, data []byte) error {
	return w.plain("put "+string(s), func() error { return w.journal.Put(ctx, s, key, data) })
}

func (w *faultyWriter) Durable(ctx context.Context) error {
	return w.plain("durable", func() error { return w.journal.Durable(ctx) })
}

func (w *faultyWriter) plain(kind string, call func() error) error {
	strike := w.strikes(kind)
	if strike == nil {
		return call()
	}
	applied, told := strike()
	if applied {
		if err := call(); err != nil {
			return err
		}
	}
	return told
}

// supervise runs the hub and runs it again whenever it ends with an error, as
// systemd does. The returned stop ends it and leaves the directory closed.
func (h *testHub) supervise(wrap func(writer) writer) (stop func()) {
	require.NoError(h.t, h.stop())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for {
			c, err := ReadConfig(filepath.Join(h.dir, "hub.toml"))
			if err != nil {
				done <- err
				return
			}
			running, err := Open(context.Background(), c, slog.New(slog.DiscardHandler))
			if err != nil {
				done <- err
				return
			}
			running.writes = wrap(running.writes)
			err = running.Run(ctx)
			if closing := running.Close(); closing != nil {
				done <- closing
				return
			}
			if ctx.Err() != nil || err == nil {
				done <- nil
				return
			}
			if !errors.Is(err, errTest) {
				done <- err
				return
			}
		}
	}()
	return func() {
		cancel()
		require.NoError(h.t, <-done)
	}
}

// another is a second connection of the same node, for another goroutine.
func (m *testMember) another() *testMember {
	other := *m
	other.conn = nil
	other.dial()
	m.t.Cleanup(func() { other.conn.Close() })
	return &other
}

// persist tries until it succeeds, over a new connection each time, as a node
// that never gives up.
func (m *testMember) persist(ctx context.Context, try func(ctx context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s gave up: %w", m.id, err)
		}
		m.redial(ctx)
	}
}

// redial makes a fresh connection, not more often than a hub can start.
func (m *testMember) redial(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
	m.dial()
}

// inbox is what a node has seen: reports by id, once each, and every number
// under which each came.
type inbox struct {
	mu      sync.Mutex
	order   []string
	numbers map[string]map[uint64]bool
}

func (in *inbox) take(d *pb.Delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.numbers[d.GetReportId()] == nil {
		in.order = append(in.order, d.GetReportId())
		in.numbers[d.GetReportId()] = map[uint64]bool{}
	}
	in.numbers[d.GetReportId()][d.GetDeliverySequence()] = true
}

func (in *inbox) has(n int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.order) >= n
}

// sentReport is what a submitter knows of one report.
type sentReport struct {
	report  *pb.Report
	request string
	receipt *pb.Envelope // nil: not acknowledged
}

// requireKept checks, on a hub opened again from disk, all that was promised:
// acknowledged ⊆ stored ⊆ sent, each once, delivered to exactly its audience
// under one number in the journal's order, and the same receipt again.
func (h *testHub) requireKept(source *testMember, sent []*sentReport, inboxes map[string]*inbox) {
	h.t.Helper()
	bySent, storedOnce := map[string]*sentReport{}, map[string]bool{}
	for _, s := range sent {
		bySent[s.report.GetReportId()] = s
	}
	want := map[string][]string{}
	for _, a := range h.stored(pb.Lane_LANE_LIVE) {
		require.False(h.t, storedOnce[a.GetReportId()], "stored twice")
		storedOnce[a.GetReportId()] = true
		require.Contains(h.t, bySent, a.GetReportId(), "stored but never sent")
		for _, c := range a.GetPlan().GetCopies() {
			want[c.GetMember()] = append(want[c.GetMember()], a.GetReportId())
		}
	}
	for member, in := range inboxes {
		require.Equal(h.t, want[member], in.order, "%s gets its copies, in order, each once", member)
		for i, id := range in.order {
			require.Equal(h.t, map[uint64]bool{uint64(i + 1): true}, in.numbers[id], "one number for one copy")
		}
	}
	for _, s := range sent {
		if s.receipt == nil {
			continue
		}
		require.True(h.t, storedOnce[s.report.GetReportId()], "acknowledged but lost")
		h.accepts(s.receipt)
		again, err := source.submit(s.report, s.request)
		require.NoError(h.t, err)
		require.Equal(h.t, encoded(h.t, s.receipt), encoded(h.t, again), "the same receipt again")
		resp, err := source.hub.ListReceipts(context.Background(), &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: s.report.GetReportId()})
		require.NoError(h.t, err)
		for _, c := range resp.GetCopies() {
			require.NotNil(h.t, c.GetStoreTime(), "the source sees that %s has it", c.GetCopy().GetMember())
		}
	}
}

func TestNothingAcknowledgedIsLostOrDoubledWhateverTheJournalDoes(t *testing.T) {
	faults := map[string]fault{"lost on the way": lostOnTheWay, "answer lost": answerLost}
	for _, kind := range []string{"append LIVE_REPORTS", "durable", "append DIRECTORY", "append LIVE_RECEIPTS", "put LIVE_CURSORS"} {
		for name, fault := range faults {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				surviveFaults(t, &faulty{kind: kind, fault: fault, faults: 2})
			})
		}
	}
}

func surviveFaults(t *testing.T, f *faulty) {
	h := newHub(t, nil)
	a := h.join("a", pb.Role_ROLE_OPERATOR)
	nodes := map[string]*testMember{"b": h.join("b", pb.Role_ROLE_OPERATOR), "c": h.join("c", pb.Role_ROLE_OPERATOR)}
	halt := h.supervise(f.between)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()

	// Nodes that open their session again whenever it ends.
	inboxes := map[string]*inbox{}
	watching, done := context.WithCancel(ctx)
	var watchers, work sync.WaitGroup
	for id, m := range nodes {
		in, m := &inbox{numbers: map[string]map[uint64]bool{}}, m.another()
		inboxes[id] = in
		watchers.Go(func() {
			for watching.Err() == nil {
				_ = m.watch(watching, pb.Lane_LANE_LIVE, in.take)
				m.redial(watching)
			}
		})
	}
	f.arm(true)

	// Three submitters that keep their request ids over retries.
	var sent []*sentReport
	for range 12 {
		sent = append(sent, &sentReport{report: firstReport([]string{"b", "c"}[:1+len(sent)%2]...), request: newID()})
	}
	errs := make(chan error, 8)
	for worker := range 3 {
		m := a.another()
		work.Go(func() {
			for i := worker; i < len(sent); i += 3 {
				s := sent[i]
				errs <- m.persist(ctx, func(context.Context) (err error) {
					s.receipt, err = m.submit(s.report, s.request)
					return err
				})
			}
		})
	}
	// A member that changes the directory meanwhile.
	changing := a.another()
	work.Go(func() {
		for i := range 3 {
			errs <- changing.persist(ctx, func(ctx context.Context) error {
				p := testProfile()
				p.Organisation = fmt.Sprintf("組織 %d", i+1)
				_, err := changing.hub.SetProfile(ctx, &pb.SetProfileRequest{Profile: p})
				return err
			})
		}
	})
	go func() { work.Wait(); close(errs) }()
	for err := range errs {
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return f.left() == 0 && inboxes["b"].has(12) && inboxes["c"].has(6) }, patience, 5*time.Millisecond,
		"%d faults were never met, or a copy never came", f.left())
	// Every receipt has to be on disk before the hub is stopped for good.
	f.arm(false)
	final := a.another()
	require.NoError(t, final.persist(ctx, func(ctx context.Context) error {
		for _, s := range sent {
			resp, err := final.hub.ListReceipts(ctx, &pb.ListReceiptsRequest{Lane: pb.Lane_LANE_LIVE, ReportId: s.report.GetReportId()})
			if err != nil {
				return err
			}
			for _, c := range resp.GetCopies() {
				if c.GetStoreTime() == nil {
					return errors.New("not recorded yet")
				}
			}
		}
		return nil
	}))
	done()
	watchers.Wait()
	halt()

	h.start(nil)
	a.dial()
	h.requireKept(a, sent, inboxes)
	require.Equal(t, "組織 3", h.directory().members["a"].GetProfile().GetOrganisation())
	d, err := h.fold(context.Background(), newDirectory())
	require.NoError(t, err)
	for id, m := range h.directory().members {
		require.True(t, proto.Equal(m, d.members[id]))
	}
}

// once strikes the first call of a kind and no other.
func once(kind string, fault fault) *faulty { return &faulty{kind: kind, fault: fault, faults: 1} }

func TestAFailedChangeOfTheDirectoryBlocksNoLaterOne(t *testing.T) {
	t.Parallel()
	for kind, fault := range map[string]fault{"append DIRECTORY": answerLost, "durable": lostOnTheWay} {
		t.Run(kind, func(t *testing.T) {
			f := once(kind, fault)
			h := newHub(t, f.between)
			m := h.join("a", pb.Role_ROLE_OPERATOR)
			f.arm(true)
			_, err := h.Revoke(context.Background(), &pb.RevokeRequest{Member: "a"})
			requireReason(t, err, "HUB_NOT_READY")
			require.Zero(t, f.left())
			_, err = h.Invite(context.Background(), &pb.InviteRequest{Member: "b", Name: "名", Role: pb.Role_ROLE_OPERATOR})
			require.NoError(t, err, "another change")
			_, err = m.hub.ListMembers(context.Background(), &pb.ListMembersRequest{})
			requireReason(t, err, "NOT_ENROLLED")
			_, err = h.Revoke(context.Background(), &pb.RevokeRequest{Member: "a"})
			require.NoError(t, err, "trying again")
			h.restart(nil)
			require.Equal(t, pb.MemberState_MEMBER_STATE_REVOKED, h.directory().members["a"].GetState())
			require.Equal(t, pb.MemberState_MEMBER_STATE_INVITED, h.directory().members["b"].GetState())
		})
	}
}

func TestATokenWhoseJoinWasNotWrittenStaysGood(t *testing.T) {
	t.Parallel()
	f := once("append DIRECTORY", lostOnTheWay)
	h := newHub(t, f.between)
	tok := h.invite("a")
	f.arm(true)
	_, err := joinAs(t, tok, honest(tok))
	requireReason(t, err, "HUB_NOT_READY")
	_, err = joinAs(t, tok, honest(tok))
	require.NoError(t, err)
}

func TestATokenWhoseJoinWasWrittenNeverWorksTwice(t *testing.T) {
	t.Parallel()
	f := once("append DIRECTORY", answerLost)
	h := newHub(t, f.between)
	tok := h.invite("a")
	f.arm(true)
	_, err := joinAs(t, tok, honest(tok))
	requireReason(t, err, "HUB_NOT_READY")
	_, err = joinAs(t, tok, honest(tok))
	requireReason(t, err, "TOKEN_USED")
	again := h.inviteAgain("a")
	m, err := joinAs(t, again, honest(again))
	require.NoError(t, err)
	require.Equal(t, uint32(2), m.id.number, "the lost node's number is not given again")
}

func TestAnAcknowledgedReactionIsOnDiskHoweverOftenItWasTried(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  string
		fault fault
	}{
		"append lost":    {"append LIVE_RECEIPTS", lostOnTheWay},
		"answer lost":    {"append LIVE_RECEIPTS", answerLost},
		"not durable":    {"durable", lostOnTheWay},
		"durable untold": {"durable", answerLost},
	} {
		t.Run(name, func(t *testing.T) {
			f := once(c.kind, c.fault)
			h := newHub(t, f.between)
			a, b := h.join("a", pb.Role_ROLE_OPERATOR), h.join("b", pb.Role_ROLE_OPERATOR)
			r := firstReport("b")
			_, err := a.submit(r, newID())
			require.NoError(t, err)
			s := b.open(t, pb.Lane_LANE_LIVE, viaGRPC)
			d := s.delivery()
			s.confirm(d, stored)
			h.confirmed(b, pb.Lane_LANE_LIVE, 1)
			reaction := b.edited(d, func(r *pb.DeliveryReceipt) {
				r.State, r.Reaction, r.Person = pb.ReceiptState_RECEIPT_STATE_ACKNOWLEDGED, pb.Reaction_REACTION_HANDLED, "ciso"
			})
			f.arm(true)
			_, err = b.hub.AcknowledgeReport(context.Background(), &pb.AcknowledgeReportRequest{Receipt: reaction})
			requireReason(t, err, "HUB_NOT_READY")
			_, err = b.hub.AcknowledgeReport(context.Background(), &pb.AcknowledgeReportRequest{Receipt: reaction})
			require.NoError(t, err)
			h.restart(nil)
			records := h.records(r.GetReportId())
			require.Len(t, records, 3, "SENT, STORED and one reaction")
		})
	}
}
