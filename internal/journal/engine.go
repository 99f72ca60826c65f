package journal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	accountHub     = "HUB"     // JetStream; only the hub itself logs in
	accountMembers = "MEMBERS" // core NATS only
	userHub        = "hub"
	userEdge       = "edge"
	startWithin    = 60 * time.Second
)

// Listen is the members' door.
type Listen struct {
	// Addr is host:port; port 0 takes any.
	Addr string
	// TLS is mutual TLS 1.3.
	TLS *tls.Config
	// Authorize decides over a connection by its verified certificate.
	Authorize func(tls.ConnectionState) (Grant, bool)
}

// Grant is what one member's connection may do, by literal allow-lists.
type Grant struct {
	User               string
	Publish, Subscribe []string
	Deadline           time.Time // the connection ends then
}

// engine is the nats-server in this process.
type engine struct {
	server   *server.Server
	listen   *Listen
	password string // of this boot; only connections inside the process use it
	hub      *server.Account
	members  *server.Account

	mu    sync.Mutex
	users map[uint64]string // connection -> user, members only
}

// startEngine starts the server on the store in dir. It returns when streams
// are recovered and the server says that it is healthy.
func startEngine(c Config, syncAlways bool) (*engine, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	e := &engine{listen: c.Listen, password: hex.EncodeToString(secret), users: map[uint64]string{}}
	e.hub, e.members = server.NewAccount(accountHub), server.NewAccount(accountMembers)
	o := &server.Options{
		ServerName: "minato-hub", StoreDir: c.Dir, JetStream: true, NoSigs: true, NoLog: true,
		DisableJetStreamBanner: true, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: c.MaxBytes,
		JetStreamKey: hex.EncodeToString(c.Key), JetStreamCipher: server.AES, SyncAlways: syncAlways,
		MaxPayload: maxMessage, MaxControlLine: 4096, MaxConn: 10_000, MaxSubs: 64,
		PingInterval: 30 * time.Second, WriteDeadline: 5 * time.Second, AuthTimeout: 5,
		Accounts: []*server.Account{e.hub, e.members}, NoSystemAccount: true,
		CustomClientAuthentication: e, DontListen: c.Listen == nil,
	}
	if c.Listen != nil {
		host, port, err := net.SplitHostPort(c.Listen.Addr)
		if err != nil {
			return nil, fmt.Errorf("NATS address: %w", err)
		}
		if o.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("NATS address: %w", err)
		}
		if o.Port == 0 {
			o.Port = server.RANDOM_PORT
		}
		o.Host, o.TLSConfig, o.TLSHandshakeFirst, o.TLSTimeout = host, c.Listen.TLS, true, 5
		// The server ends the process when it cannot listen: find out before.
		probe, err := net.Listen("tcp", c.Listen.Addr)
		if err != nil {
			return nil, &ListenError{Addr: c.Listen.Addr, Err: err}
		}
		probe.Close()
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("configure NATS: %w", err)
	}
	s.SetLoggerV2(serverLog{c.Log}, false, false, false)
	e.server = s
	go s.Start()
	if !s.ReadyForConnections(startWithin) {
		e.stop()
		return nil, errors.New("NATS did not start; see the log")
	}
	if e.hub, err = s.LookupAccount(accountHub); err != nil {
		e.stop()
		return nil, err
	}
	if e.members, err = s.LookupAccount(accountMembers); err != nil {
		e.stop()
		return nil, err
	}
	if err := e.hub.EnableJetStream(nil, nil); err != nil {
		e.stop()
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return e, nil
}

// Check admits a connection: the hub's own by the password of this boot and
// only from inside the process, a member's by its certificate.
func (e *engine) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	if c.RemoteAddress() != nil && c.RemoteAddress().Network() == "pipe" {
		return e.checkOwn(c)
	}
	cs := c.GetTLSConnectionState()
	if cs == nil || e.listen == nil {
		return false
	}
	g, ok := e.listen.Authorize(*cs)
	if !ok {
		return false
	}
	c.RegisterUser(&server.User{
		Username: g.User, Account: e.members, ConnectionDeadline: g.Deadline,
		Permissions: allow(g.Publish, g.Subscribe),
	})
	e.remember(c.GetID(), g.User)
	return true
}

func (e *engine) checkOwn(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if subtle.ConstantTimeCompare([]byte(o.Password), []byte(e.password)) != 1 {
		return false
	}
	switch o.Username {
	case userHub:
		c.RegisterUser(&server.User{Username: userHub, Account: e.hub})
		return true
	case userEdge:
		c.RegisterUser(&server.User{Username: userEdge, Account: e.members, Permissions: allow([]string{"d.>", "_INBOX.>"}, []string{"hub.>"})})
		return true
	}
	return false
}

func allow(publish, subscribe []string) *server.Permissions {
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
}

// remember notes whose a connection is, and forgets those that have ended.
func (e *engine) remember(id uint64, user string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.users) > 2*e.server.NumClients()+64 {
		for id := range e.users {
			if e.server.GetClient(id) == nil {
				delete(e.users, id)
			}
		}
	}
	e.users[id] = user
}

// disconnect closes the connections of the users that match.
func (e *engine) disconnect(match func(user string) bool) (n int) {
	e.mu.Lock()
	var ids []uint64
	for id, user := range e.users {
		if match(user) {
			ids = append(ids, id)
			delete(e.users, id)
		}
	}
	e.mu.Unlock()
	for _, id := range ids {
		if e.server.DisconnectClientByID(id) == nil {
			n++
		}
	}
	return n
}

// connect is a connection inside the process.
func (e *engine) connect(user string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(e.server), nats.UserInfo(user, e.password),
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(10*time.Second))
}

func (e *engine) healthy() error {
	if h := e.server.Healthz(&server.HealthzOptions{}); h.Status != "ok" {
		return fmt.Errorf("NATS is not healthy: %s", h.Error)
	}
	return nil
}

func (e *engine) stop() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// serverLog passes the server's log on.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(f string, a ...any) { l.say(slog.LevelDebug, f, a) }
func (l serverLog) Warnf(f string, a ...any)   { l.say(slog.LevelWarn, f, a) }
func (l serverLog) Errorf(f string, a ...any)  { l.say(slog.LevelError, f, a) }
func (l serverLog) Fatalf(f string, a ...any)  { l.say(slog.LevelError, f, a) }
func (l serverLog) Debugf(string, ...any)      {}
func (l serverLog) Tracef(string, ...any)      {}

func (l serverLog) say(level slog.Level, f string, a []any) {
	l.log.Log(context.Background(), level, "nats server", "text", fmt.Sprintf(f, a...))
}

// ListenError is an address that cannot be listened on.
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s for NATS (%v). Another program may use the port: change `nats` in hub.toml, or stop it.", e.Addr, e.Err)
}

// Japanese is the message for people.
func (e *ListenError) Japanese() string {
	return fmt.Sprintf("NATS 用の %s で待ち受けできません (%v)。ほかのプログラムが使っていれば止めるか、hub.toml の nats を変えてください。", e.Addr, e.Err)
}

func (e *ListenError) Unwrap() error { return e.Err }
