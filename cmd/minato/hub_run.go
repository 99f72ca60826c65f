package main

import (
	"github.com/spf13/cobra"

	"minato.example/hub"
)

func (a *app) hubRunCommand() *cobra.Command {
	var config string
	c := a.command("run -c D/hub.toml", about{
		short:   Text{"ハブを動かします", "Run the hub"},
		long:    Text{"答えられるようになると標準出力に ready の1行を出します。SIGTERM で終わります。", "Prints one line, ready, on stdout when it serves. Ends on SIGTERM."},
		example: "minato hub run -c /var/lib/minato-hub/hub.toml",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if err := a.need(required{"config", config != ""}); err != nil {
			return err
		}
		cfg, err := hub.ReadConfig(config)
		if err != nil {
			return startFailed(err)
		}
		log, err := a.logger(cfg.LogLevel)
		if err != nil {
			return err
		}
		h, err := hub.Open(c.Context(), cfg, log)
		if err != nil {
			return startFailed(err)
		}
		return a.serve(c.Context(), h, func() readiness {
			return readiness{Ready: "hub", Port: cfg.Port, Addr: h.Addr(), NATS: h.NATSAddr()}
		})
	})
	c.Flags().StringVarP(&config, "config", "c", "", a.t("設定`ファイル` hub.toml (必須)", "`file` with the configuration, hub.toml (required)"))
	return c
}
