package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "minato.example/proto/minato/v1"
)

type local struct {
	pb.UnimplementedNodeServiceServer
	status func() (*pb.GetStatusResponse, error)
}

func (l *local) GetStatus(context.Context, *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	return l.status()
}

// socketPath is short: the path of a socket has at most 107 bytes.
func socketPath(t *testing.T) string {
	dir, err := os.MkdirTemp("", "m")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "node.sock")
}

func TestLocalCallsCarryRefusalsAndHideTheRest(t *testing.T) {
	path := socketPath(t)
	log := new(syncBuffer)
	server, l, err := LocalServer(path, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	node := new(local)
	pb.RegisterNodeServiceServer(server, node)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := DialLocal(path)
	require.NoError(t, err)
	defer conn.Close()
	client := pb.NewNodeServiceClient(conn)

	node.status = func() (*pb.GetStatusResponse, error) { return new(pb.GetStatusResponse), nil }
	_, err = client.GetStatus(testContext(t), new(pb.GetStatusRequest))
	require.NoError(t, err)
	node.status = func() (*pb.GetStatusResponse, error) {
		return nil, Refuse(codes.FailedPrecondition, "X", "f", "日本語", "English")
	}
	_, err = client.GetStatus(testContext(t), new(pb.GetStatusRequest))
	requireRefusal(t, err, codes.FailedPrecondition, "X")
	node.status = func() (*pb.GetStatusResponse, error) { return nil, errors.New("secret") }
	_, err = client.GetStatus(testContext(t), new(pb.GetStatusRequest))
	require.Equal(t, "rpc error: code = Internal desc = internal error", err.Error())
	node.status = func() (*pb.GetStatusResponse, error) { panic("secret") }
	_, err = client.GetStatus(testContext(t), new(pb.GetStatusRequest))
	require.Equal(t, "rpc error: code = Internal desc = internal error", err.Error())
	require.Equal(t, 1, strings.Count(log.String(), "secret"), "the error, but not the panic")

	server.Stop()
	require.NoError(t, <-done)
	require.NoFileExists(t, path)
	_, err = client.GetStatus(testContext(t), new(pb.GetStatusRequest))
	var absent *NotRunning
	require.ErrorAs(t, err, &absent)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NotEmpty(t, absent.Japanese())
}

func TestSecondServerOnASocketIsRefused(t *testing.T) {
	path := socketPath(t)
	_, l, err := LocalServer(path, nil)
	require.NoError(t, err)
	_, _, err = LocalServer(path, nil)
	require.ErrorIs(t, err, ErrRunning)
	requireJapanese(t, err)
	require.FileExists(t, path)
	require.NoError(t, l.Close())
	_, l, err = LocalServer(path, nil)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

func TestServerWithoutTheLockIsNotPushedAside(t *testing.T) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	_, _, err = LocalServer(path, nil)
	require.ErrorIs(t, err, ErrRunning)
	require.FileExists(t, path)
}

func TestSocketLeftByACrashIsReplaced(t *testing.T) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)
	_, l, err = LocalServer(path, nil)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

func TestFileInTheWayIsKept(t *testing.T) {
	path := socketPath(t)
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, _, err := LocalServer(path, nil)
	requireJapanese(t, err)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
}

func TestPathTooLongForASocketIsSaid(t *testing.T) {
	_, _, err := LocalServer("/"+strings.Repeat("a", 107), nil)
	requireJapanese(t, err)
}

func requireJapanese(t *testing.T, err error) {
	t.Helper()
	var said interface{ Japanese() string }
	require.ErrorAs(t, err, &said)
	require.NotEqual(t, err.Error(), said.Japanese())
}
