package main

import (
	"net"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"minato.example/hub"
)

func (a *app) hubInitCommand() *cobra.Command {
	var o hub.InitOptions
	c := a.command("init --dir D --port ID [--listen ADDR] [--nats ADDR]", about{
		short:   Text{"新しい港のハブを作ります", "Create the hub of a new port"},
		long:    Text{"フォルダーに認証局、鍵、記録、hub.toml を作ります。既にあるハブには触れません。", "Makes the certificate authority, keys, journal and hub.toml. A hub that is there already is not touched."},
		example: "minato hub init --dir /var/lib/minato-hub --port nagoya --listen 0.0.0.0:7443",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if err := a.need(required{"dir", o.Dir != ""}, required{"port", o.Port != ""}); err != nil {
			return err
		}
		if !c.Flags().Changed("nats") {
			o.NATS = nextPort(o.Listen)
		}
		if err := hub.Init(c.Context(), o); err != nil {
			return err
		}
		config := filepath.Join(o.Dir, "hub.toml")
		if everywhere(o.Listen) {
			a.talk(textf("ほかの機械から参加するには、%s の address に会員から見えるホスト名とポートを書いてください (例: address = \"hub.example.jp:7443\")",
				"before members join from other machines, set address in %s to the name and port that they reach (address = \"hub.example.jp:7443\")", plain(config)))
		}
		a.talk(textf("次にすること: minato hub run -c %s", "next: minato hub run -c %s", plain(config)))
		if a.json {
			return a.emitValue(map[string]string{"port": o.Port, "dir": o.Dir, "config": config})
		}
		return a.sayText(textf("港 %s のハブを作りました: %s", "made the hub of port %s in %s", plain(o.Port), plain(o.Dir)))
	})
	f := c.Flags()
	a.hubDirFlag(c, &o.Dir)
	f.StringVar(&o.Port, "port", "", a.t("港の`ID` (a-z, 0-9, ハイフン; 必須)", "`ID` of the port (a-z, 0-9, hyphen; required)"))
	f.StringVar(&o.Listen, "listen", "127.0.0.1:7443", a.t("会員を待つ`アドレス` (gRPC)", "`address` for members (gRPC)"))
	f.StringVar(&o.NATS, "nats", "", a.t("配信の`アドレス` (NATS; 既定は --listen の次のポート、\"\" なら使わない)",
		"`address` for deliveries (NATS; default: the port after --listen; \"\" for none)"))
	return c
}

// nextPort is the address of the NATS listener that goes with an address for
// gRPC. Port 0, any free one, stays 0.
func nextPort(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "" // hub.Init says what is wrong with addr
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n >= 65535 {
		return ""
	}
	if n > 0 {
		n++
	}
	return net.JoinHostPort(host, strconv.Itoa(n))
}

// everywhere says whether an address listens on all interfaces, which is no
// address that another machine could call.
func everywhere(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
