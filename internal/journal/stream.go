package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stream names one stream of the journal. The two lanes, live and exercise,
// share no stream.
type Stream string

// The streams. All but the cursors hold one record a key and only grow.
const (
	Directory        Stream = "DIRECTORY"
	LiveReports      Stream = "LIVE_REPORTS"
	ExerciseReports  Stream = "EXERCISE_REPORTS"
	LiveReceipts     Stream = "LIVE_RECEIPTS"
	ExerciseReceipts Stream = "EXERCISE_RECEIPTS"
	LiveCursors      Stream = "LIVE_CURSORS"     // the last value of each key
	ExerciseCursors  Stream = "EXERCISE_CURSORS" // the last value of each key

	liveParts     Stream = "LIVE_PARTS"
	exerciseParts Stream = "EXERCISE_PARTS"
)

// Record is one record as it was appended.
type Record struct {
	Seq  uint64 // from 1, without gaps except in cursors
	Key  string
	Data []byte
	Time time.Time // when the journal took it
}

// MaxRecordBytes bounds one record together with its key.
const MaxRecordBytes = 2<<20 - 1<<10

type kind uint8

const (
	once   kind = iota // one record a key
	last               // the last value of each key
	pieces             // parts and their chunks
)

// spec is how a stream is made. Subjects are the key behind prefix and a dot.
type spec struct {
	prefix string
	kind   kind
	share  int64 // percent of the whole store
}

// A full stream must not stop the others: reports that fill their share leave
// room for the receipts of those that are there, and an exercise takes nothing
// from real reports.
var streams = map[Stream]spec{
	Directory:        {"directory", once, 4},
	LiveReports:      {"live.report", once, 36},
	ExerciseReports:  {"exercise.report", once, 10},
	LiveReceipts:     {"live.receipt", once, 14},
	ExerciseReceipts: {"exercise.receipt", once, 4},
	LiveCursors:      {"live.cursor", last, 1},
	ExerciseCursors:  {"exercise.cursor", last, 1},
	liveParts:        {"live.part", pieces, 20},
	exerciseParts:    {"exercise.part", pieces, 10},
}

// config is the stream's configuration in a store of limit bytes.
func (s spec) config(name Stream, limit int64) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name:        string(name),
		Subjects:    []string{s.prefix + ".>"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew, // full means refused, never forgotten
		MaxBytes:    limit / 100 * s.share,
		MaxMsgSize:  maxPayload,
		Replicas:    1,
		AllowDirect: true,
	}
	switch s.kind {
	case once:
		c.MaxMsgsPerSubject = 1
		c.DiscardNewPerSubject = true
		c.Compression = jetstream.S2Compression
	case last:
		c.MaxMsgsPerSubject = 1 // without DiscardNewPerSubject the new one wins
		c.Compression = jetstream.S2Compression
	case pieces: // sealed, so nothing is left to compress
		c.MaxMsgsPerSubject = -1
	}
	return c
}

func createStreams(ctx context.Context, nc *nats.Conn, limit int64) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("speak to the store: %w", err)
	}
	for name, s := range streams {
		if _, err := js.CreateStream(ctx, s.config(name, limit)); err != nil {
			return fmt.Errorf("create stream %s: %w", name, err)
		}
	}
	return nil
}

// checkStreams refuses a store whose streams are not those that Create made.
// The caps are not compared: raiseCaps changes them.
// It returns where the others end.
func checkStreams(ctx context.Context, nc *nats.Conn) (positions, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("speak to the store: %w", err)
	}
	at := make(positions)
	for name, s := range streams {
		st, err := js.Stream(ctx, string(name))
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, damaged("stream "+string(name)+" is missing", string(name)+" がありません", nil)
		}
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", name, err)
		}
		got, want := st.CachedInfo().Config, s.config(name, 0)
		if got.MaxMsgsPerSubject != want.MaxMsgsPerSubject ||
			got.DiscardNewPerSubject != want.DiscardNewPerSubject ||
			got.Discard != want.Discard || got.Storage != want.Storage || !got.AllowDirect ||
			got.MaxAge != 0 || len(got.Subjects) != 1 || got.Subjects[0] != want.Subjects[0] {
			return nil, damaged("stream "+string(name)+" is not as it was created", string(name)+" の設定が作成時と異なります", nil)
		}
		state := st.CachedInfo().State
		if s.kind == once && (state.Msgs != state.LastSeq || state.Msgs > 0 && state.FirstSeq != 1) {
			return nil, damaged(fmt.Sprintf("stream %s holds %d records of %d", name, state.Msgs, state.LastSeq),
				fmt.Sprintf("%s の記録が %d 件中 %d 件しかありません", name, state.LastSeq, state.Msgs), nil)
		}
		if s.kind == once {
			at[name] = state.LastSeq
		}
	}
	return at, nil
}

// raiseCaps gives the streams their share of a larger store. It never lowers a
// cap, and it updates only: a stream that is not there is not made.
func raiseCaps(ctx context.Context, nc *nats.Conn, limit int64) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("speak to the store: %w", err)
	}
	for name, s := range streams {
		st, err := js.Stream(ctx, string(name))
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", name, err)
		}
		c := st.CachedInfo().Config
		// Not for the few bytes that the free space differs at every start.
		share := s.config(name, limit).MaxBytes
		if share-c.MaxBytes <= c.MaxBytes/50 {
			continue
		}
		c.MaxBytes = share
		if _, err := js.UpdateStream(ctx, c); err != nil {
			return fmt.Errorf("enlarge stream %s: %w", name, err)
		}
	}
	return nil
}

// checkStreamDirs finds a stream whose folder is gone, before the server looks.
func checkStreamDirs(dir string) error {
	for name := range streams {
		meta := filepath.Join(dir, "jetstream", hubAccount, "streams", string(name), "meta.inf")
		if _, err := os.Stat(meta); err != nil {
			return damaged("stream "+string(name)+" is missing", string(name)+" がありません", err)
		}
	}
	return nil
}

var (
	keyForm    = regexp.MustCompile(`^[a-z0-9-]{1,64}(\.[a-z0-9-]{1,64}){0,7}$`)
	filterForm = regexp.MustCompile(`^(>|([a-z0-9-]{1,64}|\*)(\.([a-z0-9-]{1,64}|\*)){0,7}(\.>)?)$`)
)

// check refuses a name that is no stream.
func (s Stream) check() error {
	if _, ok := streams[s]; !ok {
		return fmt.Errorf("journal: no stream %q", string(s))
	}
	return nil
}

func (s Stream) subject(key string) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	if !keyForm.MatchString(key) {
		return "", fmt.Errorf("journal: key %.80q is not of the form [a-z0-9-], at most 8 words of 64 with dots between", key)
	}
	return streams[s].prefix + "." + key, nil
}

// Append adds a record under a key that was never written in this stream, and
// returns its sequence. Of any number of racing calls for one key one wins;
// the others get *ExistsError with the winner's sequence. The record is not
// durable yet; see Durable. Errors: *ExistsError, ErrUnknown, ErrFull,
// ErrTooLarge, ErrClosed, ErrDamaged, or the context's error when nothing was sent.
//
// Keys are words of [a-z0-9-], 1 to 64 each, at most 8, with dots between.
func (j *Journal) Append(ctx context.Context, s Stream, key string, data []byte) (uint64, error) {
	if streams[s].kind != once && s.check() == nil {
		return 0, fmt.Errorf("journal: %s takes Put, not Append", s)
	}
	return j.publish(ctx, s, key, data, true)
}

// Put sets the value of a key in a stream of cursors. Errors as for Append.
func (j *Journal) Put(ctx context.Context, s Stream, key string, data []byte) error {
	if streams[s].kind != last && s.check() == nil {
		return fmt.Errorf("journal: %s takes Append, not Put", s)
	}
	_, err := j.publish(ctx, s, key, data, false)
	return err
}

// answerTimeout is how long a server in the same process may take to answer.
// It freezes a stream whose disk fails.
const answerTimeout = 10 * time.Second

// publish stores one message; guarded lets only the first of its subject in.
func (j *Journal) publish(ctx context.Context, s Stream, key string, data []byte, guarded bool) (uint64, error) {
	subject, err := s.subject(key)
	if err != nil {
		return 0, err
	}
	if len(key)+len(data) > MaxRecordBytes {
		return 0, tooLarge(len(data))
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if j.isClosed() {
		return 0, ErrClosed
	}
	if err := j.damage.Load(); err != nil {
		return 0, *err
	}
	m := &nats.Msg{Subject: subject, Data: data}
	if guarded {
		m.Header = nats.Header{"Nats-Expected-Last-Subject-Sequence": {"0"}}
	}
	// Whatever the answer, readers look: the record may be there.
	defer j.wake[s].raise()

	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	reply, err := j.writes.RequestMsgWithContext(ctx, m)
	if err != nil {
		return 0, j.unknown(err)
	}
	var ack struct {
		Seq   uint64
		Error *struct {
			Err         int `json:"err_code"`
			Description string
		}
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, j.unknown(err)
	}
	switch e := ack.Error; {
	case e == nil && ack.Seq > 0:
		if j.tail != nil { // none while Create builds
			j.tail.reach(s, ack.Seq)
		}
		return ack.Seq, nil
	case e == nil:
		return 0, j.unknown(errors.New("answer without a sequence"))
	case e.Err == wrongLastSequence:
		if seq, err := strconv.ParseUint(e.Description[strings.LastIndexByte(e.Description, ' ')+1:], 10, 64); err == nil && seq > 0 {
			return 0, &ExistsError{Stream: s, Seq: seq}
		}
		// Without a sequence the store was about to close.
		return 0, fmt.Errorf("append to %s: %w: %s", s, ErrUnknown, e.Description)
	case e.Err == storeFailed && e.Description == server.ErrMaxMsgsPerSubject.Error():
		// The guard found no record of the key and the index says there is one.
		return 0, j.unreadable(s)
	case e.Err == noResources, e.Err == accountFull, e.Err == storeFailed && strings.HasPrefix(e.Description, "maximum "):
		return 0, full(nil)
	case e.Err == messageTooLarge:
		return 0, tooLarge(len(data))
	default:
		// A write that failed half-way may show after a restart.
		return 0, fmt.Errorf("append to %s: %w: %s", s, ErrUnknown, e.Description)
	}
}

// Error codes of JetStream.
const (
	accountFull       = 10002
	noResources       = 10023
	messageTooLarge   = 10054
	wrongLastSequence = 10071
	storeFailed       = 10077
)

func (j *Journal) unknown(err error) error {
	if j.isClosed() {
		err = errors.Join(ErrClosed, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

func tooLarge(n int) error {
	return &Fault{
		Kind:         ErrTooLarge,
		English:      fmt.Sprintf("the record has %d bytes, at most %d are possible; shorten the report or send long content as a part", n, MaxRecordBytes),
		JapaneseText: fmt.Sprintf("記録が %d バイトあり、上限の %d バイトを超えています。本文を短くするか、添付として送ってください", n, MaxRecordBytes),
	}
}
