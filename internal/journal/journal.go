// Package journal is the hub's journal: an embedded NATS server with JetStream,
// encrypted at rest, and the barrier that makes what it holds durable before
// anybody is told so.
//
// Append and Put return when the server has written to its files; a crash of
// the process loses nothing then, a power cut might. Durable returns when
// everything acknowledged before the call is on disk.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	pb "minato.example/proto/minato/v1"
)

// Stream names one stream of the journal. The two lanes share nothing.
type Stream string

const (
	// Directory holds changes of the directory, append-only.
	Directory Stream = "DIRECTORY"
	// LiveReports holds accepted reports, append-only, one record for each key.
	LiveReports Stream = "LIVE_REPORTS"
	// ExerciseReports is LiveReports for exercises.
	ExerciseReports Stream = "EXERCISE_REPORTS"
	// LiveReceipts holds receipts, append-only, one record for each key.
	LiveReceipts Stream = "LIVE_RECEIPTS"
	// ExerciseReceipts is LiveReceipts for exercises.
	ExerciseReceipts Stream = "EXERCISE_RECEIPTS"
	// LiveCursors holds the last value for each key.
	LiveCursors Stream = "LIVE_CURSORS"
	// ExerciseCursors is LiveCursors for exercises.
	ExerciseCursors Stream = "EXERCISE_CURSORS"
)

var streams = []Stream{Directory, LiveReports, ExerciseReports, LiveReceipts, ExerciseReceipts, LiveCursors, ExerciseCursors}

// buckets are the object stores of the parts.
var buckets = map[pb.Lane]string{pb.Lane_LANE_LIVE: "LIVE_PARTS", pb.Lane_LANE_EXERCISE: "EXERCISE_PARTS"}

// maxMessage bounds one record in bytes: a report of 1 MiB with its plan.
const maxMessage = 2 << 20

// founding is the key of the first record, which marks a store as ours.
const founding = "change.1"

// subject is the subject of a key: the stream's words, then the key.
func (s Stream) subject(key string) string { return s.prefix() + key }

func (s Stream) prefix() string {
	return strings.ReplaceAll(strings.ToLower(string(s)), "_", ".") + "."
}

func (s Stream) cursors() bool { return s == LiveCursors || s == ExerciseCursors }

// Config says where the journal is.
type Config struct {
	Dir      string  // the journal's directory
	Key      []byte  // 32 bytes; encrypts everything at rest
	MaxBytes int64   // bound of the store; 0 means four fifths of what is free at start
	Listen   *Listen // members' door; nil means none
	Log      *slog.Logger
}

// Record is one record.
type Record struct {
	Seq  uint64
	Key  string
	Data []byte
	Time time.Time
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	dir     string
	engine  *engine
	write   *nats.Conn // for writing and single reads
	read    *nats.Conn // for readers: a slow one never holds up a write
	js      jetstream.JetStream
	reading jetstream.JetStream
	streams map[Stream]jetstream.Stream
	objects map[pb.Lane]jetstream.ObjectStore
	barrier *barrier
	key     []byte
}

var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("no such record")
	// ErrFull: the store has reached its bound. Nothing was written.
	ErrFull error = fullError{}
	// ErrUnknown: the server did not answer; the record may be there.
	ErrUnknown = errors.New("the journal did not answer")
)

type fullError struct{}

func (fullError) Error() string {
	return "the journal has reached its bound; raise max_store_bytes in hub.toml or free disk space"
}

// Japanese is the message for people.
func (fullError) Japanese() string {
	return "ジャーナルの保存容量が上限に達しました。hub.toml の max_store_bytes を増やすか、ディスクを空けてください。"
}

// ExistsError is a key that was written before.
type ExistsError struct {
	Stream Stream
	Key    string
}

func (e *ExistsError) Error() string { return fmt.Sprintf("%s %s exists already", e.Stream, e.Key) }

// StoreError is a store that cannot be used. Its files are untouched.
type StoreError struct {
	Dir string
	Err error
	ja  string
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("the journal in %s cannot be used: %v. Its files are untouched.", e.Dir, e.Err)
}

// Japanese is the message for people.
func (e *StoreError) Japanese() string {
	return fmt.Sprintf("%s のジャーナルを使えません: %s。ファイルには触れていません。", e.Dir, e.ja)
}

func (e *StoreError) Unwrap() error { return e.Err }

// Create makes a journal and writes its first record, durably. A directory
// that holds anything is refused.
func Create(ctx context.Context, c Config, first []byte) (err error) {
	if entries, err := os.ReadDir(c.Dir); err == nil && len(entries) > 0 {
		return &StoreError{Dir: c.Dir, Err: errors.New("the directory is not empty"), ja: "空のフォルダーではありません"}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	c.Listen = nil
	j, err := open(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	for _, s := range streams {
		if _, err := j.js.CreateStream(ctx, s.config()); err != nil {
			return fmt.Errorf("make stream %s: %w", s, err)
		}
	}
	for _, b := range buckets {
		if _, err := j.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: b, Storage: jetstream.FileStorage}); err != nil {
			return fmt.Errorf("make store of parts: %w", err)
		}
	}
	if err := j.find(ctx); err != nil {
		return err
	}
	if _, err := j.Append(ctx, Directory, founding, first); err != nil {
		return err
	}
	return j.Durable(ctx)
}

func (s Stream) config() jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: string(s), Subjects: []string{s.prefix() + ">"}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, Compression: jetstream.S2Compression,
		AllowDirect: true, MaxMsgSize: maxMessage, DenyDelete: true, DenyPurge: true, MaxConsumers: -1,
	}
	if s.cursors() {
		c.Discard, c.DiscardNewPerSubject = jetstream.DiscardOld, false
	}
	return c
}

// Open opens a journal that Create made. It never makes or changes a stream:
// doing so with the wrong key would destroy what is there.
func Open(ctx context.Context, c Config) (*Journal, error) {
	if _, err := os.Stat(filepath.Join(c.Dir, "jetstream")); err != nil {
		return nil, &StoreError{Dir: c.Dir, Err: err, ja: "ジャーナルがありません"}
	}
	j, err := open(c)
	if err != nil {
		return nil, err
	}
	if err := j.engine.healthy(); err != nil {
		return nil, errors.Join(&StoreError{Dir: c.Dir, Err: err, ja: "暗号鍵が違うか、ファイルが壊れています"}, j.Close())
	}
	if err := j.find(ctx); err != nil {
		return nil, errors.Join(&StoreError{Dir: c.Dir, Err: err, ja: "ストリームが揃っていません (鍵が違うか、ファイルが壊れています)"}, j.Close())
	}
	if _, err := j.Last(ctx, Directory, founding); err != nil {
		return nil, errors.Join(&StoreError{Dir: c.Dir, Err: errors.New("its founding record is missing"), ja: "このハブのものではありません"}, j.Close())
	}
	// What a killed process had acknowledged to nobody becomes durable now.
	if err := j.Durable(ctx); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func open(c Config) (*Journal, error) {
	if len(c.Key) != 32 {
		return nil, &StoreError{Dir: c.Dir, Err: errors.New("the key must have 32 bytes"), ja: "暗号鍵の長さが違います"}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = boundOf(c.Dir)
	}
	sync, always := chooseSync(c.Dir, c.Log)
	e, err := startEngine(c, always)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: c.Dir, engine: e, key: c.Key, streams: map[Stream]jetstream.Stream{}, objects: map[pb.Lane]jetstream.ObjectStore{}}
	j.barrier = newBarrier(sync)
	if err := j.connect(); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func (j *Journal) connect() (err error) {
	if j.write, err = j.engine.connect(userHub); err != nil {
		return fmt.Errorf("connect to the journal: %w", err)
	}
	if j.read, err = j.engine.connect(userHub); err != nil {
		return fmt.Errorf("connect to the journal: %w", err)
	}
	if j.js, err = jetstream.New(j.write, jetstream.WithDefaultTimeout(10*time.Second)); err != nil {
		return err
	}
	j.reading, err = jetstream.New(j.read, jetstream.WithDefaultTimeout(10*time.Second))
	return err
}

// find looks every stream and store of parts up.
func (j *Journal) find(ctx context.Context) error {
	for _, s := range streams {
		st, err := j.js.Stream(ctx, string(s))
		if err != nil {
			return fmt.Errorf("stream %s: %w", s, err)
		}
		j.streams[s] = st
	}
	for lane, b := range buckets {
		o, err := j.js.ObjectStore(ctx, b)
		if err != nil {
			return fmt.Errorf("store of parts %s: %w", b, err)
		}
		j.objects[lane] = o
	}
	return nil
}

// Append writes a record under a key that was never written before, or returns
// an *ExistsError. Of many racers one wins. The record is not yet durable.
func (j *Journal) Append(ctx context.Context, s Stream, key string, data []byte) (seq uint64, err error) {
	return j.publish(ctx, s, key, data, jetstream.WithExpectLastSequencePerSubject(0))
}

// Put writes the value of a key; the last one counts.
func (j *Journal) Put(ctx context.Context, s Stream, key string, data []byte) error {
	_, err := j.publish(ctx, s, key, data)
	return err
}

func (j *Journal) publish(ctx context.Context, s Stream, key string, data []byte, opts ...jetstream.PublishOpt) (uint64, error) {
	ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: s.subject(key), Data: data}, opts...)
	var api *jetstream.APIError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case !errors.As(err, &api):
		return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, errCodeStoreFailed:
		if api.ErrorCode != errCodeStoreFailed || strings.Contains(api.Description, "per subject") {
			return 0, &ExistsError{Stream: s, Key: key}
		}
		if strings.Contains(api.Description, "maximum bytes") {
			return 0, ErrFull
		}
	case errCodeStorageExceeded, errCodeAccountExceeded, errCodeResources:
		return 0, ErrFull
	}
	return 0, fmt.Errorf("append to %s: %w", s, err)
}

// Error codes of the server for which nats.go has no name.
const (
	errCodeAccountExceeded = 10002
	errCodeResources       = 10023
	errCodeStorageExceeded = 10047
	errCodeStoreFailed     = 10077
)

// Last is the record of a key, or ErrNotFound.
func (j *Journal) Last(ctx context.Context, s Stream, key string) (Record, error) {
	m, err := j.streams[s].GetLastMsgForSubject(ctx, s.subject(key))
	return recordOf(s, m, err)
}

// Get is the record at a position, or ErrNotFound.
func (j *Journal) Get(ctx context.Context, s Stream, seq uint64) (Record, error) {
	m, err := j.streams[s].GetMsg(ctx, seq)
	return recordOf(s, m, err)
}

func recordOf(s Stream, m *jetstream.RawStreamMsg, err error) (Record, error) {
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Record{}, ErrNotFound
	}
	if err != nil {
		return Record{}, fmt.Errorf("read %s: %w", s, err)
	}
	return Record{Seq: m.Sequence, Key: strings.TrimPrefix(m.Subject, s.prefix()), Data: m.Data, Time: m.Time}, nil
}

// Position is the position of the last record; 0 when there is none.
func (j *Journal) Position(ctx context.Context, s Stream) (uint64, error) {
	info, err := j.streams[s].Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", s, err)
	}
	return info.State.LastSeq, nil
}

// Read hands the records after a position to fn, in order and without a gap,
// and goes on with those that come, until ctx ends or fn returns an error.
func (j *Journal) Read(ctx context.Context, s Stream, after uint64, fn func(Record) error) error {
	return j.consume(ctx, s, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1},
		func(r Record) (bool, error) {
			if r.Seq != after+1 {
				return false, fmt.Errorf("%s: position %d follows %d", s, r.Seq, after)
			}
			after = r.Seq
			return true, fn(r)
		})
}

// ReadTo is Read up to a position that the stream has reached.
func (j *Journal) ReadTo(ctx context.Context, s Stream, after, to uint64, fn func(Record) error) error {
	if after >= to {
		return nil
	}
	if to-after <= fewRecords {
		for seq := after + 1; seq <= to; seq++ {
			r, err := j.Get(ctx, s, seq)
			if err != nil {
				return fmt.Errorf("%s: position %d: %w", s, seq, err)
			}
			if err := fn(r); err != nil {
				return err
			}
		}
		return nil
	}
	return j.consume(ctx, s, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1},
		func(r Record) (bool, error) {
			if r.Seq != after+1 {
				return false, fmt.Errorf("%s: position %d follows %d", s, r.Seq, after)
			}
			after = r.Seq
			return after < to, fn(r)
		})
}

// fewRecords are read one by one faster than by a consumer.
const fewRecords = 64

// Match hands every record whose key matches the pattern (words, * and >) to
// fn, in order, and returns.
func (j *Journal) Match(ctx context.Context, s Stream, pattern string, fn func(Record) error) error {
	info, err := j.streams[s].Info(ctx, jetstream.WithSubjectFilter(s.subject(pattern)))
	if err != nil {
		return fmt.Errorf("look at %s: %w", s, err)
	}
	left := len(info.State.Subjects)
	if left == 0 {
		return nil
	}
	return j.consume(ctx, s, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubjects: []string{s.subject(pattern)}},
		func(r Record) (bool, error) {
			left--
			return left > 0, fn(r)
		})
}

// consume reads with an ordered consumer of its own until fn says no.
func (j *Journal) consume(ctx context.Context, s Stream, c jetstream.OrderedConsumerConfig, fn func(Record) (more bool, err error)) error {
	c.InactiveThreshold = 30 * time.Second
	consumer, err := j.reading.OrderedConsumer(ctx, string(s), c)
	if err != nil {
		return fmt.Errorf("read %s: %w", s, err)
	}
	in, err := consumer.Messages(jetstream.PullMaxMessages(500))
	if err != nil {
		return fmt.Errorf("read %s: %w", s, err)
	}
	defer in.Stop()
	for {
		m, err := in.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", s, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", s, err)
		}
		more, err := fn(Record{
			Seq: meta.Sequence.Stream, Key: strings.TrimPrefix(m.Subject(), s.prefix()), Data: m.Data(), Time: meta.Timestamp,
		})
		if err != nil || !more {
			return err
		}
	}
}

// Durable waits until everything acknowledged before the call is on disk.
// Callers that wait at the same time share one sync.
func (j *Journal) Durable(ctx context.Context) error { return j.barrier.wait(ctx) }

// Edge is a connection in the members' account that may publish to members
// (d.>) and hear them (hub.>), nothing else.
func (j *Journal) Edge() (*nats.Conn, error) { return j.engine.connect(userEdge) }

// ListenAddr is the address of the members' door; empty when there is none.
func (j *Journal) ListenAddr() string {
	if a := j.engine.server.Addr(); a != nil && j.engine.listen != nil {
		return a.String()
	}
	return ""
}

// Disconnect closes the connections of the users that match, at once.
func (j *Journal) Disconnect(match func(user string) bool) int { return j.engine.disconnect(match) }

// Healthy says whether the journal can still be written to. After an error of
// the disk it never is again in this process.
func (j *Journal) Healthy() error { return errors.Join(j.engine.healthy(), j.barrier.failed()) }

// Close makes everything durable and ends the server.
func (j *Journal) Close() error {
	var err error
	if j.write != nil && j.barrier.failed() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = j.Durable(ctx)
	}
	for _, c := range []*nats.Conn{j.read, j.write} {
		if c != nil {
			c.Close()
		}
	}
	j.engine.stop()
	j.barrier.close()
	return err
}

// chooseSync picks how the barrier syncs: the whole file system where the
// journal has one of its own, else the files that have changed; where neither
// is to be had the server syncs every write itself.
func chooseSync(dir string, log *slog.Logger) (sync func() error, always bool) {
	if runtime.GOOS != "linux" {
		return func() error { return nil }, true
	}
	if ownVolume(dir) {
		log.Info("journal has a volume of its own", "sync", "syncfs")
		return syncVolume(dir), false
	}
	f := newChangedFiles(dir)
	return f.sync, false
}
