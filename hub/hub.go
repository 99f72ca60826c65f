// Package hub is the meeting point of a port: it takes reports from nodes,
// decides who may have each, writes report and decision into its journal, and
// delivers the copies. A report's way through it is one file a step: submit.go,
// check.go, plan.go, then deliver.go, session.go and nats.go.
//
// check and plan decide and are pure; everything else acts.
package hub

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"minato.example/internal/ca"
	"minato.example/internal/check"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// Hub is one hub. Open makes it, Run serves, Close frees what Open took.
type Hub struct {
	pb.UnsafeHubServiceServer
	pb.UnsafeAdminServiceServer

	config  Config
	limits  check.Limits
	log     *slog.Logger
	ca      *ca.CA
	key     ed25519.PrivateKey // signs receipts
	journal *journal.Journal
	writes  writer // the journal; tests put faults in between
	lanes   map[pb.Lane]*lane
	locks   keyLocks

	policyKey ed25519.PublicKey // verifies the port's policy

	profiles allowances                // how often members change theirs
	keys     allowances                // how often members publish one
	changing sync.Mutex                // one change of the directory at a time
	dir      atomic.Pointer[directory] // as the journal has it; read it through directory()
	cert     atomic.Pointer[tls.Certificate]

	fanout  *fanout         // nil without a NATS listener
	serving context.Context // set by Run: ends when the hub stops
	group   *errgroup.Group // set by Run: owns every goroutine
	addr    net.Addr
	ready   chan struct{}
}

var (
	_ pb.HubServiceServer   = (*Hub)(nil)
	_ pb.AdminServiceServer = (*Hub)(nil)
)

// writer is how the hub writes to its journal. An error of Append may mean that
// the record is there all the same; Durable returns nil only when everything
// acknowledged before the call is on disk.
type writer interface {
	Append(ctx context.Context, s journal.Stream, key string, data []byte) (position uint64, err error)
	Put(ctx context.Context, s journal.Stream, key string, data []byte) error
	Durable(ctx context.Context) error
}

// access is who may call what. A method without a row is refused.
var access = map[string]rpc.Access{
	pb.HubService_Join_FullMethodName:              rpc.Anyone,
	pb.HubService_RenewCertificate_FullMethodName:  rpc.Members,
	pb.HubService_UploadPart_FullMethodName:        rpc.Members,
	pb.HubService_SubmitReport_FullMethodName:      rpc.Members,
	pb.HubService_PlanReport_FullMethodName:        rpc.Members,
	pb.HubService_ExplainReport_FullMethodName:     rpc.Members,
	pb.HubService_InstructReport_FullMethodName:    rpc.Members,
	pb.HubService_SetKey_FullMethodName:            rpc.Members,
	pb.HubService_OpenSession_FullMethodName:       rpc.Members,
	pb.HubService_WatchDeliveries_FullMethodName:   rpc.Members,
	pb.HubService_DownloadPart_FullMethodName:      rpc.Members,
	pb.HubService_AcknowledgeReport_FullMethodName: rpc.Members,
	pb.HubService_ListReceipts_FullMethodName:      rpc.Members,
	pb.HubService_ListMembers_FullMethodName:       rpc.Members,
	pb.HubService_SetProfile_FullMethodName:        rpc.Members,
}

// Open opens a hub's directory: keys, journal, directory of members, index. It
// creates nothing and serves nothing. Only one process may have it open.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Hub, error) {
	h := &Hub{
		config: c, limits: check.Limits{Report: c.MaxReportBytes, Part: c.MaxPartBytes, Parts: c.MaxPartsBytes},
		log: log, lanes: newLanes(), locks: keyLocks{held: map[string]*keyLock{}}, ready: make(chan struct{}),
	}
	if err := h.openDir(); err != nil {
		return nil, err
	}
	if err := h.openJournal(ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// openDir reads the keys in the hub's directory.
func (h *Hub) openDir() (err error) {
	dir := h.config.Dir
	for _, d := range []string{dir, filepath.Join(dir, "keys"), filepath.Join(dir, "jetstream")} {
		if err := ca.CheckDir(d); err != nil {
			return err
		}
	}
	if h.ca, err = ca.Open(filepath.Join(dir, "ca")); err != nil {
		return err
	}
	seed, err := ca.ReadSecret(filepath.Join(dir, "keys", "hub.key"))
	if err != nil {
		return err
	}
	if len(seed) != ed25519.SeedSize {
		return fmt.Errorf("keys/hub.key has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	h.key = ed25519.NewKeyFromSeed(seed)
	if h.policyKey, err = readPolicyKey(filepath.Join(dir, "keys")); err != nil {
		return err
	}
	return h.renewOwn(time.Now())
}

func (h *Hub) openJournal(ctx context.Context) error {
	jc, err := journalConfig(h.config, h.log)
	if err != nil {
		return err
	}
	if h.config.NATS != "" {
		jc.Listen = &journal.Listen{
			Addr: h.config.NATS,
			TLS: rpc.ServerTLS(rpc.ServerConfig{
				CA: h.ca.Certificate(), Certificate: h.cert.Load, Admit: h.admit, RequireClient: true, Groups: h.config.groups(),
			}),
			Authorize: h.grant,
		}
	}
	if h.journal, err = journal.Open(ctx, jc); err != nil {
		if errors.Is(err, journal.ErrListen) {
			err = cmp.Or(canListen("nats", h.config.NATS), err)
		}
		return err
	}
	h.writes = h.journal
	if err := h.loadDirectory(ctx); err != nil {
		return fmt.Errorf("read directory of members: %w", err)
	}
	for _, l := range h.lanes {
		if err := h.rebuild(ctx, l); err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
	}
	return nil
}

func journalConfig(c Config, log *slog.Logger) (journal.Config, error) {
	key, err := ca.ReadSecret(filepath.Join(c.Dir, "keys", "journal.key"))
	if err != nil {
		return journal.Config{}, err
	}
	return journal.Config{Dir: filepath.Join(c.Dir, "jetstream"), Key: key, MaxBytes: c.MaxStoreBytes, Log: log}, nil
}

// Run serves until ctx ends or the journal fails. Every goroutine has ended
// when it returns.
func (h *Hub) Run(ctx context.Context) error {
	h.group, h.serving = errgroup.WithContext(ctx)
	listener, err := net.Listen("tcp", h.config.Listen)
	if err != nil {
		return &ListenError{Key: "listen", Addr: h.config.Listen, Err: err}
	}
	h.addr = listener.Addr()
	admin, socket, err := rpc.LocalServer(adminSocket(h.config.Dir), h.log)
	if err != nil {
		listener.Close()
		return err
	}
	if h.config.NATS != "" {
		if h.fanout, err = h.newFanout(); err != nil {
			listener.Close()
			socket.Close()
			return err
		}
		defer h.fanout.conn.Close()
	}
	server := rpc.NewServer(rpc.ServerOptions{
		TLS: rpc.ServerTLS(rpc.ServerConfig{CA: h.ca.Certificate(), Certificate: h.cert.Load, Admit: h.admit, Groups: h.config.groups()}),
		Log: h.log, Access: access, Admit: h.admit,
	})
	pb.RegisterHubServiceServer(server, h)
	pb.RegisterAdminServiceServer(admin, h)
	for _, l := range h.lanes {
		h.group.Go(func() error { return ended(h.serving, h.deliver(h.serving, l)) })
		h.group.Go(func() error { return h.record(h.serving, l) })
	}
	h.group.Go(func() error { return h.sweepParts(h.serving) })
	h.group.Go(func() error {
		for _, m := range h.world().active {
			if err := h.backlog(h.serving, m.GetId()); err != nil {
				h.log.WarnContext(h.serving, "backlog not complete", "member", m.GetId(), "err", err)
			}
		}
		return nil
	})
	h.group.Go(func() error { return h.watch(h.serving) })
	h.group.Go(func() error { return server.Serve(listener) })
	h.group.Go(func() error { return admin.Serve(socket) })
	h.group.Go(func() error {
		<-h.serving.Done()
		stop(server)
		stop(admin)
		return nil
	})
	close(h.ready)
	err = h.group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ended makes nothing of an error that only says that the hub stops.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stop lets running calls end, within two seconds.
func stop(s *grpc.Server) {
	timer := time.AfterFunc(2*time.Second, s.Stop)
	defer timer.Stop()
	s.GracefulStop()
}

// watch ends the hub when its journal has failed (a supervisor restarts it),
// and keeps the hub's own certificate fresh.
func (h *Hub) watch(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := h.journal.Healthy(); err != nil {
				return fmt.Errorf("journal failed: %w", err)
			}
			if err := h.renewOwn(now); err != nil {
				return err
			}
		}
	}
}

// renewOwn issues the hub's own certificate at start and at half its life.
func (h *Hub) renewOwn(now time.Time) error {
	if c := h.cert.Load(); c != nil && c.Leaf.NotAfter.Sub(now) > c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/2 {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := h.ca.IssueHub(&key.PublicKey, now)
	if err != nil {
		return fmt.Errorf("issue the hub's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	// The CA goes with it, so that a joining node can hold it against its token.
	h.cert.Store(&tls.Certificate{Certificate: [][]byte{der, h.ca.Certificate().Raw}, PrivateKey: key, Leaf: leaf})
	return nil
}

// Ready is closed when the hub serves.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Addr is the address of the gRPC listener, once ready.
func (h *Hub) Addr() string { return h.addr.String() }

// NATSAddr is the address of the NATS listener; empty when there is none.
func (h *Hub) NATSAddr() string {
	if h.config.NATS == "" {
		return ""
	}
	return h.journal.ListenAddr()
}

// natsAddress is what members are told.
func (h *Hub) natsAddress() string {
	if h.config.NATS == "" {
		return ""
	}
	return h.config.NATSAddress
}

// Close frees the directory. It is safe to call after Run, and alone.
func (h *Hub) Close() error {
	if h.journal == nil {
		return nil
	}
	return h.journal.Close()
}

// directory is who is at the port now; nil before it has been read.
func (h *Hub) directory() *directory {
	d := h.dir.Load()
	if d == nil {
		return nil
	}
	return d.at(time.Now())
}

// canListen finds out why the server beneath could not, whose words are not for
// people. It is not asked first: a second hub in one directory must hear of
// the first one, not of the address that both have.
func canListen(key, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return &ListenError{Key: key, Addr: addr, Err: err}
	}
	return l.Close()
}

// ListenError is an address that cannot be listened on.
type ListenError struct {
	Key  string // of hub.toml
	Addr string
	Err  error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s (%v). Another program may use the port: change `%s` in hub.toml, or stop it.", e.Addr, e.Err, e.Key)
}

// Japanese is the message for people.
func (e *ListenError) Japanese() string {
	return fmt.Sprintf("%s で待ち受けできません (%v)。ほかのプログラムが使っていれば止めるか、hub.toml の %s を変えてください。", e.Addr, e.Err, e.Key)
}

func (e *ListenError) Unwrap() error { return e.Err }
