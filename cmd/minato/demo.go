package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"minato.example/internal/porttest"
	"minato.example/node"
	pb "minato.example/proto/minato/v1"
)

// The incident of the demo was written for it: places, addresses and people do
// not exist.
var (
	//go:embed demo/incident.json
	demoIncident []byte
	//go:embed demo/bundle.json
	demoBundle []byte
)

// demoPort is the id of the demo's port and of the community of everybody.
const demoPort = "minato-demo"

var demoMembers = []porttest.Member{
	demoMember("terminal-a", "東ふ頭ターミナル株式会社", pb.Role_ROLE_OPERATOR, "operators"),
	demoMember("terminal-b", "西ふ頭コンテナ株式会社", pb.Role_ROLE_OPERATOR, "operators"),
	demoMember("terminal-c", "南港運送株式会社", pb.Role_ROLE_OPERATOR, "operators"),
	demoMember("port-authority", "みなと港管理組合 (港湾管理者)", pb.Role_ROLE_PORT_AUTHORITY),
	demoMember("mlit", "国土交通省", pb.Role_ROLE_MINISTRY),
	demoMember("secretariat", "港湾セプター事務局", pb.Role_ROLE_SECRETARIAT),
}

func demoMember(id, name string, role pb.Role, communities ...string) porttest.Member {
	return porttest.Member{ID: id, Name: name, Role: role, Communities: communities, Profile: porttest.Profile(name)}
}

func (a *app) demoCommand() *cobra.Command {
	var dir string
	c := a.command("demo [--dir D]", about{
		short: Text{"港をまるごと1台で動かして試します", "Try a whole port on this machine"},
		long: Text{"ハブ、事業者3社、港湾管理者、国土交通省、セプター事務局を動かし、事案を1件報告します。\nCtrl-C で終わり、作ったものを消します (--dir を付けると残します)。",
			"Runs a hub, three operators, the port authority, the ministry and the secretariat,\nand reports one incident. Ctrl-C ends it and removes everything (--dir keeps it)."},
		example: "minato demo",
	}, a.exactly(), func(c *cobra.Command, _ []string) error { return a.demo(c.Context(), dir) })
	c.Flags().StringVar(&dir, "dir", "", a.t("残しておく空の`フォルダー`", "empty `folder` to keep it in"))
	return c
}

// demo runs the port until ctx ends.
func (a *app) demo(ctx context.Context, keep string) (err error) {
	dir, err := demoDir(keep)
	if err != nil {
		return err
	}
	if keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "demo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	begin := time.Now()
	p, err := porttest.Start(ctx, dir, demoPort, demoMembers, slog.New(slog.NewJSONHandler(logFile, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	item, err := reportDemoIncident(ctx, p)
	if err != nil {
		return err
	}
	if err := a.tellDemo(p, item, time.Since(begin)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// demoDir is a folder of the demo's own. Its path is short: that of a Unix
// socket is bounded.
func demoDir(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "minato")
	}
	dir, err := filepath.Abs(keep)
	if err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", usage(textf("%s は空ではありません", "%s is not empty", dir),
			Text{"別のフォルダーを --dir に指定してください", "give --dir another folder"})
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// reportDemoIncident publishes the incident from the first operator and waits
// until its recipients have it.
func reportDemoIncident(ctx context.Context, p *porttest.Port) (*pb.OutboxItem, error) {
	r := new(pb.Report)
	if err := protojson.Unmarshal(demoIncident, r); err != nil {
		return nil, fmt.Errorf("read the incident: %w", err)
	}
	for _, to := range r.GetRecipients() {
		if err := p.Connected(ctx, to.GetMember()); err != nil {
			return nil, err
		}
	}
	c, err := node.Dial(p.NodeDir("terminal-a"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	part, err := c.AddPart(ctx, &pb.Part{
		Name: "bundle.json", MediaType: stixMediaType, Class: pb.DisclosureClass_DISCLOSURE_CLASS_TECHNIQUE,
	}, bytes.NewReader(demoBundle))
	if err != nil {
		return nil, err
	}
	r.AttackTechnical.StixBundle = part
	item, err := c.Publish(ctx, r, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if item.GetState() != pb.OutboxState_OUTBOX_STATE_ACCEPTED {
		return nil, fmt.Errorf("the incident was not accepted: %v", item.GetState())
	}
	return item, nil
}

// tellDemo says what runs and what to type next.
func (a *app) tellDemo(p *porttest.Port, item *pb.OutboxItem, took time.Duration) error {
	if a.json {
		nodes := map[string]string{}
		for _, m := range demoMembers {
			nodes[m.ID] = p.NodeDir(m.ID)
		}
		return a.emitValue(struct {
			Ready  string            `json:"ready"`
			Port   string            `json:"port"`
			Report string            `json:"report"`
			Nodes  map[string]string `json:"nodes"`
		}{"demo", demoPort, item.GetReport(), nodes})
	}
	lines := []Text{textf("ready demo port=%s (%.1f 秒)", "ready demo port=%s (%.1f s)", demoPort, took.Seconds())}
	lines = append(lines, Text{"", ""}, Text{"参加している組織。行を別の端末に貼ると、その組織として使えます:", "Who is here. Paste a line into another terminal to act as that organisation:"})
	for _, m := range demoMembers {
		line := fmt.Sprintf("  export MINATO_NODE=%s   # %s", p.NodeDir(m.ID), m.Name)
		lines = append(lines, Text{line, line})
	}
	id := shortID(item.GetReport())
	lines = append(lines, Text{"", ""},
		textf("東ふ頭ターミナルが TLP:AMBER の事案 %s を港湾管理者と国土交通省に報告しました。", "The first operator has reported incident %s, TLP:AMBER, to the port authority and the ministry.", id),
		Text{"たとえば、次のように打ってみてください:", "For example, type:"},
		Text{"", ""},
		Text{"  # 国土交通省には届いている", "  # the ministry has it"},
		textf("  export MINATO_NODE=%s", "  export MINATO_NODE=%s", p.NodeDir("mlit")),
		textf("  %s inbox", "  %s inbox", program()), textf("  %s show %s", "  %s show %s", program(), id),
		textf("  %s ack %s --reaction checking", "  %s ack %s --reaction checking", program(), id),
		Text{"  # ほかの事業者には届いていない", "  # another operator does not"},
		textf("  export MINATO_NODE=%s", "  export MINATO_NODE=%s", p.NodeDir("terminal-b")), textf("  %s inbox", "  %s inbox", program()),
		Text{"  # 報告した会社からは、誰がどこまで受け取ったかが見える", "  # the reporter sees who has received it"},
		textf("  export MINATO_NODE=%s", "  export MINATO_NODE=%s", p.NodeDir("terminal-a")),
		textf("  %s show %s", "  %s show %s", program(), id),
		Text{"  # なぜ届いた、届かなかったか", "  # why somebody has it or not"},
		textf("  %s explain %s terminal-b", "  %s explain %s terminal-b", program(), id),
		Text{"  # 同業に注意を呼びかける。出す前に、誰に何が届くかを見る", "  # warn the others; look first who would get what"},
		textf("  %s report --tlp green --community %s --notice --title '不審な通信先' -m '203[.]0[.]113[.]77 への通信を確認してください' --plan",
			"  %s report --tlp green --community %s --notice --title 'Suspicious address' -m 'Please look for traffic to 203[.]0[.]113[.]77' --plan", program(), demoPort),
		Text{"  # 自社の事案は、技術情報だけが名前なしで同業に届く", "  # of an incident at your own place, others get the technique without your name"},
		textf("  %s report --tlp green --community %s --title 'ランサムウェアに感染' -m 'TOSが停止' --technical 'VPN装置から侵入、拡張子 .lockx' --plan",
			"  %s report --tlp green --community %s --title 'Ransomware' -m 'The TOS is down' --technical 'Came in by the VPN gateway, extension .lockx' --plan", program(), demoPort),
		Text{"", ""}, Text{"Ctrl-C で終わります。", "Ctrl-C ends it."})
	for _, l := range lines {
		if err := a.sayText(l); err != nil {
			return err
		}
	}
	return nil
}

// program is how this program was called, to be typed again.
func program() string {
	if exe, err := os.Executable(); err == nil {
		if wd, err := os.Getwd(); err == nil {
			if rel, err := filepath.Rel(wd, exe); err == nil && len(rel) < len(exe) {
				return "./" + rel
			}
		}
		return exe
	}
	return "minato"
}
