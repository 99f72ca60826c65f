// Package node is one operator's node: it keeps what its people publish until
// the hub has it, receives what the hub delivers, and shows both. A report's
// way through it is one file a step: publish.go, outbox.go on the way out;
// receive.go, inbox.go on the way in.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"minato.example/internal/ca"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

const (
	callTimeout  = 10 * time.Second
	partTimeout  = 10 * time.Minute // 16 MiB over a slow line
	partsKept    = 24 * time.Hour   // parts that no report names
	refreshEvery = 5 * time.Minute  // directory, certificate
)

// Node is one node. Open makes it, Run serves, Close frees what Open took.
type Node struct {
	pb.UnsafeNodeServiceServer

	config Config
	log    *slog.Logger
	id     *identity
	keys   *keyring
	store  *store
	lock   *os.File
	conn   *grpc.ClientConn
	hub    pb.HubServiceClient
	retry  time.Duration // first wait after a failure
	within time.Duration // time for one call to the hub
	silent time.Duration // how long the hub may say nothing over gRPC
	state  state
	ready  chan struct{}

	refusedReactions sync.Map // id of the queued receipt -> *rpc.Refusal

	pinned  sync.RWMutex                        // held while the directory is replaced and its keys are looked at
	signers atomic.Pointer[map[string][][]byte] // signing keys of each member

	arrived  signal // something came into the inbox
	settled  signal // something left the outbox or its queue of receipts
	outgoing signal // something waits for the hub
}

var _ pb.NodeServiceServer = (*Node)(nil)

// Open opens a node's directory: keys, store. It serves nothing. Only one
// process may have it open.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Node, error) {
	n := &Node{
		config: c, log: log, retry: 200 * time.Millisecond, within: callTimeout, silent: grpcSilence, ready: make(chan struct{}),
		arrived: newSignal(), settled: newSignal(), outgoing: newSignal(),
	}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) (err error) {
	if err := ca.CheckDir(n.config.Dir); err != nil {
		return err
	}
	if n.lock, err = lockDir(n.config.Dir); err != nil {
		return err
	}
	if n.id, err = openIdentity(n.config); err != nil {
		return err
	}
	if n.keys, err = openKeyring(n.id.dir, n.config.profile().Suite); err != nil {
		return err
	}
	if n.store, err = openStore(filepath.Join(n.config.Dir, "node.db")); err != nil {
		return err
	}
	if n.conn, err = rpc.DialHub(n.config.Hub, rpc.ClientTLS(n.id.root, n.id.cert.Load, n.config.profile().Groups...)); err != nil {
		return err
	}
	n.hub = pb.NewHubServiceClient(n.conn)
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return err
	}
	n.learnSigners(members)
	return nil
}

// Run serves until ctx ends. Every goroutine has ended when it returns. The
// hub need not be there: what is published waits in the outbox.
func (n *Node) Run(ctx context.Context) error {
	server, socket, err := rpc.LocalServer(Socket(n.config.Dir), n.log)
	if err != nil {
		return err
	}
	pb.RegisterNodeServiceServer(server, n)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(socket) })
	g.Go(func() error { return n.send(gctx) })
	for _, lane := range lanes {
		g.Go(func() error { return n.receive(gctx, lane) })
	}
	g.Go(func() error { return n.refresh(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		timer := time.AfterFunc(time.Second, server.Stop)
		defer timer.Stop()
		server.GracefulStop()
		return nil
	})
	close(n.ready)
	err = g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Ready is closed when the node serves its own people.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Close frees the directory. It is safe to call after Run, and alone.
func (n *Node) Close() error {
	var errs []error
	if n.conn != nil {
		errs = append(errs, n.conn.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// Socket is the Unix socket of the node in dir.
func Socket(dir string) string { return filepath.Join(dir, "node.sock") }

// refresh keeps the directory, the profile at the hub and the certificate up
// to date.
func (n *Node) refresh(ctx context.Context) error {
	wait := newBackoff(n.retry)
	for ctx.Err() == nil {
		if err := n.refreshOnce(ctx); err != nil {
			n.log.InfoContext(ctx, "hub not reached for refresh", "err", err)
			pause(ctx, wait.NextBackOff())
			continue
		}
		wait.Reset()
		pause(ctx, refreshEvery)
	}
	return nil
}

// refreshOnce does each of these whatever became of the others: a profile that
// the hub refuses must not let the certificate run out.
func (n *Node) refreshOnce(ctx context.Context) error {
	_, err := n.store.dropUnusedParts(ctx, time.Now().Add(-partsKept))
	return errors.Join(n.renewCertificate(ctx), n.fetchDirectory(ctx), n.sendProfile(ctx), n.tendKeys(ctx), err)
}

// renewCertificate gets a new certificate when half the life of the old one
// has gone.
func (n *Node) renewCertificate(ctx context.Context) error {
	if time.Now().Before(renewAt(n.id.cert.Load().Leaf)) {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	if err := n.id.renew(call, n.hub); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	n.log.InfoContext(ctx, "certificate renewed", "until", n.id.cert.Load().Leaf.NotAfter)
	return nil
}

// lockDir makes sure that one process has the node open.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "node.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &RunningError{Dir: dir}
	}
	return f, nil
}

// RunningError is a node that another process has open.
type RunningError struct{ Dir string }

func (e *RunningError) Error() string {
	return fmt.Sprintf("the node in %s is already running in another process", e.Dir)
}

// Japanese is the message for people.
func (e *RunningError) Japanese() string {
	return fmt.Sprintf("%s のノードは別のプロセスで動いています。", e.Dir)
}

// state is what the node knows of its link to the hub.
type state struct {
	mu     sync.Mutex
	open   map[pb.Lane]bool
	reason string
	denied *rpc.Refusal // the hub does not let this node in
}

// deny notes whether the hub lets this node in at all.
func (s *state) deny(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = nil
	if r, ok := rpc.RefusalOf(err); ok && r.Code == codes.Unauthenticated {
		s.denied = r
	}
}

func (s *state) refused() *rpc.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.denied
}

func (s *state) connected(lane pb.Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[pb.Lane]bool{}
	}
	s.open[lane], s.reason = true, ""
}

func (s *state) disconnected(lane pb.Lane, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, lane)
	s.reason = fmt.Sprint(err)
}

// now reports whether the sessions of all lanes are open, or why not.
func (s *state) now() (connected bool, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == len(lanes), s.reason
}

// signal wakes everybody who waits; the data itself comes from the store.
type signal struct {
	mu *sync.Mutex
	ch *chan struct{}
}

func newSignal() signal {
	ch := make(chan struct{})
	return signal{mu: new(sync.Mutex), ch: &ch}
}

// wait is closed at the next signal. Take it before looking into the store.
func (s signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.ch
}

func (s signal) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(*s.ch)
	*s.ch = make(chan struct{})
}

// newBackoff doubles its waits from the first to half a minute, with jitter so
// that nodes do not come back all at once.
func newBackoff(first time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = first, 2, 30*time.Second
	return b
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
