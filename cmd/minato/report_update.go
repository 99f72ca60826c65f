package main

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

func (a *app) reportUpdateCommand() *cobra.Command {
	var f reportFlags
	var final, correction bool
	c := a.command("update CASE {-m TEXT | --text FILE} [--final | --correction]", about{
		short: Text{"事案の続報を出します", "Publish the next report of a case"},
		long: Text{"ラベル、宛先、コミュニティ、件名は、指定がなければ前の報告と同じです。",
			"Label, recipients, community and title are those of the last report unless you give others."},
		example: "minato report update 3f2a9c1e -m 'TOSを復旧しました' --impact restored --final",
	}, a.exactly("CASE"), func(c *cobra.Command, args []string) error {
		if final && correction {
			return usage(Text{"--final と --correction は同時に使えません", "--final and --correction cannot be used together"},
				Text{"どちらか一つにしてください", "use one of them"})
		}
		r := &pb.Report{Stage: pb.Stage_STAGE_FOLLOW_UP}
		switch {
		case final:
			r.Stage = pb.Stage_STAGE_FINAL
		case correction:
			r.Stage = pb.Stage_STAGE_CORRECTION
		}
		if err := f.fill(a, r); err != nil {
			return err
		}
		if err := a.need(required{"text", r.GetSummary() != ""}); err != nil {
			return err
		}
		return a.publishFollowing(c.Context(), &f, r, args[0])
	})
	a.contentFlags(c, &f)
	c.Flags().BoolVar(&final, "final", false, a.t("最終報", "this is the final report"))
	c.Flags().BoolVar(&correction, "correction", false, a.t("前の報告の訂正", "this corrects an earlier report"))
	return c
}

// publishFollowing publishes r as the next report of a case that was published
// here.
func (a *app) publishFollowing(ctx context.Context, f *reportFlags, r *pb.Report, name string) error {
	return a.publish(ctx, f, r, func(ctx context.Context, n pb.NodeServiceClient) error {
		last, err := lastOfCase(ctx, n, name)
		if err != nil {
			return err
		}
		inherit(r, last)
		r.Consents = proto.CloneOf(last.GetConsents())
		f.fillConsents(r)
		return nil
	})
}
