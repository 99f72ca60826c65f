package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// withSync opens a journal whose syncs are counted and done by fn.
func withSync(t testing.TB, fn func() error) *Journal {
	t.Helper()
	j := fresh(t)
	require.NoError(t, j.barrier.stop())
	j.barrier = newBarrier(fn, func(error) {})
	return j
}

func TestWaitersShareASync(t *testing.T) {
	var syncs atomic.Int64
	var appended, covered atomic.Int64 // what was acknowledged; what a sync that began later covers
	gate := make(chan struct{})
	j := withSync(t, func() error {
		begun := appended.Load()
		if syncs.Add(1) == 1 {
			<-gate // all others arrive while the first runs
		}
		covered.Store(begun)
		return nil
	})
	go j.Durable(context.Background())
	for syncs.Load() == 0 {
		runtime.Gosched()
	}
	var ready, wg sync.WaitGroup
	for i := range 256 {
		ready.Add(1)
		wg.Go(func() {
			_, err := j.Append(t.Context(), LiveReports, fmt.Sprintf("r-%d", i), nil)
			mine := appended.Add(1)
			ready.Done()
			if err != nil {
				t.Error(err)
			}
			if err := j.Durable(t.Context()); err != nil {
				t.Error(err)
			}
			if covered.Load() < mine {
				t.Errorf("told durable at %d, a sync covered %d", mine, covered.Load())
			}
		})
	}
	ready.Wait()
	close(gate)
	wg.Wait()
	require.LessOrEqual(t, syncs.Load(), int64(6), "256 waiters behind one sync need about one more")
	require.GreaterOrEqual(t, syncs.Load(), int64(2), "a sync that ran already does not count")
}

func TestAFailedSyncIsFinal(t *testing.T) {
	failure := errors.New("input/output error")
	var fail atomic.Bool
	j := withSync(t, func() error {
		if fail.Load() {
			return failure
		}
		return nil
	})
	require.NoError(t, j.Durable(t.Context()))
	fail.Store(true)
	err := j.Durable(t.Context())
	speaksBoth(t, err, ErrBroken)
	require.ErrorIs(t, err, failure)
	fail.Store(false) // the disk says it is well again: the lost pages stay lost
	speaksBoth(t, j.Durable(t.Context()), ErrBroken)
	speaksBoth(t, j.Healthy(), ErrBroken)
	appendN(t, j, LiveReports, 0, 1)
	require.NoError(t, j.ReadTo(t.Context(), LiveReports, 0, 1, func(Record) error { return nil }), "reading goes on")
	speaksBoth(t, j.Close(), ErrBroken)
}

func TestAWaiterMayGiveUpAndTheOthersStay(t *testing.T) {
	gate := make(chan struct{})
	var syncs atomic.Int64
	j := withSync(t, func() error {
		syncs.Add(1)
		<-gate
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan error)
	go func() { gave <- j.Durable(ctx) }()
	stayed := make(chan error)
	go func() { stayed <- j.Durable(context.Background()) }()
	cancel()
	require.ErrorIs(t, <-gave, context.Canceled)
	close(gate)
	require.NoError(t, <-stayed)
}

func TestClosingAnswersEveryWaiter(t *testing.T) {
	j := fresh(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				if err := j.Durable(context.Background()); err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	require.NoError(t, j.Durable(t.Context()))
	require.NoError(t, j.Close())
	wg.Wait()
}
