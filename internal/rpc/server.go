package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"minato.example/internal/ca"
)

// Limits of the hub's door.
const (
	maxReceive       = 2 << 20  // bytes of one message, decompressed
	maxSend          = 4 << 20  // bytes
	maxHeaders       = 16 << 10 // bytes
	maxStreams       = 100      // calls at a time on one connection
	maxStrangers     = 32       // calls without certificate at a time, on all connections
	maxMember        = 300      // calls of one member at a time, on all its connections
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
	unaryDeadline    = 10 * time.Second
	// A transfer of at most 16 MiB ends within this time on a line of 10 KB/s.
	transferDeadline = 30 * time.Minute
)

// Access says who may call a method.
type Access uint8

const (
	// Members may call it: nodes with a certificate that Admit lets in. The
	// zero value is the strict one.
	Members Access = iota
	// Anyone may call it, without a certificate too.
	Anyone
)

// ServerOptions is what the hub's gRPC server needs. TLS and Access are
// required.
type ServerOptions struct {
	// TLS of ServerTLS.
	TLS *tls.Config
	// Log gets what fails, never content. Nil drops it.
	Log *slog.Logger
	// Access has a row for each method, by full name. A method without a row
	// is refused, registered or not.
	Access map[string]Access
	// Admit refuses a peer before each call and again before its handler, so
	// that revocation bites on open connections. It runs in the connection's
	// reader and must not block. A Refusal is told as it is, any other error as
	// NOT_ADMITTED. Nil admits all.
	Admit func(ca.Peer) error
	// UnaryDeadline bounds a unary call from its headers to its answer. Zero
	// means 10 seconds.
	UnaryDeadline time.Duration
}

// NewServer makes the hub's gRPC server with its limits. The order of checks:
// method, identity and admission before the body is read, then panic guard,
// identity, method, admission, handler, and what may leave of its error. A
// stream in both directions has no deadline: ending it is its session's
// business. Streams in one direction end after 30 minutes.
func NewServer(o ServerOptions) *grpc.Server {
	d := &door{
		log:     logger(o.Log),
		access:  o.Access,
		admit:   o.Admit,
		unary:   o.UnaryDeadline,
		members: map[string]int{},
	}
	if d.unary == 0 {
		d.unary = unaryDeadline
	}
	d.server = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(o.TLS)),
		grpc.InTapHandle(d.tap),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(d.callUnary),
		grpc.StreamInterceptor(d.callStream),
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.MaxSendMsgSize(maxSend),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.ReadBufferSize(4<<10),
		grpc.WriteBufferSize(4<<10),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     15 * time.Minute,
			MaxConnectionAge:      time.Hour, // gRPC adds a jitter of 10 %
			MaxConnectionAgeGrace: 30 * time.Second,
			Time:                  60 * time.Second,
			Timeout:               20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             30 * time.Second,
			PermitWithoutStream: true,
		}),
	)
	return d.server
}

// door checks who calls what. Nothing in it changes after Serve but strangers.
type door struct {
	server *grpc.Server
	log    *slog.Logger
	access map[string]Access
	admit  func(ca.Peer) error
	unary  time.Duration

	// deadlines is filled at the first call: registration has ended by then.
	deadlines     map[string]time.Duration
	deadlinesOnce sync.Once

	strangers atomic.Int32 // calls without certificate that run now

	mu      sync.Mutex
	members map[string]int // calls of each member that run now
}

// enterMember counts a call of a member until ctx ends.
func (d *door) enterMember(ctx context.Context, member string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.members[member] >= maxMember {
		return errBusy.GRPCStatus().Err()
	}
	d.members[member]++
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.members[member]--; d.members[member] == 0 {
			delete(d.members, member)
		}
	})
	return nil
}

// tap runs when the headers of a call have come and before its body is read,
// in the reader of the connection. The interceptors of a unary call run only
// when the whole message is there, so a body that never ends must be cut here.
func (d *door) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	ctx, err := d.enter(ctx, info.FullMethodName)
	if err != nil {
		return nil, Outside(err)
	}
	if p, known := PeerFrom(ctx); known {
		if err := d.enterMember(ctx, p.Member); err != nil {
			return nil, err
		}
	} else {
		if d.strangers.Add(1) > maxStrangers {
			d.strangers.Add(-1)
			return nil, errBusy.GRPCStatus().Err()
		}
		context.AfterFunc(ctx, func() { d.strangers.Add(-1) })
	}
	if limit := d.deadline(info.FullMethodName); limit > 0 {
		bounded, cancel := context.WithTimeout(ctx, limit)
		context.AfterFunc(ctx, cancel) // the call's own context ends with the call
		ctx = bounded
	}
	return ctx, nil
}

// enter checks method, identity and admission, and puts the identity into the
// context.
func (d *door) enter(ctx context.Context, method string) (context.Context, error) {
	access, ok := d.access[method]
	if !ok {
		return nil, errNoMethod
	}
	p, known, err := identify(ctx)
	if err != nil {
		return nil, errNoCertificate
	}
	if known {
		ctx = ContextWithPeer(ctx, p)
	}
	if access == Anyone {
		return ctx, nil
	}
	if !known {
		return nil, errNoCertificate
	}
	// The handshake checked it, but a connection lives on.
	if time.Now().After(p.NotAfter) {
		return nil, errCertificateExpired
	}
	if d.admit != nil {
		if err := d.admit(p); err != nil {
			if _, ok := RefusalOf(err); ok {
				return nil, err
			}
			return nil, errors.Join(errNotAdmitted, err)
		}
	}
	return ctx, nil
}

func (d *door) deadline(method string) time.Duration {
	d.deadlinesOnce.Do(func() {
		d.deadlines = make(map[string]time.Duration)
		for service, info := range d.server.GetServiceInfo() {
			for _, m := range info.Methods {
				switch name := "/" + service + "/" + m.Name; {
				case m.IsClientStream && m.IsServerStream:
				case m.IsClientStream || m.IsServerStream:
					d.deadlines[name] = transferDeadline
				default:
					d.deadlines[name] = d.unary
				}
			}
		}
	})
	return d.deadlines[method]
}

func (d *door) callUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, panicked(ctx, d.log, info.FullMethod, v)
		}
	}()
	ctx, err = d.enter(ctx, info.FullMethod)
	if err == nil {
		resp, err = handler(ctx, req)
	}
	if err != nil {
		return nil, finish(ctx, d.log, info.FullMethod, err)
	}
	return resp, nil
}

func (d *door) callStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = panicked(ss.Context(), d.log, info.FullMethod, v)
		}
	}()
	ctx, err := d.enter(ss.Context(), info.FullMethod)
	if err == nil {
		err = handler(srv, &streamWith{ServerStream: ss, ctx: ctx})
	}
	return finish(ss.Context(), d.log, info.FullMethod, err)
}

// streamWith is a stream with the context of its peer.
type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWith) Context() context.Context { return s.ctx }

// finish logs once, in full, what the caller will not be told, and returns
// what it will.
func finish(ctx context.Context, log *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	out := Outside(err)
	r, refused := RefusalOf(out)
	switch cause := beside(err); {
	case refused && cause == nil:
		log.InfoContext(ctx, "call refused", "method", method, "reason", r.Reason)
	case refused:
		log.ErrorContext(ctx, "call refused after a failure", "method", method, "reason", r.Reason, "err", cause)
	case ctx.Err() != nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		log.DebugContext(ctx, "call ended by its context", "method", method, "err", err)
	default:
		log.ErrorContext(ctx, "call failed", "method", method, "err", err)
	}
	return out
}

// beside is the part of err that is no refusal: the cause that errors.Join
// put beside one. The refusal's own text stays out of the log, for it may
// quote what was sent.
func beside(err error) error {
	_, refusal := err.(interface{ GRPCStatus() *status.Status })
	joined, ok := err.(interface{ Unwrap() []error })
	if refusal || !ok {
		if _, refused := RefusalOf(err); refused {
			return nil
		}
		return err
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		rest = append(rest, beside(e))
	}
	return errors.Join(rest...)
}

// panicked logs a panic without its value, which may hold content; only the
// runtime's own errors speak of types and indices alone.
func panicked(ctx context.Context, log *slog.Logger, method string, v any) error {
	what := fmt.Sprintf("%T", v)
	if e, ok := v.(runtime.Error); ok {
		what = e.Error()
	}
	log.ErrorContext(ctx, "call panicked", "method", method, "err", what, "stack", string(debug.Stack()))
	return Outside(errors.New("panic"))
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

var (
	errNoMethod = Refuse(codes.Unimplemented, "METHOD_UNKNOWN", "",
		"相手はこの機能を提供していません。両方の minato の版を確かめてください: minato version",
		"The other side does not offer this. Compare the versions of minato on both sides: minato version")
	errNoCertificate = Refuse(codes.Unauthenticated, "CERTIFICATE_MISSING", "",
		"このノードはまだ参加していません。ハブの管理者から参加トークンを受け取り、実行してください: minato node join TOKEN",
		"This node has not joined. Get a token from the hub's administrator and type: minato node join TOKEN")
	errCertificateExpired = Refuse(codes.Unauthenticated, "CERTIFICATE_EXPIRED", "",
		"このノードの証明書の期限が切れました。時計を確かめ、正しければハブの管理者に新しい参加トークンを求めてください。",
		"This node's certificate has expired. Check the clock; if it is right, ask the hub's administrator for a new token.")
	errNotAdmitted = Refuse(codes.Unauthenticated, "NOT_ADMITTED", "",
		"このノードの参加は認められていないか、取り消されています。ハブの管理者に連絡してください。",
		"This node is not admitted or has been revoked. Ask the hub's administrator.")
	errBusy = Refuse(codes.Unavailable, "HUB_BUSY", "",
		"ハブが混み合っています。1分ほど待ってやり直してください。",
		"The hub is busy. Wait a minute and try again.")
)
