package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is what is known of this binary.
type release struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Time     string `json:"time"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return a.command("version", about{
		short:   Text{"版を表示します", "Show the version"},
		example: "minato version --json",
	}, a.exactly(), func(*cobra.Command, []string) error {
		r := buildRelease()
		if a.json {
			return a.emitValue(r)
		}
		line := "minato " + r.Version
		if r.Revision != "" {
			line += " " + cut(r.Revision, 12)
			if r.Modified {
				line += "+"
			}
		}
		return a.say(line + " " + r.Go + " " + r.Platform)
	})
}

func buildRelease() release {
	r := release{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	r.Version = or(info.Main.Version, r.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Revision = s.Value
		case "vcs.time":
			r.Time = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	return r
}
