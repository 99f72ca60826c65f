package journal

import (
	"context"
	"errors"
	"sync"
)

// Durable returns nil when everything that was acknowledged before the call is
// on disk. Callers that arrive while a sync runs share the next one.
//
// A failed sync is final: the kernel may have dropped the very pages it could
// not write and report success the next time, so every later call fails with
// ErrBroken until a restart has read the store again.
func (j *Journal) Durable(ctx context.Context) error {
	if j.isClosed() {
		return ErrClosed
	}
	return j.barrier.wait(ctx)
}

// barrier runs one sync at a time for all who wait.
type barrier struct {
	sync   func() error
	report func(error) // told once of a failed sync
	wake   chan struct{}
	quit   chan struct{}
	ended  chan struct{}

	mu   sync.Mutex
	next *round // for those who wait for a sync that has not begun
	err  error  // final
}

type round struct {
	done chan struct{}
	err  error
}

func newBarrier(sync func() error, report func(error)) *barrier {
	b := &barrier{
		sync:   sync,
		report: report,
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	go b.run()
	return b
}

func (b *barrier) wait(ctx context.Context) error {
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	r := b.next
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *barrier) run() {
	defer close(b.ended)
	for {
		select {
		case <-b.wake:
			b.round()
		case <-b.quit:
			b.round() // those who still wait, and what the server wrote last
			b.mu.Lock()
			if b.err == nil {
				b.err = ErrClosed
			}
			if b.next != nil {
				b.next.err = b.err
				close(b.next.done)
				b.next = nil
			}
			b.mu.Unlock()
			return
		}
	}
}

// round runs one sync. Who waits for it came before it began.
func (b *barrier) round() {
	b.mu.Lock()
	r := b.next
	b.next = nil
	err := b.err
	b.mu.Unlock()
	if err == nil {
		if err = b.sync(); err != nil {
			b.report(err)
			err = broken(err)
			b.mu.Lock()
			b.err = err
			b.mu.Unlock()
		}
	}
	if r != nil {
		r.err = err
		close(r.done)
	}
}

// failed returns the final error, if there was one.
func (b *barrier) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// stop syncs a last time and ends the goroutine.
func (b *barrier) stop() error {
	close(b.quit)
	<-b.ended
	if err := b.failed(); !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}
