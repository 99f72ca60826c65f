package hub

import (
	"context"
	"fmt"

	"minato.example/internal/journal"
	pb "minato.example/proto/minato/v1"
)

// deliver carries out the plans of one lane: one ordered reader of the journal
// hands each durable record to the sessions of its recipients. It decides
// nothing and waits for nobody: a session that cannot keep up falls back to
// reading the journal itself.
func (h *Hub) deliver(ctx context.Context, l *lane) error {
	l.mu.Lock()
	after := l.routed
	l.mu.Unlock()
	return h.journal.Read(ctx, l.reports, after, func(r journal.Record) error {
		a, err := accepted(r)
		if err != nil {
			return err
		}
		// Nobody is told what a power cut could still take back.
		advance(&l.appended, r.Seq)
		if l.durable.Load() < r.Seq {
			if err := h.durable(ctx, l); err != nil {
				return err
			}
		}
		l.index.add(r.Seq, a)
		l.parts.refer(a)
		l.route(r.Seq, a)
		return nil
	})
}

// route offers one record to the attached sessions of its recipients.
func (l *lane) route(position uint64, a *pb.ReportAccepted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routed = position
	for s := range l.attached {
		c := copyFor(a.GetPlan(), s.node.member)
		if c == nil {
			continue
		}
		select {
		case s.queue <- routed{position, a, c}:
		default:
			delete(l.attached, s)
			close(s.queue)
		}
	}
}

// routed is one record on its way to one session.
type routed struct {
	position uint64
	accepted *pb.ReportAccepted
	copy     *pb.Copy
}

// attach lets deliver feed the session from position on, or says that the
// session has to read on in the journal first.
func (l *lane) attach(s *session, position uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position < l.routed {
		return false
	}
	s.queue = make(chan routed, queueLength)
	l.attached[s] = true
	return true
}

// idle returns the position up to which a session that waits for nothing has
// seen everything.
func (l *lane) idle(s *session) (position uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.routed, l.attached[s] && len(s.queue) == 0
}

func (l *lane) detach(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attached, s)
}

// copyFor is what the plan gives a member; nil when it gives nothing. Every
// way out of the hub asks here.
func copyFor(p *pb.Plan, member string) *pb.Copy {
	for _, c := range p.GetCopies() {
		if c.GetMember() == member {
			return c
		}
	}
	return nil
}

// read reads one accepted report from the journal.
func (h *Hub) read(ctx context.Context, l *lane, position uint64) (*pb.ReportAccepted, error) {
	r, err := h.journal.Get(ctx, l.reports, position)
	if err != nil {
		return nil, fmt.Errorf("read report at %d: %w", position, err)
	}
	return accepted(r)
}
