// Package porttest runs a whole port in one process: a hub and the nodes of its
// members, with real certificates, sockets, NATS and files. The tests and
// `minato demo` use it; nothing else knows both hub and node.
package porttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"minato.example/hub"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

// Member is one organisation of the port to be.
type Member struct {
	ID, Name    string
	Role        pb.Role
	Communities []string
	Profile     *pb.Profile
	// GRPC receives over gRPC instead of NATS.
	GRPC bool
}

// Port is a running port. Its directory holds the hub's in hub/ and each
// member's node in its id.
type Port struct {
	Dir string
	Log *slog.Logger

	mu    sync.Mutex
	hub   *running
	nodes map[string]*running
	conns map[string]*grpc.ClientConn
	grpc  map[string]bool // members that receive over gRPC
}

// running is a daemon with what ends it.
type running struct {
	hub    *hub.Hub
	cancel context.CancelFunc
	done   chan error
}

// Start makes a port of the members in dir and runs it. Each member has joined
// and has its profile when Start returns.
func Start(ctx context.Context, dir, port string, members []Member, log *slog.Logger) (*Port, error) {
	p := &Port{Dir: dir, Log: log, nodes: map[string]*running{}, conns: map[string]*grpc.ClientConn{}, grpc: map[string]bool{}}
	addr, nats, err := freeAddresses()
	if err != nil {
		return nil, err
	}
	if err := hub.Init(ctx, hub.InitOptions{Dir: p.HubDir(), Port: port, Listen: addr, NATS: nats}); err != nil {
		return nil, err
	}
	if err := p.StartHub(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, m := range members {
		g.Go(func() error { return p.Join(gctx, m) })
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// freeAddresses are two loopback addresses that nobody listens on now. They
// are fixed before the hub starts, since tokens and node.toml carry them over
// restarts, and lie below the ports that outgoing connections are given, so
// that none of those takes them meanwhile.
func freeAddresses() (string, string, error) {
	var free []string
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err != nil {
			continue
		}
		defer l.Close()
		if free = append(free, l.Addr().String()); len(free) == 2 {
			return free[0], free[1], nil
		}
	}
	return "", "", errors.New("no free port from 20000 to 30000 on 127.0.0.1")
}

// HubDir is the hub's directory.
func (p *Port) HubDir() string { return filepath.Join(p.Dir, "hub") }

// NodeDir is the directory of a member's node.
func (p *Port) NodeDir(member string) string { return filepath.Join(p.Dir, member) }

// StartHub runs the hub.
func (p *Port) StartHub(ctx context.Context) error {
	c, err := hub.ReadConfig(filepath.Join(p.HubDir(), "hub.toml"))
	if err != nil {
		return err
	}
	h, err := hub.Open(ctx, c, p.Log.With("daemon", "hub"))
	if err != nil {
		return err
	}
	r, err := start(h.Run, h.Close, h.Ready())
	if err != nil {
		return err
	}
	r.hub = h
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hub = r
	return nil
}

// start runs a daemon until it is ready.
func start(run func(context.Context) error, closing func() error, ready <-chan struct{}) (*running, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- errors.Join(run(ctx), closing()) }()
	select {
	case <-ready:
		return r, nil
	case err := <-r.done:
		cancel()
		return nil, err
	}
}

func (r *running) stop() error {
	r.cancel()
	return <-r.done
}

// StopHub ends the hub; nodes keep what they publish.
func (p *Port) StopHub() error {
	p.mu.Lock()
	r := p.hub
	p.hub = nil
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.stop()
}

// Hub is the running hub.
func (p *Port) Hub() *hub.Hub {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hub.hub
}

// Join invites a member, joins its node and starts it.
func (p *Port) Join(ctx context.Context, m Member) error {
	tok, err := p.Hub().Invite(ctx, &pb.InviteRequest{
		Member: m.ID, Name: m.Name, Role: m.Role, Communities: m.Communities, Ttl: durationpb.New(time.Hour),
	})
	if err != nil {
		return fmt.Errorf("invite %s: %w", m.ID, err)
	}
	dir := p.NodeDir(m.ID)
	if _, err := node.Join(ctx, node.JoinOptions{Token: tok.GetToken(), Dir: dir}); err != nil {
		return fmt.Errorf("join %s: %w", m.ID, err)
	}
	p.mu.Lock()
	p.grpc[m.ID] = m.GRPC
	p.mu.Unlock()
	if err := p.StartNode(ctx, m.ID); err != nil {
		return fmt.Errorf("start %s: %w", m.ID, err)
	}
	if m.Profile == nil {
		return nil
	}
	if _, err = p.Node(m.ID).UpdateProfile(ctx, &pb.UpdateProfileRequest{Profile: m.Profile}); err != nil {
		return err
	}
	for _, person := range m.Profile.GetPersons() {
		if err := p.giveKey(ctx, m.ID, person.GetId()); err != nil {
			return fmt.Errorf("key of %s/%s: %w", m.ID, person.GetId(), err)
		}
	}
	return nil
}

// giveKey makes the key of a person, which the node keeps.
func (p *Port) giveKey(ctx context.Context, member, person string) error {
	key, err := seal.GenerateKey(seal.MLKEM768P256)
	if err != nil {
		return err
	}
	private, err := key.Bytes()
	if err != nil {
		return err
	}
	_, err = p.Node(member).SetPersonKey(ctx, &pb.SetPersonKeyRequest{
		Person: person, Suite: key.Suite(), PublicKey: key.Public().Bytes(), PrivateKey: private,
	})
	return err
}

// StartNode runs a member's node.
func (p *Port) StartNode(ctx context.Context, member string) error {
	c, err := node.ReadConfig(filepath.Join(p.NodeDir(member), "node.toml"))
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.grpc[member] {
		c.Transport = node.GRPC
	}
	p.mu.Unlock()
	n, err := node.Open(ctx, c, p.Log.With("daemon", member))
	if err != nil {
		return err
	}
	r, err := start(n.Run, n.Close, n.Ready())
	if err != nil {
		return err
	}
	conn, err := rpc.DialLocal(node.Socket(p.NodeDir(member)))
	if err != nil {
		return errors.Join(err, r.stop())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[member], p.conns[member] = r, conn
	return nil
}

// StopNode ends a member's node.
func (p *Port) StopNode(member string) error {
	p.mu.Lock()
	r, conn := p.nodes[member], p.conns[member]
	delete(p.nodes, member)
	delete(p.conns, member)
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	return errors.Join(conn.Close(), r.stop())
}

// Node is the way to a member's running node.
func (p *Port) Node(member string) pb.NodeServiceClient {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pb.NewNodeServiceClient(p.conns[member])
}

// Connected waits until a member's node has its sessions open.
func (p *Port) Connected(ctx context.Context, member string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := p.Node(member).GetStatus(ctx, &pb.GetStatusRequest{})
		if err == nil && s.GetConnected() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not connected: %s: %w", member, s.GetDisconnectReason(), ctx.Err())
		case <-tick.C:
		}
	}
}

// Stop ends every node, then the hub.
func (p *Port) Stop() error {
	p.mu.Lock()
	var members []string
	for m := range p.nodes {
		members = append(members, m)
	}
	p.mu.Unlock()
	var g errgroup.Group
	for _, m := range members {
		g.Go(func() error { return p.StopNode(m) })
	}
	return errors.Join(g.Wait(), p.StopHub())
}
