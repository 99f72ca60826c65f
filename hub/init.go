package hub

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/ca"
	"minato.example/internal/config"
	"minato.example/internal/journal"
	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// InitOptions are what `minato hub init` is told.
type InitOptions struct {
	Dir    string // made with mode 0700; must be empty or missing
	Port   string // id of the port
	Listen string // gRPC listener, host:port; empty means 127.0.0.1:7443
	NATS   string // NATS listener, host:port; empty means none
}

// Init makes a hub's directory: CA, keys, journal and, last, hub.toml, which
// marks it as complete. An existing hub is never touched.
func Init(ctx context.Context, o InitOptions) error {
	c := Config{Port: o.Port, Listen: o.Listen, NATS: o.NATS}
	if err := c.fill(); err != nil {
		return &config.Error{Path: "hub init", Err: err}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	c.Dir = dir
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return &InitError{Dir: dir}
	}
	if err := ca.MakeDir(dir); err != nil {
		return err
	}
	if err := ca.MakeDir(filepath.Join(dir, "keys")); err != nil {
		return err
	}
	if err := ca.Create(filepath.Join(dir, "ca"), c.Port); err != nil {
		return err
	}
	for name, size := range map[string]int{"hub.key": ed25519.SeedSize, "journal.key": 32} {
		secret := make([]byte, size)
		rand.Read(secret)
		if err := ca.WriteSecret(filepath.Join(dir, "keys", name), secret); err != nil {
			return err
		}
	}
	if err := writePolicyKey(filepath.Join(dir, "keys")); err != nil {
		return err
	}
	jc, err := journalConfig(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	first, err := proto.Marshal(&pb.DirectoryChange{
		ChangeTime: timestamppb.Now(),
		Change:     &pb.DirectoryChange_Founded{Founded: &pb.Founded{PortId: c.Port}},
	})
	if err != nil {
		return err
	}
	if err := journal.Create(ctx, jc, first); err != nil {
		return err
	}
	text, err := toml.Marshal(Config{Port: c.Port, Listen: c.Listen, NATS: c.NATS, Address: c.Listen, NATSAddress: c.NATS,
		MaxReportBytes: c.MaxReportBytes, MaxPartBytes: c.MaxPartBytes, MaxPartsBytes: c.MaxPartsBytes, LogLevel: c.LogLevel, Crypto: c.Crypto})
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, "hub.toml"), text, 0o600)
}

// InitError is a directory that holds something already.
type InitError struct{ Dir string }

func (e *InitError) Error() string {
	return fmt.Sprintf("%s is not empty; an existing hub is never overwritten. Choose another --dir, or start this one: minato hub run -c %s", e.Dir, filepath.Join(e.Dir, "hub.toml"))
}

// Japanese is the message for people.
func (e *InitError) Japanese() string {
	return fmt.Sprintf("%s は空ではありません。既にあるハブは上書きしません。別の --dir を指定するか、このハブを起動してください: minato hub run -c %s", e.Dir, filepath.Join(e.Dir, "hub.toml"))
}

func adminSocket(dir string) string { return filepath.Join(dir, "admin.sock") }

// Admin reaches the administrator's door of the hub in dir: of the running hub
// when there is one, else of the hub opened here for as long as the caller
// needs it. Close ends it.
func Admin(ctx context.Context, dir string) (pb.AdminServiceClient, io.Closer, error) {
	conn, err := rpc.DialLocal(adminSocket(dir))
	if err != nil {
		return nil, nil, err
	}
	client := pb.NewAdminServiceClient(conn)
	if _, err := client.ListMemberStates(ctx, &pb.ListMemberStatesRequest{PageSize: 1}); err == nil {
		return client, conn, nil
	}
	conn.Close() // it has failed once and would wait before it tries again
	c, err := ReadConfig(filepath.Join(dir, "hub.toml"))
	if err != nil {
		return nil, nil, err
	}
	c.NATS = "" // nobody joins or receives meanwhile
	h, err := Open(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	server, socket, err := rpc.LocalServer(adminSocket(dir), h.log)
	if err != nil {
		return nil, nil, errors.Join(err, h.Close())
	}
	if conn, err = rpc.DialLocal(adminSocket(dir)); err != nil {
		return nil, nil, errors.Join(err, socket.Close(), h.Close())
	}
	pb.RegisterAdminServiceServer(server, h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(socket)
	}()
	return pb.NewAdminServiceClient(conn), closer(func() error {
		conn.Close()
		server.GracefulStop()
		<-done
		return h.Close()
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }
