package main

import (
	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) reportWithdrawCommand() *cobra.Command {
	var f reportFlags
	c := a.command("withdraw CASE [-m TEXT]", about{
		short: Text{"事案の報告を取り下げます", "Withdraw a case"},
		long: Text{"前の報告と同じ相手に取下げを知らせます。届いた報告が消えるわけではありません。",
			"Tells those who got the last report. It does not erase what they have received."},
		example: "minato report withdraw 3f2a9c1e -m '誤検知でした'",
	}, a.exactly("CASE"), func(c *cobra.Command, args []string) error {
		r := &pb.Report{Stage: pb.Stage_STAGE_WITHDRAWAL}
		if err := f.fill(a, r); err != nil {
			return err
		}
		if r.Summary == "" {
			r.Summary = a.t("この事案の報告を取り下げます。", "The reports of this case are withdrawn.")
		}
		return a.publishFollowing(c.Context(), &f, r, args[0])
	})
	fl := c.Flags()
	fl.StringVarP(&f.message, "message", "m", "", a.t("理由の`文`", "why, one `sentence` or more"))
	fl.StringVar(&f.text, "text", "", a.t("理由の`ファイル` (- は標準入力)", "`file` that says why (- for stdin)"))
	fl.StringVar(&f.title, "title", "", a.t("`件名` (既定は前の報告と同じ)", "`title` (default: that of the last report)"))
	fl.BoolVar(&f.plan, "plan", false, a.t("出さずに、誰に届くかを表示", "publish nothing, show who would get it"))
	fl.DurationVar(&f.wait, "wait", callWait, a.t("ハブの受領を待つ`時間`", "`time` to wait for the hub's receipt"))
	return c
}
