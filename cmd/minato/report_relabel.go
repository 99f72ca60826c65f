package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func (a *app) reportRelabelCommand() *cobra.Command {
	var f reportFlags
	c := a.command("relabel CASE --tlp LABEL [--to MEMBER]... [--yes]", about{
		short: Text{"自分が出した報告のラベルを変えます", "Change the label of a report of your own"},
		long: Text{"同じ内容を、新しいラベルの訂正報として出します。広げる時は確認を求めます (--yes で省略)。\n広げて green か clear にする時、--to がなければそのラベルの範囲の全員に届きます。\n受け取った報告を自分の所だけで狭めるには: minato narrow",
			"Publishes the same content as a correction with the new label. Wider asks you first (--yes does not).\nWider to green or clear without --to reaches all whom that label permits.\nTo narrow a report that you have received, on your side only: minato narrow"},
		example: "minato report relabel 3f2a9c1e --tlp green --community operators --plan",
	}, a.exactly("CASE"), func(c *cobra.Command, args []string) error {
		if err := a.need(required{"tlp", f.tlp != ""}); err != nil {
			return err
		}
		wanted := &pb.Report{}
		if err := f.fill(a, wanted); err != nil {
			return err
		}
		r := &pb.Report{}
		return a.publish(c.Context(), &f, r, func(ctx context.Context, n pb.NodeServiceClient) error {
			last, err := lastOfCase(ctx, n, args[0])
			if err != nil {
				return err
			}
			if f.widens, err = relabel(r, last, wanted); err != nil {
				return err
			}
			return nil
		})
	})
	fl := c.Flags()
	f.flags = fl
	fl.StringVar(&f.tlp, "tlp", "", a.t("新しい`ラベル` (必須)", "the new `label` (required)"))
	fl.StringArrayVar(&f.to, "to", nil, a.t("宛先の`会員`、TLP:RED は 会員/人 (既定は前と同じ)", "recipient `MEMBER`, for TLP:RED MEMBER/PERSON (default: as before)"))
	fl.StringVar(&f.community, "community", "", a.t("TLP:GREEN のコミュニティ`ID`", "community `ID` for TLP:GREEN"))
	fl.BoolVar(&f.yes, "yes", false, a.t("広げることを確認せずに出す", "widen it without being asked"))
	fl.BoolVar(&f.plan, "plan", false, a.t("出さずに、誰に何が届くかを表示", "publish nothing, show who would get what"))
	fl.DurationVar(&f.wait, "wait", callWait, a.t("ハブの受領を待つ`時間`", "`time` to wait for the hub's receipt"))
	return c
}

// relabel makes r the last report of its case under the label, community and
// recipients wanted, and says whether more people may then see it.
func relabel(r, last, wanted *pb.Report) (wider bool, err error) {
	before, after := tlp.Label(last.GetTlp()), tlp.Label(wanted.GetTlp())
	proto.Merge(r, last)
	r.Relabels, r.ReportId, r.CreateTime, r.Sequence = last.GetReportId(), "", nil, 0
	r.Stage, r.Tlp = pb.Stage_STAGE_CORRECTION, wanted.GetTlp()
	wider = after < before
	if after == before && len(wanted.GetRecipients()) == 0 && wanted.GetCommunityId() == "" {
		return false, usage(textf("この事案のラベルは既に %s です", "the label of this case is %s already", after),
			Text{"内容を直すには: minato report update --correction", "to correct the content: minato report update --correction"})
	}
	switch {
	case wanted.GetCommunityId() != "":
		// Another community of the same label may be a wider one.
		wider = wider || wanted.GetCommunityId() != last.GetCommunityId()
		r.CommunityId = wanted.GetCommunityId()
	case !after.NeedsCommunity():
		r.CommunityId = ""
	}
	switch {
	case len(wanted.GetRecipients()) > 0:
		r.Recipients = wanted.GetRecipients()
		wider = wider || after == before
	case !sameAddressing(wanted.GetTlp(), last.GetTlp()), wider && !after.NeedsRecipients():
		r.Recipients = nil
	}
	return wider, nil
}

// confirmed lets a person see who would get the report where a form has filled
// it or where it goes further than before. A script says so with --yes.
func (a *app) confirmed(ctx context.Context, f *reportFlags, n pb.NodeServiceClient, r *pb.Report) error {
	switch {
	case f.filledBy, f.widens && !f.yes && a.interactive():
		return a.confirm(ctx, n, r)
	case f.widens && !f.yes:
		return &failure{code: exitRefused,
			what: textf("%s にすると、今より多くの人が見られるようになります", "with %s more people may see it than now", tlp.Label(r.GetTlp())),
			next: Text{"誰に届くかを --plan で確かめ、--yes を付けてください", "look at --plan first, then add --yes"}}
	}
	return nil
}
