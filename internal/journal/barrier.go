package journal

import (
	"context"
	"fmt"
	"sync"
)

// barrier makes everything written so far durable. One goroutine syncs; those
// who ask while a sync runs share the next one, so a thousand waiters cost two
// syncs.
type barrier struct {
	sync func() error
	wake chan struct{} // size 1
	done chan struct{}

	mu      sync.Mutex
	next    *round // whom the next sync will serve
	err     error  // the first failure; final
	stopped bool
}

// round is one sync and those who wait for it.
type round struct {
	done chan struct{}
	err  error
}

func newRound() *round { return &round{done: make(chan struct{})} }

func newBarrier(sync func() error) *barrier {
	b := &barrier{sync: sync, wake: make(chan struct{}, 1), done: make(chan struct{}), next: newRound()}
	go b.run()
	return b
}

// wait returns nil when a sync that began after the call has ended well.
//
// A failed sync is final: the kernel may have dropped the pages that it could
// not write, and a later sync would report success for data that is gone.
func (b *barrier) wait(ctx context.Context) error {
	b.mu.Lock()
	if b.err != nil || b.stopped {
		defer b.mu.Unlock()
		return b.errLocked()
	}
	r := b.next
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // somebody has woken it already
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *barrier) run() {
	defer close(b.done)
	for range b.wake {
		b.mu.Lock()
		r := b.next
		b.next = newRound()
		failed := b.err
		b.mu.Unlock()
		if failed == nil {
			if err := b.sync(); err != nil {
				failed = fmt.Errorf("sync of the journal failed: %w", err)
			}
		}
		b.mu.Lock()
		if b.err == nil {
			b.err = failed
		}
		b.mu.Unlock()
		r.err = failed
		close(r.done)
	}
	// Nobody is left waiting.
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next.err = errStopped
	close(b.next.done)
}

func (b *barrier) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *barrier) errLocked() error {
	if b.err != nil {
		return b.err
	}
	return errStopped
}

var errStopped = fmt.Errorf("the journal is closed")

func (b *barrier) close() {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return
	}
	b.stopped = true
	b.mu.Unlock()
	close(b.wake)
	<-b.done
}
