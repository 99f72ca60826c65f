package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func readPart(t testing.TB, j *Journal, lane Lane, id string) ([]byte, error) {
	t.Helper()
	r, err := j.OpenPart(t.Context(), lane, id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestAPartComesBackAsItWentInWhateverItsSize(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	want := map[string][]byte{}
	for _, n := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 5*chunkBytes + 7, 16 << 20} {
		id := fmt.Sprintf("p-%d", n)
		want[id] = random(n)
		require.NoError(t, j.PutPart(t.Context(), Live, id, iotest.HalfReader(bytes.NewReader(want[id]))))
	}
	check := func() {
		for id, data := range want {
			got, err := readPart(t, j, Live, id)
			require.NoError(t, err, id)
			require.True(t, bytes.Equal(data, got), id)
		}
		seen := map[string]int64{}
		require.NoError(t, j.ListParts(t.Context(), Live, func(p PartInfo) error {
			seen[p.ID] = p.Size
			require.False(t, p.Time.IsZero())
			return nil
		}))
		require.Len(t, seen, len(want))
		for id, data := range want {
			require.Equal(t, int64(len(data)), seen[id])
		}
	}
	check()
	require.NoError(t, j.Durable(t.Context()))
	require.NoError(t, j.Close())
	j = opened(t, cfg)
	check()
	_, err := readPart(t, j, Exercise, "p-1")
	require.ErrorIs(t, err, ErrNotFound, "the lanes share nothing")
	require.NoError(t, j.ListParts(t.Context(), Exercise, func(PartInfo) error { return errors.New("not here") }))
	for _, bad := range []string{"", "a.b", "*", ">", "A"} {
		require.Error(t, j.PutPart(t.Context(), Live, bad, bytes.NewReader(nil)))
		require.Error(t, j.DeletePart(t.Context(), Live, bad))
		_, err := j.OpenPart(t.Context(), Live, bad)
		require.Error(t, err)
	}
	require.Error(t, j.PutPart(t.Context(), 0, "a", bytes.NewReader(nil)))
}

func TestAPartIsWrittenOnceAndMayBeDeletedAndWrittenAnew(t *testing.T) {
	j := fresh(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winner []byte
	for range 8 {
		wg.Go(func() {
			data := random(3 * chunkBytes)
			err := j.PutPart(t.Context(), Live, "same", bytes.NewReader(data))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && winner == nil:
				winner = data
			case !errors.As(err, new(*ExistsError)):
				t.Errorf("second winner or %v", err)
			}
		})
	}
	wg.Wait()
	got, err := readPart(t, j, Live, "same")
	require.NoError(t, err)
	require.Equal(t, winner, got)
	require.Equal(t, 4, messages(t, j, liveParts), "the losers' chunks are gone")

	require.NoError(t, j.DeletePart(t.Context(), Live, "same"))
	require.NoError(t, j.DeletePart(t.Context(), Live, "same"))
	require.Zero(t, messages(t, j, liveParts))
	_, err = readPart(t, j, Live, "same")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, j.PutPart(t.Context(), Live, "same", bytes.NewReader([]byte("new"))))
	got, err = readPart(t, j, Live, "same")
	require.NoError(t, err)
	require.Equal(t, "new", string(got))
}

func messages(t testing.TB, j *Journal, s Stream) int {
	t.Helper()
	js, err := jetstream.New(j.writes)
	require.NoError(t, err)
	st, err := js.Stream(t.Context(), string(s))
	require.NoError(t, err)
	return int(st.CachedInfo().State.Msgs)
}

func TestAnUploadThatFailsLeavesNothing(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	failure := errors.New("digest differs")
	for _, n := range []int{0, 10, chunkBytes, 3*chunkBytes + 5} {
		err := j.PutPart(t.Context(), Live, "bad", io.MultiReader(bytes.NewReader(random(n)), iotest.ErrReader(failure)))
		require.ErrorIs(t, err, failure)
	}
	require.Zero(t, messages(t, j, liveParts))
	ctx, cancel := context.WithCancel(t.Context())
	err := j.PutPart(ctx, Live, "bad", io.MultiReader(bytes.NewReader(random(2*chunkBytes)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	})))
	require.Error(t, err)
	require.Zero(t, messages(t, j, liveParts))
	_, err = readPart(t, j, Live, "bad")
	require.ErrorIs(t, err, ErrNotFound)

	// Cut off by a crash: chunks without a head, swept at the next start.
	require.NoError(t, j.PutPart(t.Context(), Live, "good", bytes.NewReader(random(2*chunkBytes))))
	for range 3 {
		_, err := j.publish(t.Context(), liveParts, chunkKey("half", random(saltBytes)), random(100), false)
		require.NoError(t, err)
	}
	require.Equal(t, 6, messages(t, j, liveParts))
	require.NoError(t, j.Close())
	j = opened(t, cfg)
	require.Equal(t, 3, messages(t, j, liveParts))
	_, err = readPart(t, j, Live, "good")
	require.NoError(t, err)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAChangedShortenedOrMovedPartIsNeverServed(t *testing.T) {
	j := fresh(t)
	data := random(3*chunkBytes + 100)
	salt := func(id string) []byte {
		r, err := j.Last(t.Context(), liveParts, headKey(id))
		require.NoError(t, err)
		salt, _, err := parseHead(r)
		require.NoError(t, err)
		return salt
	}
	// rewrite stores part "x" anew with its chunks and head changed by fn.
	rewrite := func(fn func(chunks [][]byte, head []byte) ([][]byte, []byte)) error {
		require.NoError(t, j.DeletePart(t.Context(), Live, "x"))
		require.NoError(t, j.PutPart(t.Context(), Live, "x", bytes.NewReader(data)))
		head, err := j.Last(t.Context(), liveParts, headKey("x"))
		require.NoError(t, err)
		key := chunkKey("x", salt("x"))
		var chunks [][]byte
		require.NoError(t, j.Match(t.Context(), liveParts, key, func(r Record) error {
			chunks = append(chunks, r.Data)
			return nil
		}))
		require.Len(t, chunks, 4)
		changed, newHead := fn(chunks, head.Data)
		require.NoError(t, j.DeletePart(t.Context(), Live, "x"))
		for _, c := range changed {
			_, err := j.publish(t.Context(), liveParts, key, c, false)
			require.NoError(t, err)
		}
		_, err = j.publish(t.Context(), liveParts, headKey("x"), newHead, true)
		require.NoError(t, err)
		got, err := readPart(t, j, Live, "x")
		require.True(t, bytes.HasPrefix(data, got), "what was handed over before the fault is genuine")
		return err
	}
	require.NoError(t, rewrite(func(c [][]byte, h []byte) ([][]byte, []byte) { return c, h }), "the method itself")

	size := func(h []byte, n uint64) []byte {
		h = bytes.Clone(h)
		for i := range 8 {
			h[headBytes-1-i] = byte(n >> (8 * i))
		}
		return h
	}
	for name, fn := range map[string]func(c [][]byte, h []byte) ([][]byte, []byte){
		"a bit of the first chunk": func(c [][]byte, h []byte) ([][]byte, []byte) { c[0][5] ^= 1; return c, h },
		"a bit of the last tag":    func(c [][]byte, h []byte) ([][]byte, []byte) { c[3][len(c[3])-1] ^= 1; return c, h },
		"last chunk missing":       func(c [][]byte, h []byte) ([][]byte, []byte) { return c[:3], h },
		"last chunk missing, size to match": func(c [][]byte, h []byte) ([][]byte, []byte) {
			return c[:3], size(h, 3*chunkBytes)
		},
		"first chunk missing": func(c [][]byte, h []byte) ([][]byte, []byte) { return c[1:], h },
		"no chunk":            func(c [][]byte, h []byte) ([][]byte, []byte) { return nil, h },
		"no chunk, size 0":    func(c [][]byte, h []byte) ([][]byte, []byte) { return nil, size(h, 0) },
		"two swapped":         func(c [][]byte, h []byte) ([][]byte, []byte) { c[0], c[1] = c[1], c[0]; return c, h },
		"one twice":           func(c [][]byte, h []byte) ([][]byte, []byte) { return append(c[:2:2], c[1:]...), h },
		"one more before":     func(c [][]byte, h []byte) ([][]byte, []byte) { return append([][]byte{c[3]}, c...), h },
		"cut within a chunk":  func(c [][]byte, h []byte) ([][]byte, []byte) { c[3] = c[3][:50]; return c, h },
		"empty chunk":         func(c [][]byte, h []byte) ([][]byte, []byte) { c[1] = nil; return c, h },
		"larger size":         func(c [][]byte, h []byte) ([][]byte, []byte) { return c, size(h, 1<<40) },
		"impossible size":     func(c [][]byte, h []byte) ([][]byte, []byte) { return c, size(h, 1<<63) },
		"another salt": func(c [][]byte, h []byte) ([][]byte, []byte) {
			h = bytes.Clone(h)
			h[saltBytes] ^= 1
			return c, h
		},
		"short head": func(c [][]byte, h []byte) ([][]byte, []byte) { return c, h[:5] },
	} {
		require.ErrorIs(t, rewrite(fn), ErrDamaged, name)
	}

	// What is put behind the last chunk is not read: the part is as it was.
	require.NoError(t, rewrite(func(c [][]byte, h []byte) ([][]byte, []byte) { return append(c, c[3]), h }))

	// The chunks of one part under the name of another, salt and all.
	require.NoError(t, j.PutPart(t.Context(), Live, "y", bytes.NewReader(data)))
	head, err := j.Last(t.Context(), liveParts, headKey("y"))
	require.NoError(t, err)
	require.NoError(t, j.Match(t.Context(), liveParts, chunkKey("y", salt("y")), func(r Record) error {
		_, err := j.publish(t.Context(), liveParts, chunkKey("z", salt("y")), r.Data, false)
		return err
	}))
	_, err = j.publish(t.Context(), liveParts, headKey("z"), head.Data, true)
	require.NoError(t, err)
	got, err := readPart(t, j, Live, "z")
	require.ErrorIs(t, err, ErrDamaged)
	require.Empty(t, got)
}

func TestAReaderOfAPartMayStopEarly(t *testing.T) {
	j := fresh(t)
	require.NoError(t, j.PutPart(t.Context(), Live, "p", bytes.NewReader(random(20*chunkBytes))))
	r, err := j.OpenPart(t.Context(), Live, "p")
	require.NoError(t, err)
	_, err = io.ReadFull(r, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = r.Read(make([]byte, 1))
	require.Error(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	r, err = j.OpenPart(ctx, Live, "p")
	require.NoError(t, err)
	defer r.Close()
	cancel()
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, context.Canceled)
}
