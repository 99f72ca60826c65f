package main

import "github.com/spf13/cobra"

func (a *app) nodeCommand() *cobra.Command {
	c := a.group("node", about{
		short:   Text{"この端末のノードを参加させ、動かし、設定します", "Join, run and describe the node of this machine"},
		example: "minato node join TOKEN --dir /var/lib/minato-node",
	})
	c.AddCommand(a.nodeJoinCommand(), a.nodeRunCommand(), a.nodeProfileCommand(), a.nodePersonCommand())
	return c
}
