package main

import (
	"context"
	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) hubRevokeCommand() *cobra.Command {
	var dir, reason string
	c := a.command("revoke ID --dir D [--reason TEXT]", about{
		short: Text{"会員を直ちに外します", "Put a member out at once"},
		long: Text{"接続は切れ、以後は何も届きません。既に届いた報告は会員の手元に残ります。",
			"Its connections end and nothing more is delivered. What it has received stays with it."},
		example: "minato hub revoke tcb --dir /var/lib/minato-hub --reason 退会",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			if _, err := admin.Revoke(ctx, &pb.RevokeRequest{Member: args[0], Reason: reason}, patient); err != nil {
				return err
			}
			if a.json {
				return a.emitValue(map[string]string{"member": args[0], "state": "MEMBER_STATE_REVOKED"})
			}
			return a.sayText(textf("会員 %s を外しました", "member %s is out", plain(args[0])))
		})
	})
	a.hubDirFlag(c, &dir)
	c.Flags().StringVar(&reason, "reason", "", a.t("記録に残す`理由`", "`reason` for the record"))
	return c
}
