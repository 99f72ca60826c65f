package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	position   uint64
	source     string
	caseID     string
	digest     [sha256.Size]byte
	label      pb.TlpLabel // in force now: that of the last report that relabels it
	relabelled uint64      // position of that report; 0 when there is none
	accepted   int64       // Unix seconds
	holders    memberSet   // who has a copy
	extensions []uint64    // positions of the records that added copies
	decisions  []decision  // of those that say what became of a step
}

// decision is a record by which a member decided a step.
type decision struct {
	position uint64
	by       string
}

// memberSet is a set of members as bits, by their number in the index: a
// report may have a thousand holders, and an index a million reports.
type memberSet []uint64

func (s memberSet) has(n int) bool { return n/64 < len(s) && s[n/64]&(1<<(n%64)) != 0 }

func (s memberSet) with(n int) memberSet {
	for len(s) <= n/64 {
		s = append(s, 0)
	}
	s[n/64] |= 1 << (n % 64)
	return s
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
	numbers  map[string]int // member -> its bit
}

func newIndex() index {
	return index{reports: map[string]entry{}, requests: map[string]string{}, cases: map[string]caseState{}, numbers: map[string]int{}}
}

// add takes an accepted report in; adding it again changes nothing.
func (x *index) add(position uint64, a *pb.ReportAccepted) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.reports[a.GetReportId()]; known {
		return
	}
	e := entry{
		position: position, source: a.GetSource(), caseID: a.GetCaseId(), digest: [sha256.Size]byte(a.GetPayloadDigest()),
		label: a.GetPlan().GetHandling().GetTlp(), accepted: a.GetAcceptTime().GetSeconds(),
	}
	for _, c := range a.GetPlan().GetCopies() {
		e.holders = e.holders.with(x.number(c.GetMember()))
	}
	x.reports[a.GetReportId()] = e
	if old, ok := x.reports[a.GetOutline().GetRelabels()]; ok {
		old.label, old.relabelled = e.label, position
		x.reports[a.GetOutline().GetRelabels()] = old
	}
	x.requests[a.GetSource()+"/"+a.GetRequestId()] = a.GetReportId()
	if c := x.cases[a.GetCaseId()]; a.GetSequence() > c.sequence {
		x.cases[a.GetCaseId()] = caseState{source: a.GetSource(), sequence: a.GetSequence()}
	}
}

// extend takes further copies of a report in; doing it again changes nothing.
func (x *index) extend(position uint64, e *pb.PlanExtended) {
	x.mu.Lock()
	defer x.mu.Unlock()
	of, known := x.reports[e.GetReportId()]
	if !known || slices.Contains(of.extensions, position) {
		return
	}
	if len(e.GetPlan().GetCopies()) == 0 { // no reader of copies looks at it
		d := decision{position, e.GetBy()}
		if !slices.Contains(of.decisions, d) {
			of.decisions = append(slices.Clip(of.decisions), d)
			x.reports[e.GetReportId()] = of
		}
		return
	}
	of.extensions = append(slices.Clip(of.extensions), position)
	of.holders = slices.Clone(of.holders)
	for _, c := range e.GetPlan().GetCopies() {
		of.holders = of.holders.with(x.number(c.GetMember()))
	}
	x.reports[e.GetReportId()] = of
}

// number is the bit of a member. The caller holds mu.
func (x *index) number(member string) int {
	n, ok := x.numbers[member]
	if !ok {
		n = len(x.numbers)
		x.numbers[member] = n
	}
	return n
}

// holds reports whether a member has a copy.
func (x *index) holds(e entry, member string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.numbers[member]
	return ok && e.holders.has(n)
}

// holders is every member that has a copy.
func (x *index) holders(e entry) (all []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for member, n := range x.numbers {
		if e.holders.has(n) {
			all = append(all, member)
		}
	}
	slices.Sort(all)
	return all
}

// since is the reports with one of the labels that were accepted at or after
// an instant, oldest first.
func (x *index) since(after time.Time, labels ...pb.TlpLabel) (ids []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id, e := range x.reports {
		if e.accepted >= after.Unix() && slices.Contains(labels, e.label) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(x.reports[a].position, x.reports[b].position) })
	return ids
}

func (x *index) sourceOf(id string) string {
	e, _ := x.report(id)
	return e.source
}

// decided counts what a member has decided about the steps of a report.
func (x *index) decided(report, member string) (n int) {
	e, _ := x.report(report)
	for _, d := range e.decisions {
		if d.by == member {
			n++
		}
	}
	return n
}

// sourcesOf is who reported each of some reports.
func (x *index) sourcesOf(ids []string) (all []string) {
	for _, id := range ids {
		all = append(all, x.sourceOf(id))
	}
	return all
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

// decoded is one record of the reports stream: an accepted report, or further
// copies of one.
func decoded(r journal.Record) (*pb.ReportAccepted, *pb.PlanExtended, error) {
	record := new(pb.ReportRecord)
	if err := proto.Unmarshal(r.Data, record); err != nil {
		return nil, nil, fmt.Errorf("journal position %d: %w", r.Seq, err)
	}
	switch {
	case record.GetExtended() != nil:
		return nil, record.GetExtended(), nil
	case len(record.GetAccepted().GetPayloadDigest()) != sha256.Size:
		return nil, nil, fmt.Errorf("journal position %d: no payload digest", r.Seq)
	}
	return record.GetAccepted(), nil, nil
}

// learn takes one record of the journal into the index.
func (l *lane) learn(r journal.Record) error {
	a, x, err := decoded(r)
	if err != nil {
		return err
	}
	if x != nil {
		l.index.extend(r.Seq, x)
		l.parts.extend(l.index.sourceOf(x.GetReportId()), x)
		return nil
	}
	l.index.add(r.Seq, a)
	l.parts.refer(a)
	return nil
}

// rebuild fills the index from the journal and loads what parts are stored.
func (h *Hub) rebuild(ctx context.Context, l *lane) error {
	last, err := h.journal.Position(ctx, l.reports)
	if err != nil {
		return err
	}
	if last > 0 {
		err = h.journal.ReadTo(ctx, l.reports, 0, last, func(r journal.Record) error {
			return l.learn(r)
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
