package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// hangUp makes the server end a connection of this process.
func hangUp(t testing.TB, j *Journal, nc *nats.Conn) {
	t.Helper()
	id, err := nc.GetClientID()
	require.NoError(t, err)
	require.NoError(t, j.server.srv.DisconnectClientByID(id))
}

func TestAReaderOutlivesItsConnectionWithoutGapOrRepeat(t *testing.T) {
	j := fresh(t)
	const n = 6000
	var after uint64
	read := make(chan error, 1)
	beat := make(chan uint64, n)
	go func() {
		read <- j.ReadTo(context.Background(), LiveReports, 0, n, func(r Record) error {
			if r.Seq != after+1 || r.Key != fmt.Sprintf("r-%d", after) {
				return fmt.Errorf("record %d %s behind %d", r.Seq, r.Key, after)
			}
			after = r.Seq
			beat <- r.Seq
			return nil
		})
	}()
	for i := range 4 {
		appendN(t, j, LiveReports, i*n/4, n/4)
		hangUp(t, j, j.reads)
		for seq := range beat { // it goes on before the next outage
			if seq > uint64(i*n/4) {
				break
			}
		}
	}
	require.NoError(t, <-read)
}

func TestAppendsThroughAnOutageAreWrittenOnceOrUnknown(t *testing.T) {
	j := fresh(t)
	var g errgroup.Group
	started := make(chan struct{}, 8)
	for w := range 8 {
		g.Go(func() error {
			for i := range 300 {
				if i == 20 {
					started <- struct{}{}
				}
				key := fmt.Sprintf("w%d.%d", w, i)
				for {
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					seq, err := j.Append(ctx, LiveReports, key, []byte(key))
					cancel()
					var exists *ExistsError
					if errors.As(err, &exists) {
						seq, err = exists.Seq, nil
					}
					if errors.Is(err, ErrUnknown) || errors.Is(err, context.DeadlineExceeded) {
						continue
					}
					if err != nil {
						return err
					}
					r, err := j.Get(t.Context(), LiveReports, seq)
					if err == nil && r.Key != key {
						err = fmt.Errorf("%s is said to be at %d, where %s is", key, seq, r.Key)
					}
					if err != nil {
						return err
					}
					break
				}
			}
			return nil
		})
	}
	for range 8 {
		<-started
	}
	hangUp(t, j, j.writes)
	require.NoError(t, g.Wait())
	pos, err := j.Position(t.Context(), LiveReports)
	require.NoError(t, err)
	require.Equal(t, uint64(8*300), pos, "each key once")
}

func TestClosingEndsReadersInTheMiddleOfABatch(t *testing.T) {
	j := fresh(t)
	appendN(t, j, LiveReports, 0, 100)
	entered, release := make(chan struct{}), make(chan struct{})
	var handed int
	ended := make(chan error)
	go func() {
		ended <- j.Read(context.Background(), LiveReports, 0, func(Record) error {
			handed++
			if handed == 1 {
				close(entered)
				<-release
			}
			return nil
		})
	}()
	<-entered
	require.NoError(t, j.Close())
	close(release)
	require.ErrorIs(t, <-ended, ErrClosed)
	require.Equal(t, 1, handed)
}

// The last message of the stream of parts may be a deleted one: the parts
// before it stay.
func TestAFailedUploadOrADeletionLeavesTheOtherPartsAfterARestart(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	data := random(3 * chunkBytes)
	require.NoError(t, j.PutPart(t.Context(), Live, "kept", bytes.NewReader(data)))
	err := j.PutPart(t.Context(), Live, "failed", io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, j.PutPart(t.Context(), Exercise, "kept", bytes.NewReader(data)))
	require.NoError(t, j.PutPart(t.Context(), Exercise, "deleted", bytes.NewReader(data)))
	require.NoError(t, j.DeletePart(t.Context(), Exercise, "deleted"))
	for range 2 {
		for _, lane := range []Lane{Live, Exercise} {
			var ids []string
			require.NoError(t, j.ListParts(t.Context(), lane, func(p PartInfo) error { ids = append(ids, p.ID); return nil }))
			require.Equal(t, []string{"kept"}, ids)
			got, err := readPart(t, j, lane, "kept")
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		}
		require.NoError(t, j.Close())
		j = opened(t, cfg)
	}
}

func TestAnUploadWhoseAnswerIsLostMayBeRepeated(t *testing.T) {
	j := fresh(t)
	data := random(2*chunkBytes + 5)
	for i := range 40 {
		id := fmt.Sprintf("p-%d", i)
		// The sender goes away at any moment, also after the head was sent.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
		err := j.PutPart(ctx, Live, id, bytes.NewReader(data))
		cancel()
		if err != nil {
			err = j.PutPart(t.Context(), Live, id, bytes.NewReader(data))
			if !errors.As(err, new(*ExistsError)) {
				require.NoError(t, err)
			}
		}
		got, err := readPart(t, j, Live, id)
		require.NoError(t, err, id)
		require.True(t, bytes.Equal(data, got))
	}

	// The sender goes away in the moment in which the server gets the head.
	spy, err := j.server.connect(hubUser)
	require.NoError(t, err)
	defer spy.Close()
	var leave atomic.Pointer[context.CancelFunc]
	_, err = spy.Subscribe(streams[liveParts].prefix+".head.>", func(*nats.Msg) { (*leave.Load())() })
	require.NoError(t, err)
	require.NoError(t, spy.Flush())
	for i := range 100 {
		id := fmt.Sprintf("l-%d", i)
		ctx, cancel := context.WithCancel(t.Context())
		leave.Store(&cancel)
		first := j.PutPart(ctx, Live, id, bytes.NewReader(data[:10]))
		again := j.PutPart(t.Context(), Live, id, bytes.NewReader(data[:10]))
		if first == nil || again != nil {
			require.ErrorAs(t, again, new(*ExistsError), "%v", first)
		}
		got, err := readPart(t, j, Live, id)
		require.NoError(t, err)
		require.Equal(t, data[:10], got)
	}
}

func TestADeletionLeavesANewUploadOfTheSamePartAlone(t *testing.T) {
	j := fresh(t)
	data := random(4 * chunkBytes)
	require.NoError(t, j.PutPart(t.Context(), Live, "p", bytes.NewReader(data[:chunkBytes])))
	// Deleted while another upload of the same id is half way.
	half := readerFunc(func(p []byte) (int, error) { return 0, io.EOF })
	var once bool
	deleting := readerFunc(func(p []byte) (int, error) {
		if !once {
			once = true
			require.NoError(t, j.DeletePart(t.Context(), Live, "q"))
		}
		return 0, io.EOF
	})
	require.NoError(t, j.PutPart(t.Context(), Live, "q", io.MultiReader(bytes.NewReader(data[:2*chunkBytes]), deleting, bytes.NewReader(data[2*chunkBytes:]), half)))
	got, err := readPart(t, j, Live, "q")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))

	// Uploads and deletions of one id at the same time: what is there is whole.
	var g errgroup.Group
	for w := range 6 {
		g.Go(func() error {
			for range 30 {
				if w%2 == 0 {
					if err := j.DeletePart(t.Context(), Live, "p"); err != nil {
						return err
					}
					continue
				}
				err := j.PutPart(t.Context(), Live, "p", bytes.NewReader(data))
				if err != nil && !errors.As(err, new(*ExistsError)) {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	if err := j.PutPart(t.Context(), Live, "p", bytes.NewReader(data)); err != nil {
		require.ErrorAs(t, err, new(*ExistsError))
	}
	got, err = readPart(t, j, Live, "p")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.NoError(t, j.DeletePart(t.Context(), Live, "p"))
	require.NoError(t, j.DeletePart(t.Context(), Live, "q"))
	require.Zero(t, messages(t, j, liveParts), "no chunk is left over")
}

func TestAPartThatIsNotReadOnDoesNotOutliveItsContext(t *testing.T) {
	j := fresh(t)
	require.NoError(t, j.PutPart(t.Context(), Live, "p", bytes.NewReader(random(20*chunkBytes))))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := j.OpenPart(ctx, Live, "p")
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 1))
	require.NoError(t, err)
	cancel() // and never closed
	require.Eventually(t, func() bool {
		_, err := r.Read(nil)
		return errors.Is(err, context.Canceled)
	}, 5*time.Second, time.Millisecond)
}

func TestAFullStoreTakesMoreAfterItsCapWasRaised(t *testing.T) {
	cfg := testConfig(filepath.Join(t.TempDir(), "journal"))
	cfg.MaxBytes = 20 << 20
	require.NoError(t, Create(t.Context(), cfg, []byte("founded")))
	j := opened(t, cfg)
	data := random(200 << 10)
	n := 0
	fill := func() {
		t.Helper()
		for ; ; n++ {
			_, err := j.Append(t.Context(), LiveReports, fmt.Sprintf("r-%d", n), data)
			if err != nil {
				speaksBoth(t, err, ErrFull)
				return
			}
		}
	}
	fill()
	require.Greater(t, n, 20)
	require.NoError(t, j.Close())

	// Lowered for a time, then doubled.
	for _, limit := range []int64{10 << 20, 40 << 20} {
		cfg.MaxBytes = limit
		j = opened(t, cfg)
		before := n
		fill()
		if limit > 20<<20 {
			require.Greater(t, n, before+before/2, "the cap that was raised is used")
		} else {
			require.Equal(t, before, n)
		}
		var got int
		require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, uint64(n), func(r Record) error {
			if got++; !bytes.Equal(data, r.Data) {
				return errors.New("changed")
			}
			return nil
		}))
		require.Equal(t, n, got)
		require.NoError(t, j.Close())
	}
	opened(t, cfg)
}

func TestAStreamThatEndsBeforeItWasDurableIsRefused(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	appendN(t, j, LiveReports, 0, 10)
	require.NoError(t, j.Close())
	early := filepath.Join(t.TempDir(), "early")
	require.NoError(t, os.CopyFS(early, os.DirFS(cfg.Dir)))
	j = opened(t, cfg)
	appendN(t, j, LiveReports, 10, 1)
	require.NoError(t, j.Close())

	// The stream of before, under the note of now.
	msgs := filepath.Join(storeDir, "jetstream", hubAccount, "streams", string(LiveReports), "msgs")
	require.NoError(t, os.Rename(filepath.Join(cfg.Dir, msgs), filepath.Join(t.TempDir(), "msgs")))
	require.NoError(t, os.CopyFS(filepath.Join(cfg.Dir, msgs), os.DirFS(filepath.Join(early, msgs))))
	_, err := Open(t.Context(), cfg)
	speaksBoth(t, err, ErrDamaged)
	require.ErrorContains(t, err, "ends at 10 and held 11")

	for name, fn := range map[string]func([]byte) []byte{
		"changed":   func(b []byte) []byte { return bytes.Replace(b, []byte("REPORTS 10\n"), []byte("REPORTS 1\n"), 1) },
		"shortened": func(b []byte) []byte { return b[:len(b)-5] },
		"empty":     func(b []byte) []byte { return b[:0] },
		"absent":    func([]byte) []byte { return nil },
	} {
		was := cfg
		was.Dir = early
		_, err := Open(t.Context(), damagedCopy(t, was, filepath.Join(storeDir, tailFile), fn))
		speaksBoth(t, err, ErrDamaged)
		require.ErrorContains(t, err, "note of where it ends", name)
	}
	was := cfg
	was.Dir = early
	opened(t, was)
}

func TestTheNoteIsNeverAheadOfTheDisk(t *testing.T) {
	dir := t.TempDir()
	at := newTail(dir, testKey, positions{LiveReports: 3})
	noted := func() string {
		b, err := os.ReadFile(filepath.Join(dir, tailFile))
		if errors.Is(err, os.ErrNotExist) {
			return ""
		}
		require.NoError(t, err)
		return string(b)
	}
	failure := errors.New("input/output error")
	var fail error
	sync := at.around(func() error {
		at.reach(LiveReports, 9) // answered while the sync ran
		return fail
	})
	require.NoError(t, sync())
	require.Empty(t, noted(), "nothing was durable before the first sync")
	at.at = time.Time{}
	require.NoError(t, sync())
	require.Contains(t, noted(), "LIVE_REPORTS 3\n", "the 9 came after the first sync began")
	at.reach(LiveReports, 12)
	at.reach(LiveReports, 11)
	fail, at.at = failure, time.Time{}
	require.ErrorIs(t, sync(), failure)
	require.NoError(t, at.finish())
	require.Contains(t, noted(), "LIVE_REPORTS 9\n", "what a failed sync covered does not count")
	require.NoError(t, checkTail(dir, testKey, positions{LiveReports: 9, Directory: 1}))
	require.ErrorIs(t, checkTail(dir, testKey, positions{LiveReports: 8, Directory: 1}), ErrDamaged)
	require.ErrorIs(t, checkTail(dir, wrong2, positions{LiveReports: 9, Directory: 1}), ErrDamaged)
}
