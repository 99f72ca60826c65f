package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"minato.example/hub"
	"minato.example/node"
)

func (a *app) configCommand() *cobra.Command {
	c := a.group("config", about{
		short:   Text{"設定ファイルを検査します", "Check configuration files"},
		example: "minato config check /var/lib/minato-hub/hub.toml",
	})
	c.AddCommand(a.configCheckCommand())
	return c
}

func (a *app) configCheckCommand() *cobra.Command {
	return a.command("check FILE", about{
		short: Text{"hub.toml または node.toml を検査します", "Check hub.toml or node.toml"},
		long: Text{"ファイル名に hub か node を含めてください。誤りがあれば終了コード 6 です。",
			"The file's name must hold hub or node. Exit code 6 when something is wrong."},
		example: "minato config check /var/lib/minato-hub/hub.toml",
	}, a.exactly("FILE"), func(_ *cobra.Command, args []string) error {
		path := args[0]
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return &failure{code: exitUsage, err: err,
				what: textf("設定 %s を読めません", "cannot read the configuration %s", plain(path)),
				next: Text{"ファイル名と権限を確かめてください", "check the name and the mode of the file"}}
		}
		var kind string
		var err error
		switch base := filepath.Base(path); {
		case strings.Contains(base, "hub"):
			kind = "hub"
			_, err = hub.ReadConfig(path)
		case strings.Contains(base, "node"):
			kind = "node"
			_, err = node.ReadConfig(path)
		default:
			return usage(
				textf("%s が hub と node のどちらの設定か分かりません", "it is not clear whether %s is for a hub or a node", plain(path)),
				Text{"ファイル名を hub.toml か node.toml にしてください", "name it hub.toml or node.toml"})
		}
		if a.json {
			finding := map[string]any{"file": path, "kind": kind, "valid": err == nil}
			if err != nil {
				finding["english"], finding["japanese"] = textOf(err).EN, textOf(err).JA
			}
			if err := a.emitValue(finding); err != nil {
				return err
			}
		}
		if err != nil {
			return &failure{code: exitCheck, what: textOf(err), err: err}
		}
		if a.json {
			return nil
		}
		return a.sayText(textf("%s は正しい設定です (%s)", "%s is a valid configuration (%s)", plain(path), kind))
	})
}
