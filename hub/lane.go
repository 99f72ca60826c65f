package hub

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"minato.example/internal/journal"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// lane is one of the two worlds of a hub: live operation or exercises. Each
// has a signed payload type, a journal, an index and sessions of its own, and
// no code reaches from one into the other: an exercise cannot be taken for
// real, nor the reverse.
type lane struct {
	kind        pb.Lane
	payloadType string
	reports     journal.Stream
	receipts    journal.Stream
	cursors     journal.Stream

	index index
	parts partShelf

	// appended is the highest position acknowledged by the journal, durable
	// the highest known to be on disk.
	appended, durable atomic.Uint64

	mu       sync.Mutex
	routed   uint64              // position up to which deliver has routed
	sessions map[nodeID]*session // the one open session of each node
	attached map[*session]bool   // those that deliver feeds

	records chan receiptJob // owned by record
}

func newLanes() map[pb.Lane]*lane {
	lanes := map[pb.Lane]*lane{pb.Lane_LANE_LIVE: {}, pb.Lane_LANE_EXERCISE: {}}
	for kind, l := range lanes {
		l.kind, l.payloadType = kind, seal.ReportType(kind)
		l.reports, l.receipts, l.cursors = journal.Lane(kind).Reports(), journal.Lane(kind).Receipts(), journal.Lane(kind).Cursors()
		l.index = newIndex()
		l.parts = newPartShelf()
		l.sessions = map[nodeID]*session{}
		l.attached = map[*session]bool{}
		l.records = make(chan receiptJob, 4096)
	}
	return lanes
}

// advance raises a position that never goes back.
func advance(p *atomic.Uint64, to uint64) {
	for {
		old := p.Load()
		if old >= to || p.CompareAndSwap(old, to) {
			return
		}
	}
}

// entry is what the index keeps of an accepted report.
type entry struct {
	position uint64
	source   string
	digest   [sha256.Size]byte
}

// caseState is the last accepted report of a case and who reports it.
type caseState struct {
	source   string
	sequence uint32
}

// index finds accepted reports. It is a view of the journal, rebuilt at start.
type index struct {
	mu       sync.RWMutex
	reports  map[string]entry
	requests map[string]string // member/request id -> report id
	cases    map[string]caseState
}

func newIndex() index {
	return index{reports: map[string]entry{}, requests: map[string]string{}, cases: map[string]caseState{}}
}

// add takes an accepted report in; adding it again changes nothing.
func (x *index) add(position uint64, a *pb.ReportAccepted) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reports[a.GetReportId()] = entry{position: position, source: a.GetSource(), digest: [sha256.Size]byte(a.GetPayloadDigest())}
	x.requests[a.GetSource()+"/"+a.GetRequestId()] = a.GetReportId()
	if c := x.cases[a.GetCaseId()]; a.GetSequence() > c.sequence {
		x.cases[a.GetCaseId()] = caseState{source: a.GetSource(), sequence: a.GetSequence()}
	}
}

func (x *index) report(id string) (entry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e, ok := x.reports[id]
	return e, ok
}

// request is the report that a member submitted under a request id.
func (x *index) request(member, id string) (report string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	report, ok = x.requests[member+"/"+id]
	return report, ok
}

func (x *index) caseOf(id string) (caseState, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c, ok := x.cases[id]
	return c, ok
}

// accepted decodes one record of the reports stream.
func accepted(r journal.Record) (*pb.ReportAccepted, error) {
	a := new(pb.ReportAccepted)
	if err := proto.Unmarshal(r.Data, a); err != nil {
		return nil, fmt.Errorf("journal position %d: %w", r.Seq, err)
	}
	if len(a.GetPayloadDigest()) != sha256.Size {
		return nil, fmt.Errorf("journal position %d: no payload digest", r.Seq)
	}
	return a, nil
}

// rebuild fills the index from the journal and loads what parts are stored.
func (h *Hub) rebuild(ctx context.Context, l *lane) error {
	last, err := h.journal.Position(ctx, l.reports)
	if err != nil {
		return err
	}
	if last > 0 {
		err = h.journal.ReadTo(ctx, l.reports, 0, last, func(r journal.Record) error {
			a, err := accepted(r)
			if err != nil {
				return err
			}
			l.index.add(r.Seq, a)
			l.parts.refer(a)
			return nil
		})
		if err != nil {
			return err
		}
	}
	l.routed = last
	advance(&l.appended, last)
	return h.loadParts(ctx, l)
}

// keyLocks serialise the submits that share a report, a request id or a case;
// all others go side by side.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

// keyLock is held by whoever has taken from it.
type keyLock struct {
	free  chan struct{} // size 1
	users int           // under mu
}

// lock locks the keys in the given order and returns what unlocks them. It
// gives up when ctx ends.
func (k *keyLocks) lock(ctx context.Context, keys ...string) (unlock func(), err error) {
	var taken []string
	unlock = func() {
		for _, key := range taken {
			k.put(key, true)
		}
	}
	for _, key := range keys {
		k.mu.Lock()
		l, ok := k.held[key]
		if !ok {
			l = &keyLock{free: make(chan struct{}, 1)}
			l.free <- struct{}{}
			k.held[key] = l
		}
		l.users++
		k.mu.Unlock()
		select {
		case <-l.free:
			taken = append(taken, key)
		case <-ctx.Done():
			k.put(key, false)
			unlock()
			return nil, ctx.Err()
		}
	}
	return unlock, nil
}

func (k *keyLocks) put(key string, taken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.held[key]
	if taken {
		l.free <- struct{}{}
	}
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}
