package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "minato.example/proto/minato/v1"
)

func (a *app) hubInviteCommand() *cobra.Command {
	var (
		dir, role string
		req       pb.InviteRequest
		ttl       time.Duration
	)
	c := a.command("invite --dir D --member ID --name NAME --role ROLE", about{
		short: Text{"会員を招き、一度だけ使えるトークンを出します", "Admit a member and print a one-time token"},
		long: Text{"標準出力はトークンだけです。二度は表示しません。電話など、別の経路で渡してください。\n同じ会員をもう一度招くと、二台目のノードを加えられます。",
			"Stdout holds the token alone; it is not shown again. Hand it over by another way than open mail.\nInviting a member again lets it add one more node."},
		example: "minato hub invite --dir /var/lib/minato-hub --member tcb --name 名古屋東ターミナル --role operator",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		err := a.need(required{"dir", dir != ""}, required{"member", req.Member != ""}, required{"name", req.Name != ""}, required{"role", role != ""})
		if err != nil {
			return err
		}
		if req.Role, err = parseChoice[pb.Role]("role", role); err != nil {
			return err
		}
		if ttl < 0 {
			return usage(Text{"--ttl は 0 より長くしてください", "--ttl must be longer than 0"}, Text{"例: --ttl 24h", "for example: --ttl 24h"})
		}
		req.Ttl = durationpb.New(ttl)
		return a.withHub(c.Context(), dir, func(ctx context.Context, admin pb.AdminServiceClient) error {
			answer, err := admin.Invite(ctx, &req, patient)
			if err != nil {
				return err
			}
			a.talk(textf("会員 %s に渡してください (有効 %s)。会員の端末で: minato node join TOKEN", "hand this to member %s (works for %s). On its machine: minato node join TOKEN", req.Member, ttl))
			if a.json {
				return a.emit(answer)
			}
			_, err = fmt.Fprintln(a.out, answer.GetToken())
			return err
		})
	})
	f := c.Flags()
	a.hubDirFlag(c, &dir)
	f.StringVar(&req.Member, "member", "", a.t("会員の`ID` (a-z, 0-9, ハイフン; 必須)", "`ID` of the member (a-z, 0-9, hyphen; required)"))
	f.StringVar(&req.Name, "name", "", a.t("会員の`名称` (必須)", "`name` of the member (required)"))
	f.StringVar(&role, "role", "", a.t("`役割` operator, port_authority, ministry, isac など (必須)", "`role`: operator, port_authority, ministry, isac, ... (required)"))
	f.StringArrayVar(&req.Communities, "community", nil, a.t("港のほかに属するコミュニティの`ID` (繰り返し可)", "`ID` of a community beside the port's (repeatable)"))
	f.DurationVar(&ttl, "ttl", 24*time.Hour, a.t("トークンの有効`期間` (最長 720h)", "`time` the token works, at most 720h"))
	return c
}
