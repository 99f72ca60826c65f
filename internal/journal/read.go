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
	fetchSlots   = 16  // batches in flight; well below MaxSubs of the server
	fetchRecords = 256 // records a batch
	// A search by filter costs the server a walk through all subjects that
	// match, for each batch: so it is asked in few.
	searchRecords = 4096
	// fetchBytes is after how many bytes a batch ends. With one record more in
	// each slot it stays below the 64 MiB at which the server hangs up.
	fetchBytes = 1 << 20
	// lookAgain bounds how long a reader sleeps when a signal was missed,
	// which only another process on the same store could cause.
	lookAgain = 5 * time.Second
	// askAgain is how long a reader that follows waits after a failed look.
	askAgain = 100 * time.Millisecond
)

// Last returns the newest record of a key, or ErrNotFound. A record that is
// there and cannot be read is ErrDamaged.
func (j *Journal) Last(ctx context.Context, s Stream, key string) (Record, error) {
	subject, err := s.subject(key)
	if err != nil {
		return Record{}, err
	}
	r, err := j.get(ctx, s, request{LastFor: subject})
	if !errors.Is(err, ErrNotFound) {
		return r, err
	}
	// The server says so of a record that it cannot read, too.
	c, err := j.contents(ctx, s, subject)
	if err != nil {
		return Record{}, err
	}
	if c.records == 0 && !c.lacks(s) {
		return Record{}, ErrNotFound
	}
	r, err = j.get(ctx, s, request{LastFor: subject}) // it may be new
	if errors.Is(err, ErrNotFound) {
		return Record{}, j.unreadable(s)
	}
	return r, err
}

// Get returns the record at seq, or ErrNotFound. A record that is there and
// cannot be read is ErrDamaged.
func (j *Journal) Get(ctx context.Context, s Stream, seq uint64) (Record, error) {
	if err := s.check(); err != nil {
		return Record{}, err
	}
	if seq == 0 {
		return Record{}, ErrNotFound
	}
	r, err := j.get(ctx, s, request{Seq: seq})
	if !errors.Is(err, ErrNotFound) || streams[s].kind != once {
		return r, err
	}
	to, err := j.Position(ctx, s)
	if err != nil {
		return Record{}, err
	}
	if seq > to {
		return Record{}, ErrNotFound
	}
	r, err = j.get(ctx, s, request{Seq: seq}) // it may be new
	if errors.Is(err, ErrNotFound) {
		return Record{}, j.unreadable(s)
	}
	return r, err
}

// Position returns the sequence of the last record, 0 when there was none.
func (j *Journal) Position(ctx context.Context, s Stream) (uint64, error) {
	c, err := j.contents(ctx, s, "")
	return c.last, err
}

// contents is what the server knows of a stream without reading its records.
type contents struct {
	last    uint64 // sequence of the last record, also when it was deleted
	records uint64 // those that match the filter
	all     uint64 // records of the stream
}

// lacks says that the server dropped records when it could not read a block.
func (c contents) lacks(s Stream) bool { return streams[s].kind == once && c.all != c.last }

// contents asks for the state of a stream, and counts the records of a subject
// filter if there is one.
func (j *Journal) contents(ctx context.Context, s Stream, filter string) (contents, error) {
	if err := s.check(); err != nil {
		return contents{}, err
	}
	var c contents
	for offset := 0; ; {
		body, err := json.Marshal(struct {
			Filter string `json:"subjects_filter,omitempty"`
			Offset int    `json:"offset,omitempty"`
		}{filter, offset})
		if err != nil {
			return contents{}, err
		}
		m, err := j.ask(ctx, s, "$JS.API.STREAM.INFO."+string(s), body)
		if err != nil {
			return contents{}, err
		}
		var answer struct {
			Error *struct{ Description string }
			Total int
			State *struct {
				LastSeq  uint64 `json:"last_seq"`
				Messages uint64
				Subjects map[string]uint64
			}
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return contents{}, fmt.Errorf("look at stream %s: %w", s, err)
		}
		if answer.Error != nil || answer.State == nil {
			return contents{}, fmt.Errorf("look at stream %s: answer %+v", s, answer.Error)
		}
		if offset == 0 {
			c.last, c.all = answer.State.LastSeq, answer.State.Messages
		}
		for _, n := range answer.State.Subjects {
			c.records += n
		}
		// The server names at most 100,000 subjects at once.
		offset += len(answer.State.Subjects)
		if len(answer.State.Subjects) == 0 || offset >= answer.Total {
			return c, nil
		}
	}
}

// Match hands over every record whose key matches filter, in order, and
// returns: `*` stands for one word of a key, `>` at the end for the rest.
// Records appended during the call may be left out. An error of fn ends it. A
// record that is there and cannot be read is ErrDamaged.
func (j *Journal) Match(ctx context.Context, s Stream, filter string, fn func(Record) error) error {
	if err := s.check(); err != nil {
		return err
	}
	if !filterForm.MatchString(filter) {
		return fmt.Errorf("journal: filter %.80q is not a key with `*` and a last `>`", filter)
	}
	subjects := streams[s].prefix + "." + filter
	c, err := j.contents(ctx, s, subjects)
	if err != nil {
		return err
	}
	if c.lacks(s) {
		return j.unreadable(s)
	}
	if c.records > c.all/4 {
		// The server reads straight on faster than it searches.
		words := strings.Split(filter, ".")
		subjects, c.records = "", c.all
		each := fn
		fn = func(r Record) error {
			if matches(words, r.Key) {
				return each(r)
			}
			return nil
		}
	}
	n, err := j.scan(ctx, s, subjects, c.last, c.records, fn)
	if err == nil && n < c.records && streams[s].kind == once {
		return j.unreadable(s)
	}
	return err
}

// matches says whether a key matches the words of a filter.
func matches(words []string, key string) bool {
	for i, w := range words {
		if w == ">" {
			return key != ""
		}
		word, rest, more := strings.Cut(key, ".")
		if w != "*" && w != word || more != (i < len(words)-1) {
			return false
		}
		key = rest
	}
	return true
}

// scan hands over at most most records of a subject filter, or of all without
// one, up to sequence to, and says how many those were. Knowing their number
// spares the server a search through all that follows the last.
func (j *Journal) scan(ctx context.Context, s Stream, filter string, to, most uint64, fn func(Record) error) (n uint64, err error) {
	at := uint64(searchRecords)
	if filter == "" {
		at = fetchRecords
	}
	for after := uint64(0); after < to && n < most; {
		batch, err := j.fetch(ctx, s, request{NextFor: filter, Seq: after + 1, Batch: int(min(most-n, at))})
		if err != nil {
			return n, err
		}
		if len(batch) == 0 {
			return n, nil
		}
		for _, r := range batch {
			if r.Seq <= after {
				return n, j.unreadable(s)
			}
			if r.Seq > to {
				return n, nil
			}
			if j.isClosed() {
				return n, ErrClosed
			}
			if err := ctx.Err(); err != nil {
				return n, err
			}
			if err := fn(r); err != nil {
				return n, err
			}
			after = r.Seq
			n++
		}
	}
	return n, nil
}

// unreadable is for records that are gone or changed. What the server took for
// lost it may store anew under the same key, so nothing is appended any more.
func (j *Journal) unreadable(s Stream) error {
	err := damaged(fmt.Sprintf("%s has a record that cannot be read", s), fmt.Sprintf("%s に読み出せない記録があります", s), nil)
	if streams[s].kind == once {
		j.damage.CompareAndSwap(nil, &err)
	}
	return err
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
	if err := s.check(); err != nil {
		return err
	}
	var (
		kind  = streams[s].kind
		again = time.NewTimer(lookAgain)
		known = after // a sequence up to which there are records
	)
	defer again.Stop()
	for {
		raised := j.wake[s].next() // before the look, so that none is missed
		wait := lookAgain
		batch, err := j.fetch(ctx, s, request{Seq: after + 1, Batch: fetchRecords})
		if err == nil && len(batch) == 0 && kind == once {
			// The server also passes over what it cannot read.
			if after < known {
				return j.unreadable(s)
			}
			if known, err = j.Position(ctx, s); err == nil && after < known {
				continue // new, or not readable: the next look tells
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrClosed), errors.Is(err, ErrDamaged), ctx.Err() != nil:
			return err
		default:
			// An answer that was lost says nothing about the records.
			if err := j.Healthy(); err != nil {
				return err
			}
			j.log.Warn("journal read failed, asking again", "stream", string(s), "err", err)
			wait, raised = askAgain, nil
		}
		for _, r := range batch {
			if r.Seq <= after || kind == once && r.Seq != after+1 {
				err := damaged(fmt.Sprintf("%s continues at %d behind %d", s, r.Seq, after),
					fmt.Sprintf("%s の %d 番の次が %d 番になっています", s, after, r.Seq), nil)
				j.damage.CompareAndSwap(nil, &err)
				return err
			}
			if to != 0 && r.Seq > to {
				return nil // only where sequences have gaps
			}
			if j.isClosed() {
				return ErrClosed
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(r); err != nil {
				return err
			}
			if after = r.Seq; after == to {
				return nil
			}
		}
		if len(batch) > 0 {
			continue
		}
		again.Reset(wait)
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
	body, err := json.Marshal(req)
	if err != nil {
		return Record{}, err
	}
	m, err := j.ask(ctx, s, directGet(s), body)
	if err != nil {
		return Record{}, err
	}
	return s.record(m)
}

// ask puts one question to the server, again when the connection is lost.
func (j *Journal) ask(ctx context.Context, s Stream, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for {
		if j.isClosed() {
			return nil, ErrClosed
		}
		lost := j.lost.next()
		try, end := context.WithCancel(ctx)
		go func() {
			select {
			case <-lost:
				end()
			case <-try.Done():
			}
		}()
		m, err := j.reads.RequestWithContext(try, subject, body)
		again := err != nil && try.Err() != nil && ctx.Err() == nil
		end()
		if again {
			continue
		}
		if err != nil {
			return nil, j.readError(s, err)
		}
		return m, nil
	}
}

// fetch asks for the records behind a position. Empty: there are none that
// can be read.
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
	req.MaxBytes = fetchBytes
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	lost := j.lost.next()
	inbox := j.reads.NewRespInbox()
	answers := make(chan *nats.Msg, req.Batch+1)
	sub, err := j.reads.ChanSubscribe(inbox, answers)
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
		var m *nats.Msg
		select {
		case m = <-answers:
		case <-lost:
			return nil, j.readError(s, nats.ErrDisconnected)
		case <-ctx.Done():
			return nil, j.readError(s, ctx.Err())
		case <-j.closing:
			return nil, ErrClosed
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
