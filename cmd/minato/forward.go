package main

import (
	"context"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) forwardCommand() *cobra.Command {
	var to []string
	var person string
	var plan bool
	c := a.command("forward REPORT --to MEMBER[/PERSON]... [--plan]", about{
		short: Text{"報告をほかの会員に渡します", "Pass a report on to other members"},
		long: Text{"渡せるのは、発信元が認めた相手、規則で頼まれた相手、TLP:AMBER なら登録した顧客です。\n送る時と同じ関門を通り、記録に残ります。渡した写しに、自分の写しより多くは入りません。",
			"To whom the source permits, to whom a rule asks you to, and for TLP:AMBER to your registered clients.\nIt goes through the same gate as a report and is recorded. The copy holds no more than your own."},
		example: "minato forward 3f2a9c1e --to regional-development --plan",
	}, a.exactly("REPORT"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"to", len(to) > 0}); err != nil {
			return err
		}
		recipients, err := parseRecipients("to", to)
		if err != nil {
			return err
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			answer, err := n.ForwardReport(ctx, &pb.ForwardReportRequest{Report: args[0], Recipients: recipients, Person: person, Preview: plan})
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(answer)
			}
			report := args[0]
			if plan {
				report = ""
			}
			if err := a.printPlan(answer.GetPlan(), report); err != nil {
				return err
			}
			if plan {
				a.talk(Text{"まだ渡していません。渡すには --plan を外してください。", "Nothing was passed on. Leave --plan out to do it."})
				return nil
			}
			a.talk(Text{"渡しました。ハブに記録されています。", "Passed on and recorded by the hub."})
			return nil
		})
	})
	fl := c.Flags()
	fl.StringArrayVar(&to, "to", nil, a.t("渡す`会員`、TLP:RED は 会員/人 (繰り返し可)", "`MEMBER`, for TLP:RED MEMBER/PERSON (repeatable)"))
	fl.StringVar(&person, "person", "", a.t("決めた`人` (既定はノードの利用者)", "`person` who decides (default: the node's operator)"))
	fl.BoolVar(&plan, "plan", false, a.t("渡さずに、誰に何が届くかを表示", "pass nothing on, show who would get what"))
	return c
}
