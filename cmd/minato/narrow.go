package main

import (
	"context"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) narrowCommand() *cobra.Command {
	var f reportFlags
	c := a.command("narrow REPORT --tlp LABEL", about{
		short: Text{"受け取った報告を、この端末では狭いラベルで扱います", "Treat a received report under a stricter label, on this node"},
		long: Text{"ほかの会員の写しは変わりません。広げられるのは発信元だけです (minato report relabel)。",
			"The copies of others stay as they are. Only the source can widen a label (minato report relabel)."},
		example: "minato narrow 3f2a9c1e --tlp amber+strict",
	}, a.exactly("REPORT"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"tlp", f.tlp != ""}); err != nil {
			return err
		}
		r := &pb.Report{}
		if err := f.fill(a, r); err != nil {
			return err
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			answer, err := n.NarrowReport(ctx, &pb.NarrowReportRequest{Report: args[0], Tlp: r.GetTlp()})
			if err != nil {
				return err
			}
			if a.json {
				return a.emitInbox(answer.GetItem())
			}
			return a.sayText(textf("%s をこの端末では %s として扱います", "%s is treated as %s on this node", shortID(answer.GetItem().GetReport()), a.chip(answer.GetItem().GetTlp())))
		})
	})
	c.Flags().StringVar(&f.tlp, "tlp", "", a.t("今より狭い`ラベル` (必須)", "a stricter `label` than now (required)"))
	return c
}
