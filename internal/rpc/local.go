package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	maxLocal      = 64 << 20 // bytes of one message on a local socket
	maxSocketPath = 107      // bytes; sockaddr_un of Linux, less its final NUL
)

// ErrRunning: another process serves the socket.
var ErrRunning = errors.New("already running")

// localError is an error of a local socket, for a person.
type localError struct {
	en, ja string
	err    error
}

func (e *localError) Error() string    { return e.en }
func (e *localError) Japanese() string { return e.ja }
func (e *localError) Unwrap() error    { return e.err }

// LocalServer makes a server on a Unix socket with mode 0600: whoever may open
// the socket may call. A lock beside the socket proves that nobody else
// serves it; only then is a socket left by a crash removed. ErrRunning when
// somebody does. Closing the listener removes the socket and ends the lock.
func LocalServer(path string, log *slog.Logger) (*grpc.Server, net.Listener, error) {
	listener, err := listenLocal(path)
	if err != nil {
		return nil, nil, err
	}
	log = logger(log)
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxLocal),
		grpc.MaxSendMsgSize(maxLocal),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
			defer func() {
				if v := recover(); v != nil {
					resp, err = nil, panicked(ctx, log, info.FullMethod, v)
				}
			}()
			if resp, err = handler(ctx, req); err != nil {
				return nil, finish(ctx, log, info.FullMethod, err)
			}
			return resp, nil
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = panicked(ss.Context(), log, info.FullMethod, v)
				}
			}()
			return finish(ss.Context(), log, info.FullMethod, handler(srv, ss))
		}),
	)
	return server, listener, nil
}

func listenLocal(path string) (_ net.Listener, err error) {
	if len(path) > maxSocketPath {
		return nil, &localError{
			en: fmt.Sprintf("The path of the socket is longer than %d bytes: %s. Use a folder with a shorter path.", maxSocketPath, path),
			ja: fmt.Sprintf("ソケットのパスが %d バイトを超えています: %s。パスの短いフォルダーを使ってください。", maxSocketPath, path),
		}
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, running(path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{
		// The mode stands before the socket has a name.
		Control: func(_, _ string, c syscall.RawConn) error {
			var modeErr error
			err := c.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
			return errors.Join(err, modeErr)
		},
	}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return &lockedListener{Listener: l, lock: lock}, nil
}

// removeStale removes a socket at which nobody listens, and nothing else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return &localError{
			en: fmt.Sprintf("%s is in the way and is no socket. Move it elsewhere.", path),
			ja: fmt.Sprintf("%s はソケットではありません。別の場所へ移してください。", path),
		}
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return running(path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, syscall.EAGAIN): // a full backlog: somebody lives
		return running(path)
	}
	return err
}

func running(path string) error {
	dir := filepath.Dir(path)
	return &localError{
		en:  fmt.Sprintf("It is already running in %s. End the other process first, or use another folder.", dir),
		ja:  fmt.Sprintf("%s では既に動いています。先にそのプロセスを終了するか、別のフォルダーを使ってください。", dir),
		err: ErrRunning,
	}
}

// lockedListener holds the lock as long as it listens.
type lockedListener struct {
	net.Listener
	lock *os.File
	once sync.Once
}

func (l *lockedListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { l.lock.Close() })
	return err
}

// NotRunning: nothing listens at a local socket. Its status code is
// UNAVAILABLE.
type NotRunning struct {
	// Path of the socket.
	Path string
}

func (e *NotRunning) Error() string {
	return fmt.Sprintf("Nothing is running in %s. Start it first: minato node run, or minato hub run", filepath.Dir(e.Path))
}

// Japanese says the same in Japanese.
func (e *NotRunning) Japanese() string {
	return fmt.Sprintf("%s では何も動いていません。先に起動してください: minato node run または minato hub run", filepath.Dir(e.Path))
}

// GRPCStatus is UNAVAILABLE.
func (e *NotRunning) GRPCStatus() *status.Status { return status.New(codes.Unavailable, e.Error()) }

// DialLocal makes a connection to a LocalServer; it connects at the first
// call. A call while nothing listens there ends with NotRunning.
func DialLocal(path string) (*grpc.ClientConn, error) {
	absent := func(err error) error {
		if err == nil || status.Code(err) != codes.Unavailable {
			return err
		}
		if _, ours := RefusalOf(err); ours {
			return err
		}
		conn, dialErr := net.DialTimeout("unix", path, time.Second)
		if dialErr == nil {
			conn.Close()
			return err
		}
		return &NotRunning{Path: path}
	}
	return grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxLocal)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return absent(explain(call(ctx, method, req, reply, cc, opts...)))
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			if err != nil {
				return nil, absent(explain(err))
			}
			return &explainedStream{s}, nil
		}),
	)
}
