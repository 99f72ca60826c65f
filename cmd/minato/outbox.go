package main

import (
	"context"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) outboxCommand() *cobra.Command {
	var limit int
	c := a.command("outbox [--limit N]", about{
		short:   Text{"この端末から出した報告を新しい順に表示します", "List what was published here, newest first"},
		example: "minato outbox --limit 20",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		if limit < 0 {
			return usage(Text{"--limit は 0 以上にしてください", "--limit must not be negative"}, Text{"0 はすべてです", "0 means all"})
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			return a.printOutbox(ctx, n, limit)
		})
	})
	c.Flags().IntVar(&limit, "limit", 100, a.t("表示する`件数` (0 はすべて)", "`number` of reports to show, 0 for all"))
	return c
}

func (a *app) printOutbox(ctx context.Context, n pb.NodeServiceClient, limit int) error {
	l := a.list("ID", a.t("事案", "case"), a.t("報", "no."), "TLP", a.t("発出", "published"), a.t("状態", "state"), a.t("件名", "title"))
	shown := 0
	for req := (&pb.ListOutboxRequest{PageSize: 500}); ; {
		page, err := n.ListOutbox(ctx, req)
		if err != nil {
			return err
		}
		for _, item := range page.GetItems() {
			if limit > 0 && shown == limit {
				a.talk(textf("ほかにもあります。続き: minato outbox --limit %d", "there are more: minato outbox --limit %d", limit*10))
				return l.end()
			}
			shown++
			if a.json {
				if err := a.emitFull(item); err != nil {
					return err
				}
				continue
			}
			if err := l.add(shortID(item.GetReport()), shortID(item.GetCase()), a.number(item.GetSeq(), pb.Stage_STAGE_UNSPECIFIED), a.chip(item.GetTlp()),
				a.moment(item.GetPublishTime()), word(item.GetState()).in(a.lang), a.titled(item.GetLane(), item.GetTitle())); err != nil {
				return err
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if shown == 0 {
		a.talk(Text{"まだ何も出していません。例: minato report --help", "nothing was published yet; see minato report --help"})
	}
	return l.end()
}
