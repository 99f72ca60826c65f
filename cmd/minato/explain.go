package main

import (
	"context"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) explainCommand() *cobra.Command {
	return a.command("explain REPORT [MEMBER]", about{
		short: Text{"報告がなぜ届いたか、届かなかったかを示します", "Say why a member did or did not get a report"},
		long: Text{"送る時に決めて記録したものを読みます。ほかの会員について尋ねられるのは発信元だけです。",
			"Reads what was decided and recorded when it was sent. Only the source may ask about other members."},
		example: "minato explain 3f2a9c1e west-terminal",
	}, a.oneOrTwo("REPORT", "MEMBER"), func(c *cobra.Command, args []string) error {
		req := &pb.NodeServiceExplainReportRequest{Report: args[0]}
		if len(args) > 1 {
			if err := checkID("MEMBER", args[1]); err != nil {
				return err
			}
			req.Member = args[1]
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			answer, err := n.ExplainReport(ctx, req)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(answer)
			}
			return a.printExplanation(answer.GetExplanation(), req.GetMember())
		})
	})
}

// oneOrTwo demands the first argument; the second may be left out.
func (a *app) oneOrTwo(first, second string) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, given []string) error {
		if len(given) > 1 {
			return a.exactly(first, second)(c, given)
		}
		return a.exactly(first)(c, given)
	}
}

// printExplanation says why a member has a copy, or why it has none.
func (a *app) printExplanation(e *pb.ExplainReportResponse, member string) error {
	who := a.t("あなたの組織", "your organisation")
	if member != "" {
		who = plain(member) + a.t(" ", "")
	}
	got := e.GetCopy()
	if got == nil {
		if err := a.sayText(textf("%sには届いていません", "%s has no copy", who)); err != nil {
			return err
		}
		if len(e.GetOmissions()) == 0 {
			if err := a.sayText(Text{"  宛先に入っておらず、どの規則もこの会員を挙げていません", "  it was not addressed and no rule names it"}); err != nil {
				return err
			}
		}
		for _, o := range e.GetOmissions() {
			if o.GetGround().GetRule() != "" {
				if err := a.say("  " + a.ground(o.GetGround())); err != nil {
					return err
				}
			}
			if err := a.sayBasis(o.GetGround()); err != nil {
				return err
			}
			if err := a.say("    " + plain(Text{o.GetJapanese(), o.GetEnglish()}.in(a.lang))); err != nil {
				return err
			}
		}
	} else {
		if err := a.sayText(textf("%sに届いています", "%s has a copy", who)); err != nil {
			return err
		}
		if err := a.printTreated([]*pb.Copy{got}, true); err != nil {
			return err
		}
	}
	return a.facts([][2]string{
		{a.t("決めた時", "decided"), a.moment(e.GetDecideTime())},
		{a.t("根拠の版", "by"), a.versions(e.GetDirectoryRevision(), e.GetPolicyVersion())},
	})
}
