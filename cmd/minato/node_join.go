package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"minato.example/internal/ca"
	"minato.example/node"
)

func (a *app) nodeJoinCommand() *cobra.Command {
	var dir string
	c := a.command("join TOKEN [--dir D]", about{
		short: Text{"招待のトークンで港に参加します", "Join a port with the token of an invitation"},
		long: Text{"ハブの証明書を確かめ、鍵を作り、証明書を受け取ります。トークンは一度しか使えません。",
			"Checks the hub's certificate, makes keys and receives a certificate. A token works once."},
		example: "minato node join TOKEN --dir /var/lib/minato-node",
	}, a.exactly("TOKEN"), func(c *cobra.Command, args []string) error {
		if _, err := ca.ParseToken(args[0]); err != nil {
			return badInput(err)
		}
		if dir == "" {
			var err error
			if dir, err = a.nodeDir(); err != nil {
				return err
			}
		}
		id, err := node.Join(c.Context(), node.JoinOptions{Token: args[0], Dir: dir})
		if err != nil {
			return err
		}
		a.talk(textf("次にすること: minato node run -c %s", "next: minato node run -c %s", plain(filepath.Join(dir, "node.toml"))))
		if a.json {
			return a.emitValue(map[string]any{
				"port": id.Port, "member": id.Member, "memberName": id.MemberName, "node": id.Node,
				"hubAddress": id.HubAddress, "dir": dir,
			})
		}
		return a.sayText(textf("港 %s に %s (%s) のノード %d として参加しました", "joined port %s as %s (%s), node %d",
			plain(id.Port), plain(id.Member), plain(id.MemberName), id.Node))
	})
	c.Flags().StringVar(&dir, "dir", "", a.t("ノードの`フォルダー` (既定は --node と同じ)", "`folder` for the node (default: as for --node)"))
	return c
}
