package hub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/ca"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// This is the one file of the hub that knows NATS subjects:
//
//	d.<member>.<session>            hub to node, sealed SessionMessage
//	hub.<member>.receipt.<session>  node to hub, sealed Envelope of a DeliveryReceipt,
//	                                empty every heartbeat: the node is there
//
// A member may publish below hub.<member> and subscribe below d.<member>,
// nothing else. The hub never answers a message, so no reply subject can be
// turned against it.

const receiptSubjects = "hub.*.receipt.*"

func deliverySubject(member, session string) string { return "d." + member + "." + session }

// grant is what a member may do on NATS, by its certificate.
func (h *Hub) grant(cs tls.ConnectionState) (journal.Grant, bool) {
	if len(cs.PeerCertificates) == 0 {
		return journal.Grant{}, false
	}
	p, err := ca.PeerOf(cs.PeerCertificates[0])
	if err != nil || h.admit(p) != nil {
		return journal.Grant{}, false
	}
	return journal.Grant{
		User:      nodeID{p.Member, p.Node}.String(),
		Publish:   []string{"hub." + p.Member + ".>"},
		Subscribe: []string{"d." + p.Member + ".>", "_INBOX." + p.Member + ".>"},
		Deadline:  p.NotAfter,
	}, true
}

// fanout carries sessions over NATS.
type fanout struct {
	conn *nats.Conn

	mu       sync.RWMutex
	sessions map[string]*natsPipe // by session id
}

// natsPipe seals a session's messages for one node and publishes them.
type natsPipe struct {
	conn    *nats.Conn
	subject string
	id      string
	key     []byte
	session *session
	heard   atomic.Int64 // Unix nanoseconds of the node's last word
}

func (p *natsPipe) Send(_ context.Context, m *pb.SessionMessage) error {
	plain, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	sealed, err := seal.SealMessage(p.key, p.id, seal.ToNode, plain)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(&pb.SealedMessage{SessionId: p.id, Ciphertext: sealed})
	if err != nil {
		return err
	}
	return p.conn.Publish(p.subject, data)
}

// Silence is how long the node has not said anything: NATS does not tell when
// it has gone.
func (p *natsPipe) Silence() time.Duration { return time.Since(time.Unix(0, p.heard.Load())) }

// newFanout listens for receipts on the members' side of NATS.
func (h *Hub) newFanout() (*fanout, error) {
	conn, err := h.journal.Edge()
	if err != nil {
		return nil, fmt.Errorf("connect to members' NATS: %w", err)
	}
	f := &fanout{conn: conn, sessions: map[string]*natsPipe{}}
	sub, err := conn.Subscribe(receiptSubjects, f.receive)
	if err == nil {
		err = sub.SetPendingLimits(1<<20, -1) // messages are small, or dropped unread
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("subscribe to receipts: %w", err)
	}
	return f, conn.Flush()
}

// add makes the session reachable by its id; ids are never shared.
func (f *fanout) add(p *natsPipe) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.sessions[p.id]; taken {
		return false
	}
	f.sessions[p.id] = p
	return true
}

// receive hands a receipt to the session it names, if the subject is that of
// the session's own member and the seal opens.
func (f *fanout) receive(m *nats.Msg) {
	words := strings.Split(m.Subject, ".")
	if len(words) != 4 || len(m.Data) > 2*maxReceipt {
		return
	}
	f.mu.RLock()
	p := f.sessions[words[3]]
	f.mu.RUnlock()
	if p == nil || p.session.node.member != words[1] {
		return
	}
	sealed, env := new(pb.SealedMessage), new(pb.Envelope)
	if proto.Unmarshal(m.Data, sealed) != nil || sealed.GetSessionId() != p.id {
		return
	}
	plain, err := seal.OpenMessage(p.key, p.id, seal.ToHub, sealed.GetCiphertext())
	if err != nil || proto.Unmarshal(plain, env) != nil {
		return
	}
	p.heard.Store(time.Now().UnixNano())
	if len(env.GetPayload()) == 0 {
		return // it only says that it is there
	}
	select {
	case p.session.receipts <- env:
	default: // more receipts than deliveries: no node of ours does that
		p.session.cancel(errFlood)
	}
}

// OpenSession opens the calling node's session over NATS. The key of the
// session travels in this answer, over the caller's own TLS 1.3 connection, and
// is never used again: a permission bug in the broker shows sealed bytes only.
func (h *Hub) OpenSession(ctx context.Context, req *pb.OpenSessionRequest) (*pb.OpenSessionResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	l, err := h.lane(req.GetLane())
	if err != nil {
		return nil, err
	}
	if h.fanout == nil {
		return nil, rpc.Refuse(codes.FailedPrecondition, "NATS_NOT_OFFERED", "transport",
			"このハブは NATS を開いていません。node.toml に transport = \"grpc\" と書いてください。",
			"This hub has no NATS listener. Set transport = \"grpc\" in node.toml.")
	}
	if id, err := hex.DecodeString(req.GetSessionId()); err != nil || len(id) != 16 {
		return nil, refusal([]rpc.Violation{violation("session_id", "ID_INVALID",
			"session_id は小文字16進数32桁です。", "session_id must be 32 lower-case hexadecimal digits.")})
	}
	p := &natsPipe{conn: h.fanout.conn, id: req.GetSessionId(), key: make([]byte, 32)}
	rand.Read(p.key)
	p.heard.Store(time.Now().UnixNano())
	p.subject = deliverySubject(from.id.member, p.id)
	s, sctx := newSession(h.serving, l, from.id, p)
	p.session = s
	if !h.fanout.add(p) {
		return nil, refusal([]rpc.Violation{violation("session_id", "ID_REUSED",
			"session_id が使用中です。新しいものを選んでください。", "This session_id is in use. Choose a fresh one.")})
	}
	l.register(s) // before the answer, so that sessions follow each other in order
	h.group.Go(func() error {
		defer func() {
			h.fanout.mu.Lock()
			delete(h.fanout.sessions, p.id)
			h.fanout.mu.Unlock()
		}()
		h.run(sctx, s)
		return nil
	})
	return &pb.OpenSessionResponse{Key: p.key, HeartbeatMillis: uint32(heartbeatEvery.Milliseconds())}, nil
}

// grpcPipe is a session's way to a node that cannot open NATS.
type grpcPipe struct {
	stream pb.HubService_WatchDeliveriesServer
}

func (p grpcPipe) Send(_ context.Context, m *pb.SessionMessage) error {
	return p.stream.Send(&pb.WatchDeliveriesResponse{Message: m})
}

// Silence is none: the stream ends when the node has gone.
func (grpcPipe) Silence() time.Duration { return 0 }

// WatchDeliveries is the session over gRPC. When it returns, a Send that
// blocks returns too.
func (h *Hub) WatchDeliveries(stream pb.HubService_WatchDeliveriesServer) error {
	from, err := h.sender(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetOpen() == nil {
		return rpc.Refuse(codes.InvalidArgument, "OPEN_MISSING", "open",
			"最初のメッセージは open でなければなりません。", "The first message must be open.")
	}
	l, err := h.lane(first.GetOpen().GetLane())
	if err != nil {
		return err
	}
	s, ctx := newSession(stream.Context(), l, from.id, grpcPipe{stream})
	l.register(s)
	ended := make(chan error, 1)
	h.group.Go(func() error {
		ended <- h.run(ctx, s)
		return nil
	})
	go func() {
		for {
			in, err := stream.Recv()
			if err != nil {
				s.cancel(err)
				return
			}
			if in.GetReceipt() == nil {
				continue
			}
			select {
			case s.receipts <- in.GetReceipt():
			case <-ctx.Done():
				return
			}
		}
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-h.serving.Done():
		err = h.serving.Err()
	}
	if errors.Is(err, errRevoked) {
		return notEnrolled()
	}
	return rpc.Refuse(codes.Unavailable, "SESSION_ENDED", "",
		"配信の接続が終わりました。自動でつなぎ直します。", "The session has ended. The node opens it again by itself.")
}
