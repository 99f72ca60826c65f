package journal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	hubAccount     = "HUB"     // has JetStream; only this process logs in
	membersAccount = "MEMBERS" // core NATS only

	hubUser  = "hub"
	edgeUser = "edge"

	maxPayload = 2 << 20
)

// embedded is the NATS server in this process.
type embedded struct {
	srv      *server.Server
	log      *slog.Logger
	password string // of this process's own connections; new at every start
	hub      *server.Account
	members  *server.Account

	authorize func(tls.ConnectionState) (Grant, bool)
	opened    atomic.Bool // members may log in

	fatal chan string // first fatal message

	// logins is held for reading while a member logs in, so that Disconnect
	// finds every connection that was authorized before it.
	logins sync.RWMutex
	mu     sync.Mutex
	users  map[uint64]string // connection id -> Grant.User
	pruned int               // size of users after the last pruning

	conns []*nats.Conn // of Edge; under mu
}

// startServer starts a server on dir and returns when its store is read.
func startServer(ctx context.Context, cfg Config, dir string, limit int64) (*embedded, error) {
	e := &embedded{
		log:      cfg.Log,
		password: rand.Text(),
		hub:      server.NewAccount(hubAccount),
		members:  server.NewAccount(membersAccount),
		fatal:    make(chan string, 1),
		users:    make(map[uint64]string),
	}
	opts := &server.Options{
		ServerName:                 "minato",
		StoreDir:                   dir,
		JetStream:                  true,
		JetStreamMaxMemory:         64 << 20,
		JetStreamMaxStore:          limit,
		JetStreamKey:               storeKey(cfg.Key),
		JetStreamCipher:            server.AES,
		SyncAlways:                 syncAlways,
		DisableJetStreamBanner:     true,
		Accounts:                   []*server.Account{e.hub, e.members},
		CustomClientAuthentication: e,
		NoSigs:                     true,
		DontListen:                 true,
		MaxConn:                    8192,
		MaxSubs:                    64,
		MaxPayload:                 maxPayload,
		MaxControlLine:             4096,
		PingInterval:               30 * time.Second,
		WriteDeadline:              5 * time.Second,
		MaxPending:                 8 << 20,
		AuthTimeout:                5,
	}
	if l := cfg.Listen; l != nil {
		if err := door(opts, l); err != nil {
			return nil, err
		}
		e.authorize = l.Authorize
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("set up the embedded server: %w", err)
	}
	e.srv = srv
	srv.SetLoggerV2((*serverLog)(e), false, false, false)
	go srv.Start()
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		select {
		case why := <-e.fatal:
			e.stop()
			err := fmt.Errorf("start the embedded server: %s", why)
			if l := cfg.Listen; l != nil && strings.Contains(why, "listening on port") {
				return nil, &Fault{
					Kind:         ErrListen,
					English:      fmt.Sprintf("cannot listen for members' NATS on %s; free the address or choose another", l.Addr),
					JapaneseText: fmt.Sprintf("%s で NATS の接続を待ち受けできません。使用中のプログラムを止めるか、別のアドレスを指定してください", l.Addr),
					Err:          err,
				}
			}
			return nil, err
		case <-ctx.Done():
			e.stop()
			return nil, fmt.Errorf("start the embedded server: %w", ctx.Err())
		default:
		}
	}
	// Server.Start knows the accounts now; reading the streams is done here.
	if e.hub, err = srv.LookupAccount(hubAccount); err == nil {
		if e.members, err = srv.LookupAccount(membersAccount); err == nil {
			err = e.hub.EnableJetStream(nil, nil)
		}
	}
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("start the store: %w", err)
	}
	return e, nil
}

// door makes the server listen for members.
func door(opts *server.Options, l *Listen) error {
	host, port, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return fmt.Errorf("journal: listen address %q: %w", l.Addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("journal: listen address %q: %w", l.Addr, err)
	}
	opts.DontListen = false
	opts.Host, opts.Port = host, int(n)
	if n == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if host == "" {
		opts.Host = server.DEFAULT_HOST
	}
	c := l.TLS.Clone()
	c.MinVersion = tls.VersionTLS13
	c.ClientAuth = tls.RequireAndVerifyClientCert
	opts.TLS = true
	opts.TLSConfig = c
	opts.TLSTimeout = 5
	opts.TLSHandshakeFirst = true
	return nil
}

// open lets members log in.
func (e *embedded) open() { e.opened.Store(true) }

// healthy asks the server about its store. Before that the server asks itself
// within 1 ms whether it has started, and on a busy machine it may miss its own
// answer: that says nothing and is asked again.
func (e *embedded) healthy() error {
	for end := time.Now().Add(answerTimeout); ; {
		h := e.srv.Healthz(&server.HealthzOptions{})
		if h.Status == "ok" {
			return nil
		}
		if !strings.Contains(h.Error, "failed to be ready for connections") || time.Now().After(end) {
			return errors.New(h.Status + ": " + h.Error)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (e *embedded) stop() {
	e.opened.Store(false)
	e.mu.Lock()
	conns := e.conns
	e.conns = nil
	e.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
	e.srv.Shutdown()
	e.srv.WaitForShutdown()
}

// connect logs this process in without a socket.
func (e *embedded) connect(user string) (*nats.Conn, error) {
	nc, err := nats.Connect("",
		nats.InProcessServer(e.srv),
		nats.UserInfo(user, e.password),
		nats.Name(user),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(0, 0),
		nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			e.log.Warn("journal connection", "err", err)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded server: %w", err)
	}
	return nc, nil
}

// Check says who a connection is. It is the server's authenticator.
//
// The hub's own users exist only inside this process: a password that leaked
// opens nothing from outside. A member is its certificate and nothing else;
// a name or password that it sends is not looked at.
func (e *embedded) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	if inProcess(c) {
		o := c.GetOpts()
		if subtle.ConstantTimeCompare([]byte(o.Password), []byte(e.password)) != 1 {
			return false
		}
		switch o.Username {
		case hubUser:
			c.RegisterUser(&server.User{Username: hubUser, Account: e.hub})
			return true
		case edgeUser:
			c.RegisterUser(&server.User{
				Username: edgeUser,
				Account:  e.members,
				Permissions: permissions(
					[]string{"d.>", "_INBOX.>"},
					[]string{"hub.>"}),
			})
			return true
		}
		return false
	}

	cs := c.GetTLSConnectionState()
	if e.authorize == nil || !e.opened.Load() || cs == nil || !cs.HandshakeComplete ||
		cs.Version < tls.VersionTLS13 || len(cs.VerifiedChains) == 0 {
		return false
	}
	e.logins.RLock()
	defer e.logins.RUnlock()
	g, ok := e.authorize(*cs)
	if !ok {
		return false
	}
	if err := g.check(); err != nil {
		e.log.Error("grant refused", "err", err)
		return false
	}
	if e.connections(g.User) >= maxUserConns {
		return false
	}
	c.RegisterUser(&server.User{
		Username:           g.User,
		Account:            e.members,
		Permissions:        permissions(g.Publish, g.Subscribe),
		ConnectionDeadline: g.Deadline,
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.users) > 2*e.pruned+64 {
		for id := range e.users {
			if e.srv.GetClient(id) == nil {
				delete(e.users, id)
			}
		}
		e.pruned = len(e.users)
	}
	e.users[c.GetID()] = g.User
	return true
}

// maxUserConns bounds the connections of one user: a node has one, and leaves
// some behind that the server has not noticed when its line breaks.
const maxUserConns = 8

// connections is how many connections a user has now.
func (e *embedded) connections(user string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, u := range e.users {
		if u == user && e.srv.GetClient(id) != nil {
			n++
		}
	}
	return n
}

// inProcess tells a connection over a pipe of this process from one over a
// socket. The network's name comes from the connection's type, not the peer.
func inProcess(c server.ClientAuthentication) bool {
	a := c.RemoteAddress()
	return a != nil && a.Network() == "pipe" && c.GetTLSConnectionState() == nil
}

// permissions are lists of what is allowed; an empty one allows nothing.
func permissions(publish, subscribe []string) *server.Permissions {
	if len(subscribe) == 0 {
		// The server takes an empty list for "everything". Nobody may publish
		// this subject.
		subscribe = []string{"nothing"}
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: append([]string{}, publish...)}, // nil would be "everything"
		Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
}

var (
	grantPublish   = regexp.MustCompile(`^hub\.[a-z0-9-]+\.([A-Za-z0-9_.-]+|>|([A-Za-z0-9_-]+\.)+>)$`)
	grantSubscribe = regexp.MustCompile(`^(d|_INBOX)\.[a-z0-9-]+\.([A-Za-z0-9_.-]+|>|([A-Za-z0-9_-]+\.)+>)$`)
)

// check keeps a mistake in Authorize from opening more than a member's own
// subjects.
func (g Grant) check() error {
	if g.User == "" || g.User == hubUser || g.User == edgeUser {
		return fmt.Errorf("grant for user %q", g.User)
	}
	for _, s := range g.Publish {
		if !grantPublish.MatchString(s) {
			return fmt.Errorf("grant to publish %q", s)
		}
	}
	for _, s := range g.Subscribe {
		if !grantSubscribe.MatchString(s) {
			return fmt.Errorf("grant to subscribe %q", s)
		}
	}
	return nil
}

// Edge returns a new connection of the hub to the members' account: it may
// publish d.> and _INBOX.>, and subscribe hub.>. Whoever answers a member's
// request must check that its reply subject is the member's own. The caller
// may close it; Close does.
func (j *Journal) Edge() (*nats.Conn, error) {
	if j.isClosed() {
		return nil, ErrClosed
	}
	nc, err := j.server.connect(edgeUser)
	if err != nil {
		return nil, err
	}
	j.server.mu.Lock()
	defer j.server.mu.Unlock()
	j.server.conns = append(j.server.conns, nc)
	if j.isClosed() { // stop may have closed the others already
		nc.Close()
		return nil, ErrClosed
	}
	return nc, nil
}

// ListenAddr is the address of the door, empty when there is none.
func (j *Journal) ListenAddr() string {
	if j.server.authorize == nil || j.server.srv.Addr() == nil {
		return ""
	}
	return j.server.srv.Addr().String()
}

// Disconnect closes the connections of the members' users that match, at once,
// and returns how many. A login under way is judged too, so a member that
// Authorize refuses from now on has no connection left when this returns.
func (j *Journal) Disconnect(match func(user string) bool) int {
	e := j.server
	e.logins.Lock() // waits for logins that Authorize let in
	e.mu.Lock()
	var ids []uint64
	for id, user := range e.users {
		if match(user) {
			ids = append(ids, id)
			delete(e.users, id)
		}
	}
	e.mu.Unlock()
	e.logins.Unlock()
	var n int
	for _, id := range ids {
		if e.srv.DisconnectClientByID(id) == nil {
			n++
		}
	}
	return n
}

// serverLog hands the server's words to slog. A line may quote a subject that
// a member sent, so it is cut; the server logs no payload.
type serverLog embedded

func (l *serverLog) Noticef(f string, v ...any) { l.say(slog.LevelDebug, f, v) }
func (l *serverLog) Warnf(f string, v ...any)   { l.say(slog.LevelWarn, f, v) }
func (l *serverLog) Errorf(f string, v ...any)  { l.say(slog.LevelError, f, v) }
func (l *serverLog) Debugf(string, ...any)      {}
func (l *serverLog) Tracef(string, ...any)      {}

// Fatalf does not end the process: startServer returns the message.
func (l *serverLog) Fatalf(f string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(f, v...):
	default:
	}
	l.say(slog.LevelError, f, v)
}

func (l *serverLog) say(level slog.Level, f string, v []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	l.log.Log(context.Background(), level, "journal server",
		"text", fmt.Sprintf("%.300s", strings.ToValidUTF8(fmt.Sprintf(f, v...), "?")))
}
