package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// DialHub makes the node's connection to its hub; it connects at the first
// call and again after each loss, waiting at most 30 seconds between tries.
// tlsConfig is of ClientTLS. Refusals come back so that RefusalOf knows them.
func DialHub(addr string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, append(hubOptions(),
		grpc.WithTransportCredentials(patientCreds{credentials.NewTLS(tlsConfig)}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 30 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:                60 * time.Second,
			Timeout:             20 * time.Second,
			PermitWithoutStream: true,
		}),
	)...)
}

// patientCreds let the server say its first word before the client speaks. In
// TLS 1.3 a server refuses a client's certificate when the client has ended its
// own handshake already; what the client sent meanwhile can turn that refusal
// into a mere reset, and a revoked node would take it for a passing fault.
type patientCreds struct {
	credentials.TransportCredentials
}

func (c patientCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(dialTimeout)
	}
	begun := &begunConn{Conn: conn, first: make([]byte, 1)}
	err = conn.SetReadDeadline(deadline)
	if err == nil {
		_, err = io.ReadFull(conn, begun.first)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return begun, info, nil
}

func (c patientCreds) Clone() credentials.TransportCredentials {
	return patientCreds{c.TransportCredentials.Clone()}
}

// begunConn is a connection of which the first byte has been read.
type begunConn struct {
	net.Conn
	first []byte
}

func (c *begunConn) Read(p []byte) (int, error) {
	if len(c.first) == 0 || len(p) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

func hubOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxSend)),
		grpc.WithMaxHeaderListSize(64 << 10),
		grpc.WithStaticStreamWindowSize(maxSend),
		grpc.WithStaticConnWindowSize(2 * maxSend),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return explain(call(ctx, method, req, reply, cc, opts...))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, explain(err)
			}
			return &explainedStream{s}, nil
		}),
	}
}

type explainedStream struct{ grpc.ClientStream }

func (s *explainedStream) RecvMsg(m any) error { return explain(s.ClientStream.RecvMsg(m)) }

// explain turns the few answers that TLS and gRPC give in the hub's place into
// refusals that a person can act upon. Others pass as they are.
func explain(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	if _, ours := RefusalOf(err); ours {
		return err
	}
	switch {
	case tooLarge(st):
		return errTooLarge
	case st.Code() != codes.Unavailable:
	case certificateRefused(st.Message()):
		return errCertificateRefused
	case strings.Contains(st.Message(), "failed to verify certificate"):
		return errHubNotTrusted
	}
	return err
}

// certificateRefused knows the TLS alerts (RFC 8446, 6.2) by which a server
// refuses the client's certificate, in crypto/tls's words.
func certificateRefused(message string) bool {
	_, alert, ok := strings.Cut(message, "remote error: tls: ")
	if !ok {
		return false
	}
	for _, a := range []string{"bad certificate", "expired certificate", "revoked certificate", "unknown certificate", "unsupported certificate", "certificate required"} {
		if strings.HasPrefix(alert, a) {
			return true
		}
	}
	return false
}

var (
	errCertificateRefused = Refuse(codes.Unauthenticated, "CERTIFICATE_REFUSED", "",
		"ハブがこのノードの証明書を受け付けません。期限が切れたか、参加が取り消されています。時計を確かめ、正しければハブの管理者に新しい参加トークンを求めてください。",
		"The hub does not accept this node's certificate: it has expired, or the member has been revoked. Check the clock; if it is right, ask the hub's administrator for a new token.")
	errHubNotTrusted = Refuse(codes.Unavailable, "HUB_NOT_TRUSTED", "",
		"接続先は、このノードの港のハブではないか、証明書の期限が切れています。アドレスとこの端末の時計を確かめ、正しければハブの管理者に連絡してください。",
		"What answers is not the hub of this node's port, or its certificate has expired. Check the address and this machine's clock; if both are right, tell the hub's administrator.")
)

// dialTimeout bounds the connection of DialPinned, handshake included.
const dialTimeout = 10 * time.Second

// DialPinned makes the one connection of a join: TLS 1.3 to a hub whose chain
// ends at a CA with this pin. exporter connects, and gives the Exporter value
// of the very connection that the calls on conn will use; there is no second
// connection. A hub that is not reached or has another CA is a Refusal.
func DialPinned(addr string, pin [32]byte) (conn *grpc.ClientConn, exporter func(ctx context.Context) ([]byte, error), err error) {
	once := &onceCreds{TransportCredentials: credentials.NewTLS(pinnedTLS(pin))}
	conn, err = grpc.NewClient("passthrough:///"+addr, append(hubOptions(),
		grpc.WithTransportCredentials(once),
		grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
			if err != nil {
				once.failed(err)
			}
			return c, err
		}),
	)...)
	if err != nil {
		return nil, nil, err
	}
	exporter = func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn.Connect()
		for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
			if state == connectivity.TransientFailure || state == connectivity.Shutdown || once.ended() || !conn.WaitForStateChange(ctx, state) {
				return nil, once.refusal(addr)
			}
		}
		return once.exporter()
	}
	return conn, exporter, nil
}

// onceCreds does one handshake and keeps its state.
type onceCreds struct {
	credentials.TransportCredentials

	mu    sync.Mutex
	used  bool
	state *tls.ConnectionState
	err   error
}

func (c *onceCreds) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c.mu.Lock()
	used := c.used
	c.used = true
	c.mu.Unlock()
	if used {
		raw.Close()
		return nil, nil, errors.New("the connection of this join has ended")
	}
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		c.failed(err)
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := info.(credentials.TLSInfo); ok {
		c.state = &t.State
	}
	return conn, info, nil
}

// Clone keeps the state shared: gRPC clones the credentials that it is given.
func (c *onceCreds) Clone() credentials.TransportCredentials { return c }

func (c *onceCreds) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *onceCreds) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

func (c *onceCreds) exporter() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		return nil, errors.New("no TLS connection")
	}
	return c.state.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
}

func (c *onceCreds) refusal(addr string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil && (errors.Is(c.err, errPin) || strings.Contains(c.err.Error(), "x509: ")) {
		return errors.Join(Refuse(codes.Unauthenticated, "PIN_MISMATCH", "token",
			fmt.Sprintf("%s で応答したのは、参加トークンを発行したハブではありません。参加してはいけません。ハブの管理者に電話で確かめてください。", addr),
			fmt.Sprintf("What answers at %s is not the hub that issued the token. Do not join. Ask the hub's administrator by telephone.", addr)), c.err)
	}
	return errors.Join(Refuse(codes.Unavailable, "HUB_NOT_REACHED", "token",
		fmt.Sprintf("ハブ (%s) につながりません。ネットワークとファイアウォールを確かめて、同じ参加トークンでやり直してください。", addr),
		fmt.Sprintf("The hub at %s cannot be reached. Check network and firewall, then try again with the same token.", addr)), c.err)
}
