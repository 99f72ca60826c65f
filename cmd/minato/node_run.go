package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"minato.example/node"
)

func (a *app) nodeRunCommand() *cobra.Command {
	var config string
	c := a.command("run [-c D/node.toml]", about{
		short: Text{"ノードを動かします", "Run the node"},
		long: Text{"答えられるようになると標準出力に ready の1行を出します。SIGTERM で終わります。\nハブに届かない間も報告を預かり、つながれば送ります。",
			"Prints one line, ready, on stdout when it serves. Ends on SIGTERM.\nIt keeps reports while the hub is not reached and sends them later."},
		example: "minato node run -c /var/lib/minato-node/node.toml",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if config == "" {
			dir, err := a.nodeDir()
			if err != nil {
				return err
			}
			config = filepath.Join(dir, "node.toml")
		}
		cfg, err := node.ReadConfig(config)
		if err != nil {
			return startFailed(err)
		}
		log, err := a.logger(cfg.LogLevel)
		if err != nil {
			return err
		}
		n, err := node.Open(c.Context(), cfg, log)
		if err != nil {
			return startFailed(err)
		}
		return a.serve(c.Context(), n, func() readiness {
			return readiness{Ready: "node", Port: cfg.Port, Member: cfg.Member, Node: cfg.Node, Addr: filepath.Join(cfg.Dir, "node.sock")}
		})
	})
	c.Flags().StringVarP(&config, "config", "c", "", a.t("設定`ファイル` (既定は --node の node.toml)", "`file` with the configuration (default: node.toml of --node)"))
	return c
}
