package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"minato.example/hub"
	pb "minato.example/proto/minato/v1"
)

func (a *app) hubCommand() *cobra.Command {
	c := a.group("hub", about{
		short:   Text{"港のハブを作り、動かし、会員を管理します", "Create and run the hub of a port and admit its members"},
		example: "minato hub init --dir /var/lib/minato-hub --port nagoya",
	})
	c.AddCommand(a.hubInitCommand(), a.hubRunCommand(), a.hubInviteCommand(), a.hubMembersCommand(), a.hubMemberCommand(), a.hubRevokeCommand(),
		a.hubPolicyCommand())
	return c
}

// hubDirFlag adds --dir, the folder of the hub.
func (a *app) hubDirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", "", a.t("ハブの`フォルダー` (必須)", "`folder` of the hub (required)"))
}

// patient lets a call wait for the door of a hub that is just opening.
var patient = grpc.WaitForReady(true)

// withHub calls the hub's door for its administrator: its socket while it runs,
// its files otherwise.
func (a *app) withHub(ctx context.Context, dir string, call func(context.Context, pb.AdminServiceClient) error) error {
	if err := a.need(required{"dir", dir != ""}); err != nil {
		return err
	}
	config := filepath.Join(dir, "hub.toml")
	if _, err := os.Stat(config); errors.Is(err, fs.ErrNotExist) {
		return &failure{code: exitUsage, err: err,
			what: textf("--dir %s にハブはありません", "--dir %s holds no hub", plain(dir)),
			next: textf("minato hub init --dir %s --port ID", "minato hub init --dir %s --port ID", plain(dir))}
	} else if errors.Is(err, fs.ErrPermission) {
		return &failure{code: exitAccess, err: err,
			what: textf("--dir %s のハブを管理する権限がありません", "you are not allowed to administer the hub in %s", plain(dir)),
			next: Text{"ハブを動かしている利用者で実行してください", "run this as the user that runs the hub"}}
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	admin, closer, err := hub.Admin(ctx, dir)
	if err != nil {
		return err
	}
	if err := call(ctx, admin); err != nil {
		closer.Close()
		return err
	}
	// Without a running hub, closing is what ends the write.
	return closer.Close()
}
