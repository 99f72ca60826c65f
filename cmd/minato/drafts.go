package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func (a *app) draftsCommand() *cobra.Command {
	var drop string
	c := a.command("drafts [--delete ID]", about{
		short:   Text{"この端末の下書きを新しい順に表示します", "List the drafts on this machine, newest first"},
		long:    Text{"下書きは report --draft で残し、report --from ID で出します。", "report --draft keeps one, report --from ID publishes it."},
		example: "minato drafts",
	}, a.exactly(), func(c *cobra.Command, _ []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			if drop != "" {
				_, err := n.DeleteDraft(ctx, &pb.DeleteDraftRequest{Draft: drop})
				return err
			}
			return a.printDrafts(ctx, n)
		})
	})
	c.Flags().StringVar(&drop, "delete", "", a.t("消す下書きの `ID`", "`ID` of the draft to remove"))
	return c
}

func (a *app) printDrafts(ctx context.Context, n pb.NodeServiceClient) error {
	drafts, err := allDrafts(ctx, n)
	if err != nil {
		return err
	}
	l := a.list("ID", "TLP", a.t("保存", "saved"), a.t("件名", "title"))
	for _, d := range drafts {
		if a.json {
			if err := a.emitFull(d); err != nil {
				return err
			}
			continue
		}
		label := tlp.Label(d.GetReport().GetTlp()).String()
		if label != "" {
			label = a.chip(label)
		}
		if err := l.add(shortID(d.GetDraft()), label, a.moment(d.GetSaveTime()), a.titled(d.GetReport().GetLane(), d.GetReport().GetTitle())); err != nil {
			return err
		}
	}
	if len(drafts) == 0 {
		a.talk(Text{"下書きはありません", "there are no drafts"})
	}
	return l.end()
}

func allDrafts(ctx context.Context, n pb.NodeServiceClient) (all []*pb.Draft, err error) {
	for req := (&pb.ListDraftsRequest{PageSize: 500}); ; {
		page, err := n.ListDrafts(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetDrafts()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// saveDraft keeps what has been written so far; nothing of it is required.
func (a *app) saveDraft(ctx context.Context, f *reportFlags, r *pb.Report, id string) error {
	return a.withNode(ctx, func(n pb.NodeServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		if err := f.storeParts(ctx, n); err != nil {
			return err
		}
		saved, err := n.SaveDraft(ctx, &pb.SaveDraftRequest{Draft: id, Report: r})
		if err != nil {
			return err
		}
		if a.json {
			return a.emitFull(saved.GetDraft())
		}
		short := shortID(saved.GetDraft().GetDraft())
		a.talk(textf("出す時: minato report --from %s", "to publish it: minato report --from %s", short))
		return a.sayText(textf("下書き %s", "draft %s", short))
	})
}

// reportFrom publishes a draft, or what the hub had refused, with the flags on
// top. A draft goes once its report is in the outbox.
func (a *app) reportFrom(ctx context.Context, f *reportFlags) error {
	var r *pb.Report
	var draft string
	err := a.withNode(ctx, func(n pb.NodeServiceClient) (err error) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		r, draft, err = beginning(ctx, n, f.from)
		return err
	})
	if err != nil {
		return err
	}
	if f.exercise {
		r.Lane = pb.Lane_LANE_EXERCISE
	}
	if err := f.fill(a, r); err != nil {
		return err
	}
	f.heldAs = draft
	if f.draft {
		return a.saveDraft(ctx, f, r, draft)
	}
	err = a.publish(ctx, f, r, nil)
	if draft == "" || f.plan || (err != nil && exitCode(err) != exitQueued) {
		return err
	}
	return errors.Join(err, a.withNode(ctx, func(n pb.NodeServiceClient) error {
		_, err := n.DeleteDraft(ctx, &pb.DeleteDraftRequest{Draft: draft})
		return err
	}))
}

// beginning is the draft of an id, or the refused report of one, as a report
// that has not been published.
func beginning(ctx context.Context, n pb.NodeServiceClient, id string) (r *pb.Report, draft string, err error) {
	drafts, err := allDrafts(ctx, n)
	if err != nil {
		return nil, "", err
	}
	for _, d := range drafts {
		if len(id) < 6 || !strings.HasPrefix(d.GetDraft(), strings.ToLower(id)) {
			continue
		}
		if draft != "" {
			return nil, "", usage(textf("%s で始まる下書きが複数あります", "several drafts begin with %s", plain(id)), Text{"ID を長く書いてください: minato drafts --json", "write more of the id: minato drafts --json"})
		}
		r, draft = d.GetReport(), d.GetDraft()
	}
	if draft != "" {
		return r, draft, nil
	}
	found, err := n.GetReport(ctx, &pb.GetReportRequest{Report: id})
	if err != nil {
		return nil, "", err
	}
	if found.GetPublished().GetState() != pb.OutboxState_OUTBOX_STATE_REFUSED {
		return nil, "", usage(textf("%s は下書きでも、拒否された報告でもありません", "%s is neither a draft nor a refused report", plain(id)),
			Text{"一覧: minato drafts, minato outbox", "see minato drafts and minato outbox"})
	}
	r = found.GetReport()
	// A new report: what the refused one was called stays with it.
	r.ReportId, r.CreateTime, r.RetentionTime = "", nil, nil
	if r.Sequence == 1 {
		r.CaseId = ""
	}
	r.Sequence = 0
	return r, "", nil
}
