package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var testKey = bytes.Repeat([]byte{7}, 32)

func testConfig(dir string) Config {
	return Config{Dir: dir, Key: testKey, MaxBytes: 256 << 20, Log: slog.New(slog.DiscardHandler)}
}

// created makes a journal and returns its config, closed.
func created(t testing.TB) Config {
	t.Helper()
	cfg := testConfig(filepath.Join(t.TempDir(), "journal"))
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
	return cfg
}

func opened(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

func fresh(t testing.TB) *Journal { return opened(t, created(t)) }

func appendN(t testing.TB, j *Journal, s Stream, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		_, err := j.Append(t.Context(), s, fmt.Sprintf("r-%d", i), fmt.Appendf(nil, "data %d", i))
		require.NoError(t, err)
	}
}

// tree is a hash of every file below dir except the lock.
func tree(t testing.TB, dir string) map[string][32]byte {
	t.Helper()
	m := make(map[string][32]byte)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == lockFile {
			return err
		}
		b, err := os.ReadFile(path)
		m[path] = sha256.Sum256(b)
		return err
	}))
	return m
}

// speaksBoth demands a fault of a kind with a text in each language.
func speaksBoth(t testing.TB, err error, kind error) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	var f *Fault
	require.ErrorAs(t, err, &f)
	require.NotEmpty(t, f.Error())
	require.NotEmpty(t, f.Japanese())
}

func TestARecordSurvivesClosingAndOpening(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	first, err := j.Get(t.Context(), Directory, 1)
	require.NoError(t, err)
	require.Equal(t, "founded", string(first.Data))

	before := time.Now().Add(-time.Second)
	for s, sp := range streams {
		if sp.kind != once || s == Directory {
			continue
		}
		seq, err := j.Append(t.Context(), s, "a.b-1", []byte(s))
		require.NoError(t, err)
		require.Equal(t, uint64(1), seq)
	}
	require.NoError(t, j.Put(t.Context(), LiveCursors, "kisarazu.1", []byte("1")))
	require.NoError(t, j.Put(t.Context(), LiveCursors, "kisarazu.1", []byte("2")))
	require.NoError(t, j.Healthy())
	require.NoError(t, j.Close())
	require.NoError(t, j.Close())
	require.ErrorIs(t, j.Healthy(), ErrClosed)
	_, err = j.Append(t.Context(), LiveReports, "late", nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, j.Durable(t.Context()), ErrClosed)
	_, err = j.Last(t.Context(), LiveReports, "a.b-1")
	require.ErrorIs(t, err, ErrClosed)

	j = opened(t, cfg)
	r, err := j.Last(t.Context(), ExerciseReceipts, "a.b-1")
	require.NoError(t, err)
	require.Equal(t, "EXERCISE_RECEIPTS", string(r.Data))
	require.Equal(t, "a.b-1", r.Key)
	require.WithinRange(t, r.Time, before, time.Now())
	r, err = j.Last(t.Context(), LiveCursors, "kisarazu.1")
	require.NoError(t, err)
	require.Equal(t, "2", string(r.Data))
	_, err = j.Last(t.Context(), ExerciseCursors, "kisarazu.1")
	require.ErrorIs(t, err, ErrNotFound, "the lanes share nothing")
	_, err = j.Get(t.Context(), LiveReports, 2)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = j.Get(t.Context(), LiveReports, 0)
	require.ErrorIs(t, err, ErrNotFound)
	pos, err := j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Equal(t, uint64(1), pos)
	require.NoError(t, j.ReadTo(t.Context(), LiveReceipts, 0, 1, func(r Record) error { return nil }))
	empty := fresh(t)
	pos, err = empty.Position(t.Context(), ExerciseReports)
	require.NoError(t, err)
	require.Zero(t, pos)
}

func TestOneOfManyRacersWritesAKeyNowAndAfterARestart(t *testing.T) {
	cfg := created(t)
	race := func(j *Journal) (won int, seqs map[uint64]bool) {
		seqs = make(map[uint64]bool)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				seq, err := j.Append(t.Context(), LiveReports, "same", []byte{byte(i)})
				mu.Lock()
				defer mu.Unlock()
				var exists *ExistsError
				if errors.As(err, &exists) {
					seqs[exists.Seq] = true
					return
				}
				if err != nil {
					t.Error(err)
				}
				won++
				seqs[seq] = true
			})
		}
		wg.Wait()
		return won, seqs
	}
	j := opened(t, cfg)
	appendN(t, j, LiveReports, 0, 3)
	won, seqs := race(j)
	require.Equal(t, 1, won)
	require.Equal(t, map[uint64]bool{4: true}, seqs, "the losers learn the winner's sequence")
	appendN(t, j, LiveReports, 3, 1)
	require.NoError(t, j.Close())

	j = opened(t, cfg)
	won, seqs = race(j)
	require.Zero(t, won)
	require.Equal(t, map[uint64]bool{4: true}, seqs)
	seq, err := j.Append(t.Context(), LiveReports, "next", nil)
	require.NoError(t, err)
	require.Equal(t, uint64(6), seq, "a refused record leaves no gap")
}

func TestReadFollowsInOrderAndResumes(t *testing.T) {
	j := fresh(t)
	const n = 900 // several batches
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var readers sync.WaitGroup
	stop := errors.New("enough")
	for range fetchSlots + 8 { // they share the slots
		readers.Go(func() {
			var after uint64
			for after < n {
				// Ended by its own error every 400 records, and resumed.
				begin := after
				err := j.Read(ctx, LiveReports, after, func(r Record) error {
					if r.Seq != after+1 || string(r.Data) != fmt.Sprintf("data %d", r.Seq-1) || r.Key != fmt.Sprintf("r-%d", r.Seq-1) {
						return fmt.Errorf("record %d %s %s behind %d", r.Seq, r.Key, r.Data, after)
					}
					if after = r.Seq; after == n || after == begin+400 {
						return stop
					}
					return nil
				})
				if err != stop {
					t.Error(err)
					return
				}
			}
		})
	}
	appendN(t, j, LiveReports, 0, n)
	readers.Wait()

	// A reader without work ends with its context, or with the journal.
	ended := make(chan error)
	go func() { ended <- j.Read(ctx, LiveReports, n, func(Record) error { return nil }) }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	go func() { ended <- j.Read(context.Background(), LiveReports, n, func(Record) error { return nil }) }()
	require.NoError(t, j.Close())
	require.ErrorIs(t, <-ended, ErrClosed)
}

func TestReadToEndsAtItsBoundAndWaitsForIt(t *testing.T) {
	j := fresh(t)
	appendN(t, j, LiveReports, 0, 10)
	var got []uint64
	collect := func(r Record) error { got = append(got, r.Seq); return nil }
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 4, 7, collect))
	require.Equal(t, []uint64{5, 6, 7}, got)
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 7, 7, collect))

	ended := make(chan error)
	go func() {
		ended <- j.ReadTo(context.Background(), LiveReports, 9, 12, func(r Record) error { return nil })
	}()
	appendN(t, j, LiveReports, 10, 2)
	require.NoError(t, <-ended)
}

func TestManySlowReadersDoNotHoldUpAFastOne(t *testing.T) {
	j := fresh(t)
	appendN(t, j, LiveReports, 0, 5)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var slow sync.WaitGroup
	for range 4 * fetchSlots {
		entered := make(chan struct{})
		slow.Go(func() {
			j.Read(ctx, LiveReports, 0, func(Record) error {
				close(entered)
				<-ctx.Done()
				return ctx.Err()
			})
		})
		<-entered
	}
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, 5, func(Record) error { return nil }))
	cancel()
	slow.Wait()
}

func TestMatchFindsByWildcardInOrder(t *testing.T) {
	j := fresh(t)
	for _, key := range []string{"r1.kisarazu.1", "r2.kisarazu.1", "r1.mlit.1", "r10.kisarazu.1", "r1.mlit.2"} {
		_, err := j.Append(t.Context(), LiveReceipts, key, nil)
		require.NoError(t, err)
	}
	match := func(filter string) (keys []string) {
		require.NoError(t, j.Match(t.Context(), LiveReceipts, filter, func(r Record) error {
			keys = append(keys, r.Key)
			return nil
		}))
		return keys
	}
	require.Equal(t, []string{"r1.kisarazu.1", "r1.mlit.1", "r1.mlit.2"}, match("r1.>"))
	require.Equal(t, []string{"r1.kisarazu.1", "r2.kisarazu.1", "r10.kisarazu.1"}, match("*.kisarazu.*"))
	require.Equal(t, []string{"r1.mlit.2"}, match("r1.mlit.2"))
	require.Len(t, match(">"), 5)
	require.Empty(t, match("r3.>"))
	for _, bad := range []string{"", ".", "a..b", ">.a", "a b", "$JS.>", "a*", "a.>.b"} {
		require.Error(t, j.Match(t.Context(), LiveReceipts, bad, func(Record) error { return nil }), bad)
	}

	// Cursors: the last value of each, over the gaps that the others left.
	for i := range 600 {
		require.NoError(t, j.Put(t.Context(), LiveCursors, fmt.Sprintf("m%d.1", i%3), fmt.Append(nil, i)))
	}
	var got []string
	require.NoError(t, j.Match(t.Context(), LiveCursors, ">", func(r Record) error {
		got = append(got, r.Key+"="+string(r.Data))
		return nil
	}))
	require.Equal(t, []string{"m0.1=597", "m1.1=598", "m2.1=599"}, got)

	stop := errors.New("stop")
	require.Equal(t, stop, j.Match(t.Context(), LiveCursors, ">", func(Record) error { return stop }))
}

func TestKeysThatCouldLeaveTheirStreamAreRefused(t *testing.T) {
	j := fresh(t)
	for _, key := range []string{"", ".", "a.", ".a", "a..b", "A", "a b", "a\r\nPUB x", "*", ">", "a.*", "$js", "港", strings.Repeat("a", 65), "1.2.3.4.5.6.7.8.9"} {
		_, err := j.Append(t.Context(), LiveReports, key, nil)
		require.Error(t, err, "%q", key)
	}
	_, err := j.Append(t.Context(), "LIVE_REPORTS2", "a", nil)
	require.Error(t, err)
	_, err = j.Append(t.Context(), Lane(0).Reports(), "a", nil)
	require.Error(t, err)
	require.Error(t, j.Read(t.Context(), Lane(3).Reports(), 0, nil))
	_, err = j.Append(t.Context(), LiveCursors, "a", nil)
	require.Error(t, err)
	require.Error(t, j.Put(t.Context(), LiveReports, "a", nil))
	pos, err := j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Zero(t, pos)

	_, err = j.Append(t.Context(), LiveReports, "a", make([]byte, MaxRecordBytes))
	speaksBoth(t, err, ErrTooLarge)
	seq, err := j.Append(t.Context(), LiveReports, "a", make([]byte, MaxRecordBytes-1))
	require.NoError(t, err, "the largest record goes in")
	r, err := j.Get(t.Context(), LiveReports, seq)
	require.NoError(t, err)
	require.Len(t, r.Data, MaxRecordBytes-1)
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, seq, func(Record) error { return nil }))
}

func TestAWrongKeyIsRefusedAndNothingIsTouched(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	appendN(t, j, LiveReports, 0, 100)
	require.NoError(t, j.Close())
	before := tree(t, cfg.Dir)

	wrong := cfg
	wrong.Key = bytes.Repeat([]byte{8}, 32)
	_, err := Open(t.Context(), wrong)
	speaksBoth(t, err, ErrKey)
	require.Equal(t, before, tree(t, cfg.Dir))
	speaksBoth(t, Create(t.Context(), wrong, []byte("x")), ErrExists)
	require.Equal(t, before, tree(t, cfg.Dir))
	wrong.Key = nil
	_, err = Open(t.Context(), wrong)
	require.Error(t, err)

	// The mark is the first check; the store itself must hold out too.
	mine := mark(wrong2)
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, storeDir, markFile), mine, 0o600))
	wrong.Key = wrong2
	_, err = Open(t.Context(), wrong)
	speaksBoth(t, err, ErrDamaged)
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, storeDir, markFile), mark(cfg.Key), 0o600))
	require.Equal(t, before, tree(t, cfg.Dir))

	j = opened(t, cfg)
	var n int
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, 100, func(r Record) error { n++; return nil }))
	require.Equal(t, 100, n)
}

var wrong2 = bytes.Repeat([]byte{9}, 32)

func TestADirectoryThatIsNotAJournalIsRefused(t *testing.T) {
	cfg := testConfig(t.TempDir())
	_, err := Open(t.Context(), cfg)
	speaksBoth(t, err, ErrMissing)
	cfg.Dir = filepath.Join(cfg.Dir, "absent")
	_, err = Open(t.Context(), cfg)
	speaksBoth(t, err, ErrMissing)
	_, err = os.Stat(cfg.Dir)
	require.ErrorIs(t, err, fs.ErrNotExist, "opening makes nothing")

	cfg = testConfig(t.TempDir())
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "letter.txt"), []byte("private"), 0o600))
	speaksBoth(t, Create(t.Context(), cfg, []byte("x")), ErrExists)
	require.Equal(t, 1, len(tree(t, cfg.Dir)))

	require.NoError(t, os.Mkdir(filepath.Join(cfg.Dir, storeDir), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, storeDir, markFile), []byte("something else"), 0o600))
	_, err = Open(t.Context(), cfg)
	speaksBoth(t, err, ErrDamaged)
}

func TestAJournalIsCreatedOnceAndWhatACrashLeftIsReplaced(t *testing.T) {
	cfg := created(t)
	speaksBoth(t, Create(t.Context(), cfg, []byte("again")), ErrExists)

	// A Create that was killed leaves its working folder and the lock file.
	cfg = testConfig(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Join(cfg.Dir, newDir, "jetstream", "HUB"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, lockFile), nil, 0o600))
	_, err := Open(t.Context(), cfg)
	speaksBoth(t, err, ErrMissing)
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
	j := opened(t, cfg)
	entries, err := os.ReadDir(cfg.Dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{lockFile, storeDir}, names)
	require.NoError(t, j.Close())

	// A failed Create leaves nothing.
	cfg = testConfig(filepath.Join(t.TempDir(), "journal"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, Create(ctx, cfg, []byte("founded")))
	require.Empty(t, tree(t, cfg.Dir))
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
}

func TestAMissingOrDamagedStreamIsRefusedAndTheRestIsKept(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	appendN(t, j, LiveReports, 0, 10)
	require.NoError(t, j.Close())
	dir := filepath.Join(cfg.Dir, storeDir, "jetstream", hubAccount, "streams")

	away := filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.Rename(filepath.Join(dir, "LIVE_RECEIPTS"), away))
	before := tree(t, cfg.Dir)
	_, err := Open(t.Context(), cfg)
	speaksBoth(t, err, ErrDamaged)
	require.Equal(t, before, tree(t, cfg.Dir))
	require.NoError(t, os.Rename(away, filepath.Join(dir, "LIVE_RECEIPTS")))

	meta := filepath.Join(dir, "LIVE_REPORTS", "meta.inf")
	good, err := os.ReadFile(meta)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(meta, append([]byte{good[0] ^ 1}, good[1:]...), 0o600))
	_, err = Open(t.Context(), cfg)
	speaksBoth(t, err, ErrDamaged)
	require.NoError(t, os.WriteFile(meta, good, 0o600))

	j = opened(t, cfg)
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, 10, func(Record) error { return nil }))
}

func TestASecondProcessIsKeptOut(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	_, err := Open(t.Context(), cfg)
	speaksBoth(t, err, ErrInUse)
	require.NoError(t, j.Healthy())
	require.NoError(t, j.Close())
	opened(t, cfg)
}

func TestAFullStoreRefusesAndStaysReadable(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "journal"))
	cfg.MaxBytes = 10 << 20
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
	j := opened(t, cfg)
	data := make([]byte, 100<<10)
	rand.Read(data)
	fill := func(s Stream) (n uint64) {
		for {
			_, err := j.Append(t.Context(), s, fmt.Sprintf("r-%d", n), data)
			if err != nil {
				speaksBoth(t, err, ErrFull)
				require.Contains(t, err.(*Fault).Japanese(), "容量")
				return n
			}
			n++
			require.Less(t, n, uint64(1000))
		}
	}
	n := fill(LiveReports)
	require.Greater(t, n, uint64(20))
	check := func() {
		var got uint64
		require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, n, func(r Record) error {
			if got++; !bytes.Equal(data, r.Data) {
				return errors.New("changed")
			}
			return nil
		}))
		require.Equal(t, n, got)
		_, err := j.Append(t.Context(), LiveReports, "r-0", nil)
		require.ErrorAs(t, err, new(*ExistsError), "a repeat of what is there is still told so")
		_, err = j.Append(t.Context(), LiveReports, "new", data)
		require.ErrorIs(t, err, ErrFull)
		require.NoError(t, j.Durable(t.Context()))
		require.NoError(t, j.Healthy())
	}
	check()
	// Full reports leave room for receipts, cursors and the other lane; an
	// exercise that fills its own takes nothing from them.
	fill(ExerciseReports)
	for _, s := range []Stream{LiveReceipts, ExerciseReceipts, Directory} {
		_, err := j.Append(t.Context(), s, "receipt", []byte("x"))
		require.NoError(t, err)
	}
	require.NoError(t, j.Put(t.Context(), LiveCursors, "m.1", []byte("1")))
	require.NoError(t, j.PutPart(t.Context(), Live, "p", bytes.NewReader(data)))
	speaksBoth(t, j.PutPart(t.Context(), Live, "large", bytes.NewReader(make([]byte, 5<<20))), ErrFull)
	require.NoError(t, j.PutPart(t.Context(), Live, "p2", bytes.NewReader(data)), "what did not fit left nothing behind")
	require.NoError(t, j.Close())

	j = opened(t, cfg)
	check()
	require.NoError(t, j.Close())

	// A smaller cap than what is there: still opens, reads and refuses.
	cfg.MaxBytes = 1 << 20
	j = opened(t, cfg)
	check()
	_, err := j.Append(t.Context(), LiveReceipts, "later", data)
	speaksBoth(t, err, ErrFull)
}

func TestTheFilesHoldNoContentAndNoKey(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	canary := "canary-3f9a1c"
	_, err := j.Append(t.Context(), LiveReports, canary, []byte("data "+canary))
	require.NoError(t, err)
	require.NoError(t, j.Put(t.Context(), LiveCursors, canary, []byte(canary)))
	require.NoError(t, j.PutPart(t.Context(), Live, canary, strings.NewReader(canary)))
	require.NoError(t, j.Close())
	var files int
	for path := range tree(t, cfg.Dir) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(b), canary, path)
		require.NotContains(t, path, canary)
		files++
	}
	require.Greater(t, files, 20)
}

func TestAnAppendThatIsNotAnsweredIsUnknown(t *testing.T) {
	j := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := j.Append(ctx, LiveReports, "a", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrUnknown, "nothing was sent")

	// Closing under load: whoever got no answer is told so.
	var unknown, acked atomic.Int64
	var wg sync.WaitGroup
	begun := make(chan struct{})
	var once sync.Once
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := j.Append(context.Background(), LiveReports, fmt.Sprintf("w%d-%d", w, i), nil)
				switch {
				case err == nil:
					if acked.Add(1) == 500 {
						once.Do(func() { close(begun) })
					}
				case errors.Is(err, ErrUnknown):
					unknown.Add(1)
					return
				case errors.Is(err, ErrClosed):
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	<-begun
	require.NoError(t, j.Close())
	wg.Wait()
}
