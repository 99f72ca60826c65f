package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Reading needs no consumer in the server. A reader asks for the batch behind
// its position, and waits for a signal of Append when there is none: nothing
// of it lives in the server that could be lost, lag, or leak, and any number
// of readers shares a few subscriptions.

const (
	fetchSlots   = 16      // batches in flight; well below MaxSubs of the server
	fetchRecords = 256     // records a batch
	fetchBytes   = 4 << 20 // bytes after which a batch ends
	// lookAgain bounds how long a reader sleeps when a signal was missed,
	// which only another process on the same store could cause.
	lookAgain = 5 * time.Second
)

// Last returns the newest record of a key, or ErrNotFound.
func (j *Journal) Last(ctx context.Context, s Stream, key string) (Record, error) {
	subject, err := s.subject(key)
	if err != nil {
		return Record{}, err
	}
	return j.get(ctx, s, request{LastFor: subject})
}

// Get returns the record at seq, or ErrNotFound.
func (j *Journal) Get(ctx context.Context, s Stream, seq uint64) (Record, error) {
	if seq == 0 {
		return Record{}, ErrNotFound
	}
	return j.get(ctx, s, request{Seq: seq})
}

// Position returns the sequence of the last record, 0 when there is none.
func (j *Journal) Position(ctx context.Context, s Stream) (uint64, error) {
	r, err := j.get(ctx, s, request{LastFor: ">"})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return r.Seq, err
}

// Match hands over every record whose key matches filter, in order, and
// returns: `*` stands for one word of a key, `>` at the end for the rest.
// Records appended during the call may be left out. An error of fn ends it.
func (j *Journal) Match(ctx context.Context, s Stream, filter string, fn func(Record) error) error {
	if !filterForm.MatchString(filter) {
		return fmt.Errorf("journal: filter %.80q is not a key with `*` and a last `>`", filter)
	}
	to, err := j.Position(ctx, s)
	if err != nil {
		return err
	}
	return j.scan(ctx, s, streams[s].prefix+"."+filter, 0, to, fn)
}

// scan hands over the records of a subject filter in (after, to].
func (j *Journal) scan(ctx context.Context, s Stream, filter string, after, to uint64, fn func(Record) error) error {
	for after < to {
		batch, err := j.fetch(ctx, s, request{NextFor: filter, Seq: after + 1})
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return nil
		}
		for _, r := range batch {
			if r.Seq > to {
				return nil
			}
			if err := fn(r); err != nil {
				return err
			}
			after = r.Seq
		}
	}
	return nil
}

// Read hands over the records behind after, in order, each once, and follows
// the stream until ctx ends, the journal closes or fn returns an error, which
// it returns. A gap where none can be is ErrDamaged. Records may be handed
// over before they are durable: call Durable before acting on them outside.
func (j *Journal) Read(ctx context.Context, s Stream, after uint64, fn func(Record) error) error {
	return j.follow(ctx, s, after, 0, fn)
}

// ReadTo is Read up to and including to; it waits for records that are not
// there yet.
func (j *Journal) ReadTo(ctx context.Context, s Stream, after, to uint64, fn func(Record) error) error {
	if to <= after {
		return ctx.Err()
	}
	return j.follow(ctx, s, after, to, fn)
}

func (j *Journal) follow(ctx context.Context, s Stream, after, to uint64, fn func(Record) error) error {
	sp, ok := streams[s]
	if !ok {
		return fmt.Errorf("journal: no stream %q", string(s))
	}
	again := time.NewTimer(lookAgain)
	defer again.Stop()
	for {
		raised := j.wake[s].next() // before the look, so that none is missed
		batch, err := j.fetch(ctx, s, request{Seq: after + 1})
		if err != nil {
			return err
		}
		for _, r := range batch {
			if r.Seq <= after || sp.kind == once && r.Seq != after+1 {
				return damaged(fmt.Sprintf("%s continues at %d behind %d", s, r.Seq, after),
					fmt.Sprintf("%s の %d 番の次が %d 番になっています", s, after, r.Seq), nil)
			}
			if to != 0 && r.Seq > to {
				return nil // only where sequences have gaps
			}
			if err := fn(r); err != nil {
				return err
			}
			if after = r.Seq; after == to {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if len(batch) > 0 {
			continue
		}
		again.Reset(lookAgain)
		select {
		case <-raised:
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-j.closing:
			return ErrClosed
		}
	}
}

// request is a direct get of JetStream.
type request struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`
}

// get asks for one record.
func (j *Journal) get(ctx context.Context, s Stream, req request) (Record, error) {
	if j.isClosed() {
		return Record{}, ErrClosed
	}
	body, err := json.Marshal(req)
	if err != nil {
		return Record{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := j.reads.RequestWithContext(ctx, directGet(s), body)
	if err != nil {
		return Record{}, j.readError(s, err)
	}
	return s.record(m)
}

// fetch asks for the records behind a position. Empty: there are none.
func (j *Journal) fetch(ctx context.Context, s Stream, req request) ([]Record, error) {
	// The slot is given back before any record is handed over, so a slow
	// reader holds up nobody.
	select {
	case j.slots <- struct{}{}:
		defer func() { <-j.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-j.closing:
		return nil, ErrClosed
	}
	req.Batch, req.MaxBytes = fetchRecords, fetchBytes
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	inbox := j.reads.NewRespInbox()
	sub, err := j.reads.SubscribeSync(inbox)
	if err != nil {
		return nil, j.readError(s, err)
	}
	defer sub.Unsubscribe()
	if err := j.reads.PublishRequest(directGet(s), inbox, body); err != nil {
		return nil, j.readError(s, err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var batch []Record
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, j.readError(s, err)
		}
		if m.Header.Get("Status") == "204" { // end of batch
			return batch, nil
		}
		r, err := s.record(m)
		if errors.Is(err, ErrNotFound) {
			return batch, nil
		}
		if err != nil {
			return nil, err
		}
		batch = append(batch, r)
	}
}

func directGet(s Stream) string { return "$JS.API.DIRECT.GET." + string(s) }

func (j *Journal) readError(s Stream, err error) error {
	if j.isClosed() {
		return ErrClosed
	}
	return fmt.Errorf("read %s: %w", s, err)
}

// record reads the answer to a direct get.
func (s Stream) record(m *nats.Msg) (Record, error) {
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return Record{}, ErrNotFound
	default:
		return Record{}, fmt.Errorf("read %s: answer %s %s", s, status, m.Header.Get("Description"))
	}
	r := Record{Data: m.Data}
	var err error
	if r.Seq, err = strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64); err != nil {
		return Record{}, fmt.Errorf("read %s: answer without a sequence: %w", s, err)
	}
	if r.Time, err = time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp")); err != nil {
		return Record{}, fmt.Errorf("read %s: answer without a time: %w", s, err)
	}
	var ok bool
	if r.Key, ok = strings.CutPrefix(m.Header.Get("Nats-Subject"), streams[s].prefix+"."); !ok {
		return Record{}, damaged(fmt.Sprintf("%s holds a foreign record at %d", s, r.Seq),
			fmt.Sprintf("%s の %d 番は別の記録です", s, r.Seq), nil)
	}
	return r, nil
}

// signal wakes all who wait for it.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // closed by raise; nil while nobody waits
}

func newSignals() map[Stream]*signal {
	m := make(map[Stream]*signal, len(streams))
	for s := range streams {
		m[s] = new(signal)
	}
	return m
}

// next returns a channel that the next raise closes.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
