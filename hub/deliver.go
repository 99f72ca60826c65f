package hub

import (
	"context"

	"minato.example/internal/journal"
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
		// Nobody is told what a power cut could still take back.
		advance(&l.appended, r.Seq)
		if l.durable.Load() < r.Seq {
			if err := h.durable(ctx, l); err != nil {
				return err
			}
		}
		if err := l.learn(r); err != nil {
			return err
		}
		grants, err := h.granting(ctx, l, r)
		if err != nil {
			return err
		}
		l.route(r.Seq, grants)
		return nil
	})
}

// route offers one record to the attached sessions of its recipients.
func (l *lane) route(position uint64, grants func(member string) *grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routed = position
	for s := range l.attached {
		g := grants(s.node.member)
		if g == nil {
			continue
		}
		select {
		case s.queue <- g:
		default:
			delete(l.attached, s)
			close(s.queue)
		}
	}
}

// attach lets deliver feed the session from position on, or says that the
// session has to read on in the journal first.
func (l *lane) attach(s *session, position uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position < l.routed {
		return false
	}
	s.queue = make(chan *grant, queueLength)
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
