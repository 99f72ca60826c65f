package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "minato.example/proto/minato/v1"
)

func (a *app) ackCommand() *cobra.Command {
	var reaction, person string
	var wait time.Duration
	c := a.command("ack ID --reaction R [--person P]", about{
		short:   Text{"届いた報告に答えます (確認、該当の有無、対応)", "Acknowledge a report: seen, affected or not, handled"},
		example: "minato ack 3f2a9c1e --reaction not_affected",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"reaction", reaction != ""}); err != nil {
			return err
		}
		r, err := parseChoice[pb.Reaction]("reaction", reaction)
		if err != nil {
			return err
		}
		if wait < 0 {
			return usage(Text{"--wait は 0 以上にしてください", "--wait must not be negative"}, Text{"例: --wait 5s", "for example: --wait 5s"})
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), wait+callTime)
			defer cancel()
			answer, err := n.Acknowledge(ctx, &pb.AcknowledgeRequest{Report: args[0], Reaction: r, Person: person, Wait: durationpb.New(wait)})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.emitFull(answer); err != nil {
					return err
				}
			} else if err := a.sayText(textf("%s に「%s」と答えました", "acknowledged %s: %s", shortID(answer.GetReport()), word(r))); err != nil {
				return err
			}
			if !answer.GetRecorded() {
				a.talk(Text{"この端末に保存しました。ハブにつながり次第、自動で送ります。", "Stored on this machine; it is sent when the hub is reached."})
				return told(exitQueued)
			}
			return nil
		})
	})
	f := c.Flags()
	f.StringVar(&reaction, "reaction", "", a.t("`答え` ", "`answer`: ")+strings.Join(choices(pb.Reaction(0)), ", "))
	f.StringVar(&person, "person", "", a.t("答える`人` (既定はノードの利用者)", "`person` who answers (default: the node's operator)"))
	f.DurationVar(&wait, "wait", callWait, a.t("ハブの記録を待つ`時間`", "`time` to wait for the hub"))
	return c
}
