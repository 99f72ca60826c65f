package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"minato.example/internal/rpc"
	pb "minato.example/proto/minato/v1"
)

// nodeDir is the folder of the node: --node, else MINATO_NODE, else the folder
// of this user.
func (a *app) nodeDir() (string, error) {
	if a.node != "" {
		return a.node, nil
	}
	if dir := a.env("MINATO_NODE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &failure{code: exitUsage, err: err,
			what: Text{"ノードのフォルダーが決まりません", "there is no folder for the node"},
			next: Text{"--node フォルダー を付けるか MINATO_NODE を設定してください", "add --node FOLDER or set MINATO_NODE"}}
	}
	return filepath.Join(dir, "minato", "node"), nil
}

// withNode calls the daemon of the node on this machine.
func (a *app) withNode(ctx context.Context, call func(pb.NodeServiceClient) error) error {
	dir, err := a.nodeDir()
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "node.sock")
	if err := knock(ctx, dir, socket); err != nil {
		return err
	}
	conn, err := rpc.DialLocal(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = call(pb.NewNodeServiceClient(conn))
	return ofNode(err)
}

// knock tells apart a node that is not there, not running and not ours, which
// gRPC would all report as "unavailable".
func knock(ctx context.Context, dir, socket string) error {
	if _, err := os.Stat(filepath.Join(dir, "node.toml")); errors.Is(err, fs.ErrNotExist) {
		return &failure{code: exitAccess, err: err,
			what: textf("この端末はまだ港に参加していません (%s に node.toml がありません)", "this machine has not joined a port (no node.toml in %s)", plain(dir)),
			next: textf("minato node join TOKEN --dir %s", "minato node join TOKEN --dir %s", plain(dir))}
	} else if errors.Is(err, fs.ErrPermission) {
		return notAllowed(dir, err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return notAllowed(dir, err)
	case err != nil:
		config := filepath.Join(dir, "node.toml")
		return &failure{code: exitFailed, err: err,
			what: textf("ノードが動いていません (%s)", "the node is not running (%s)", plain(dir)),
			next: textf("起動: minato node run -c %s", "start it: minato node run -c %s", plain(config))}
	}
	return conn.Close()
}

func notAllowed(dir string, err error) error {
	return &failure{code: exitAccess, err: err,
		what: textf("このノードを使う権限がありません (%s)", "you are not allowed to use this node (%s)", plain(dir)),
		next: Text{"ノードを動かしている利用者で実行するか、--node で自分のノードを指定してください", "run this as the user that runs the node, or name your own node with --node"}}
}

// ofNode explains a call that broke between this command and the daemon.
// Whether the daemon has done the work is then not known, so it must never
// look like a report that is safely queued.
func ofNode(err error) error {
	if _, refused := rpc.RefusalOf(err); refused || err == nil {
		return err
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return &failure{code: exitFailed, err: err,
			what: textf("ノードまたはハブから返事がありません: %s", "the node or the hub did not answer: %s", plain(status.Convert(err).Message())),
			next: Text{"minato status と minato outbox で状態を確かめてください", "look at minato status and minato outbox"}}
	case codes.Canceled:
		return &failure{code: exitFailed, err: err, what: Text{"中断しました", "interrupted"},
			next: Text{"途中まで進んだかは minato outbox で確かめてください", "see minato outbox for what was done before"}}
	}
	return err
}

const (
	// callTime bounds a call of the node that should answer at once; longer
	// waits that a person asks for come on top.
	callTime = 30 * time.Second
	// callWait is how long a command waits for the hub's answer by itself.
	callWait = 5 * time.Second
)
