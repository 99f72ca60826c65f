package main

import (
	"context"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
)

func (a *app) stepCommand() *cobra.Command {
	var note, person string
	states := []struct {
		flag  string
		state pb.NoticeState
		given bool
		about Text
	}{
		{"done", pb.NoticeState_NOTICE_STATE_DONE, false, Text{"済ませた", "it is done"}},
		{"planned", pb.NoticeState_NOTICE_STATE_PLANNED, false, Text{"予定している", "it is planned"}},
		{"declined", pb.NoticeState_NOTICE_STATE_DECLINED, false, Text{"行わないと決めた", "it was decided not to do it"}},
	}
	c := a.command("step REPORT RULE --done|--planned|--declined [--note T]", about{
		short: Text{"人の判断を待つことをどうしたか記録します (警察への通報など)", "Record what became of a step, e.g. the call to the police"},
		long: Text{"RULE は、報告した時や minato show が「次にすること」に示す規則の番号です。",
			"RULE is the id of the rule that `report` and `show` name under \"what to do next\"."},
		example: "minato step 3f2a9c1e R5 --done --note '14時に電話で通報'",
	}, a.exactly("REPORT", "RULE"), func(c *cobra.Command, args []string) error {
		chosen := pb.NoticeState_NOTICE_STATE_UNSPECIFIED
		count := 0
		for _, s := range states {
			if s.given {
				chosen = s.state
				count++
			}
		}
		if count != 1 {
			return usage(Text{"--done, --planned, --declined のどれか一つが要ります", "one of --done, --planned and --declined is needed"},
				Text{"例: minato step 3f2a9c1e R5 --done --note '14時に電話で通報'", "for example: minato step 3f2a9c1e R5 --done --note 'by telephone, 14:00'"})
		}
		if len(note) > 1000 {
			return usage(Text{"--note が長すぎます (1,000 バイトまで)", "--note is too long (1,000 bytes at most)"}, Text{"短くしてください", "shorten it"})
		}
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			answer, err := n.DecideStep(ctx, &pb.DecideStepRequest{Report: args[0], Rule: args[1], State: chosen, Note: note, Person: person})
			if err != nil {
				return err
			}
			if a.json {
				return a.emitFull(answer)
			}
			return a.sayText(textf("%s の %s を「%s」と記録しました", "recorded for %s, %s: %s", shortID(args[0]), plain(args[1]), word(chosen)))
		})
	})
	fl := c.Flags()
	for i := range states {
		fl.BoolVar(&states[i].given, states[i].flag, false, states[i].about.in(a.lang))
	}
	fl.StringVar(&note, "note", "", a.t("記録に残す`文`", "`words` for the record"))
	fl.StringVar(&person, "person", "", a.t("決めた`人` (既定はノードの利用者)", "`person` who decides (default: the node's operator)"))
	return c
}
