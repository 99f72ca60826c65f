package main

import (
	"context"
	"fmt"
	"strings"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

// labels are the five, from the narrowest audience to the widest.
var labels = []tlp.Label{tlp.Red, tlp.AmberStrict, tlp.Amber, tlp.Green, tlp.Clear}

// holds says whether all that r lacks is its label. Such a report is kept and
// its author asked: a label is never guessed, and nothing is lost.
func (f *reportFlags) holds(r *pb.Report) bool {
	return !f.plan && r.GetTlp() == pb.TlpLabel_TLP_LABEL_UNSPECIFIED && r.GetTitle() != "" && strings.TrimSpace(r.GetSummary()) != ""
}

// hold keeps a report without a label as a draft and asks for the label.
func (a *app) hold(ctx context.Context, f *reportFlags, r *pb.Report, n pb.NodeServiceClient) error {
	if err := f.storeParts(ctx, n); err != nil {
		return err
	}
	saved, err := n.SaveDraft(ctx, &pb.SaveDraftRequest{Draft: f.heldAs, Report: r})
	if err != nil {
		return err
	}
	id := saved.GetDraft().GetDraft()
	next := "minato report --from " + shortID(id) + " --tlp amber"
	if len(r.GetRecipients()) == 0 {
		next += " --to " + a.t("会員", "MEMBER")
	}
	if a.json {
		type choice struct {
			Label    string `json:"label"`
			Japanese string `json:"japanese"`
			English  string `json:"english"`
		}
		var choices []choice
		for _, l := range labels {
			ja, en := l.Meaning()
			choices = append(choices, choice{l.String(), ja, en})
		}
		if err := a.emitValue(struct {
			Held   string   `json:"held"`
			Reason string   `json:"reason"`
			Next   string   `json:"next"`
			Labels []choice `json:"labels"`
		}{id, "TLP_MISSING", "minato report --from " + id + " --tlp LABEL", choices}); err != nil {
			return err
		}
		return told(exitRefused)
	}
	lines := []string{next}
	for _, l := range labels {
		ja, en := l.Meaning()
		lines = append(lines, fmt.Sprintf("%-16s %s", l, a.t(ja, en)))
	}
	list := strings.Join(lines, "\n")
	return &failure{code: exitRefused,
		what: textf("TLPラベルがないため、まだ誰にも送っていません。下書き %s として残しました。誰が見てよいかを選んでください",
			"there is no TLP label, so nothing was sent. It is kept as draft %s. Say who may see it", shortID(id)),
		next: Text{list, list}}
}
