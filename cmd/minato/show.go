package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "minato.example/proto/minato/v1"
	"minato.example/tlp"
)

func (a *app) showCommand() *cobra.Command {
	var parts string
	c := a.command("show ID [--parts DIR]", about{
		short: Text{"報告を一件、全部表示します", "Show one report in full"},
		long: Text{"自分が出した報告なら、誰にどこまで届いたかも表示します。ID は先頭の 6 桁以上で足ります。",
			"For a report of your own it also shows who has it. The first 6 digits of the ID will do."},
		example: "minato show 3f2a9c1e --parts /tmp/parts",
	}, a.exactly("ID"), func(c *cobra.Command, args []string) error {
		return a.withNode(c.Context(), func(n pb.NodeServiceClient) error {
			ctx, cancel := context.WithTimeout(c.Context(), callTime)
			defer cancel()
			answer, err := n.GetReport(ctx, &pb.GetReportRequest{Report: args[0]})
			if err != nil {
				return err
			}
			if c.Flags().Changed("parts") {
				if err := a.saveParts(c.Context(), n, answer.GetReport(), parts); err != nil {
					return err
				}
			}
			if a.json {
				return a.emit(answer)
			}
			return a.printReport(answer)
		})
	})
	c.Flags().StringVar(&parts, "parts", "", a.t("添付とSTIXを書き出す`フォルダー` (上書きしない)", "`folder` for attachments and STIX (nothing is overwritten)"))
	return c
}

func (a *app) printReport(answer *pb.GetReportResponse) error {
	r := answer.GetReport()
	label := tlp.Label(r.GetTlp()).String()
	if err := a.say(a.chip(label) + " " + a.titled(r.GetLane(), r.GetTitle())); err != nil {
		return err
	}
	if err := a.facts(append(a.headFacts(answer), a.contentFacts(r)...)); err != nil {
		return err
	}
	sections := []struct {
		name Text
		text string
	}{
		{Text{"概要", "summary"}, r.GetSummary()},
		{Text{"攻撃技術情報", "technique"}, r.GetAttackTechnical().GetText()},
		{Text{"対応", "response"}, r.GetResponse()},
		{Text{"関係機関の応急対応", "response of others"}, r.GetOthersResponse()},
	}
	for _, s := range sections {
		if strings.TrimSpace(s.text) == "" {
			continue
		}
		if err := a.say("\n" + s.name.in(a.lang) + "\n" + plainText(s.text, "  ")); err != nil {
			return err
		}
	}
	if len(r.GetAttackTechnical().GetIndicators())+len(partsOf(r)) > 0 {
		if err := a.say(""); err != nil {
			return err
		}
	}
	for _, i := range r.GetAttackTechnical().GetIndicators() {
		if err := a.say(a.t("指標  ", "indicator  ") + defang(i.GetValue()) + "  " + plain(i.GetDescription())); err != nil {
			return err
		}
	}
	for _, p := range partsOf(r) {
		if err := a.say(fmt.Sprintf(a.t("添付  %s  %s  %d バイト  SHA-256 %x", "part  %s  %s  %d bytes  SHA-256 %x"),
			plain(or(p.GetName(), "-")), mediaWord(p.GetMediaType()), p.GetSize(), p.GetDigest())); err != nil {
			return err
		}
	}
	return a.printPublished(answer)
}

// headFacts say where a report stands, where it comes from and how it must be
// handled.
func (a *app) headFacts(answer *pb.GetReportResponse) [][2]string {
	r, in, out := answer.GetReport(), answer.GetReceived(), answer.GetPublished()
	rows := [][2]string{
		{a.t("報告", "report"), plain(r.GetReportId())},
		{a.t("事案", "case"), plain(r.GetCaseId()) + "  " + a.number(r.GetSequence(), r.GetStage())},
	}
	if in != nil {
		rows = append(rows,
			[2]string{a.t("情報連絡元", "source"), plain(or(in.GetSourceName(), in.GetSource()))},
			[2]string{a.t("受付", "accepted"), a.moment(in.GetAcceptTime())})
		if in.GetReaction() != 0 {
			rows = append(rows, [2]string{a.t("応答", "answer"), word(in.GetReaction()).in(a.lang)})
		}
		if len(in.GetPersons()) > 0 {
			rows = append(rows, [2]string{a.t("読める人", "for"), plain(strings.Join(in.GetPersons(), ", "))})
		}
	}
	if out != nil {
		rows = append(rows,
			[2]string{a.t("状態", "state"), word(out.GetState()).in(a.lang)},
			[2]string{a.t("発出", "published"), a.moment(out.GetPublishTime())})
		if out.GetAcceptTime() != nil {
			rows = append(rows, [2]string{a.t("受付", "accepted"), a.moment(out.GetAcceptTime())})
		}
	}
	if r.GetCommunityId() != "" {
		rows = append(rows, [2]string{a.t("コミュニティ", "community"), plain(r.GetCommunityId())})
	}
	return append(rows, [2]string{a.t("取扱制限", "handling"), a.handling(r.GetRestrictions())})
}

// handling are the rules beside the label, which a recipient must obey.
func (a *app) handling(r *pb.Restrictions) string {
	var rules []string
	for _, rule := range []struct {
		set  bool
		text Text
	}{
		{r.GetNoCopy(), Text{"複製禁止", "do not copy"}},
		{r.GetNoExport(), Text{"持出禁止", "do not take outside"}},
		{r.GetNoDistribution(), Text{"配布禁止", "do not distribute"}},
		{r.GetChathamHouse(), Text{"チャタムハウスルール", "Chatham House Rule"}},
	} {
		if rule.set {
			rules = append(rules, rule.text.in(a.lang))
		}
	}
	if r.GetExpireTime() != nil {
		rules = append(rules, fmt.Sprintf(a.t("%s までに消去", "erase by %s"), a.moment(r.GetExpireTime())))
	}
	if r.GetText() != "" {
		rules = append(rules, plain(r.GetText()))
	}
	return strings.Join(rules, ", ")
}

// contentFacts are what is known of the event. What the reporter does not know
// is left out.
func (a *app) contentFacts(r *pb.Report) [][2]string {
	var events []string
	for _, e := range r.GetEvent().GetTypes() {
		if e != pb.EventType_EVENT_TYPE_UNKNOWN {
			events = append(events, word(e).in(a.lang))
		}
	}
	var rows [][2]string
	add := func(name Text, known bool, value string) {
		if known {
			rows = append(rows, [2]string{name.in(a.lang), value})
		}
	}
	add(Text{"発生", "occurred"}, r.GetOccurred().GetTime() != nil, a.moment(r.GetOccurred().GetTime())+a.sure(r.GetOccurred().GetCertainty()))
	add(Text{"認知", "recognised"}, r.GetRecognised().GetTime() != nil, a.moment(r.GetRecognised().GetTime())+a.sure(r.GetRecognised().GetCertainty()))
	add(Text{"場所", "place"}, true, plain(strings.TrimSpace(r.GetPlace().GetPort()+" "+r.GetPlace().GetTerminal())))
	add(Text{"事象", "event"}, len(events) > 0, strings.Join(events, ", ")+a.sure(r.GetEvent().GetCertainty()))
	cause := r.GetCause().GetClass()
	add(Text{"原因", "cause"}, cause != 0 && cause != pb.CauseClass_CAUSE_CLASS_UNKNOWN, word(cause).in(a.lang)+a.sure(r.GetCause().GetCertainty()))
	impact := r.GetImpact().GetBusiness()
	add(Text{"業務への影響", "business"}, impact != 0 && impact != pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN, word(impact).in(a.lang)+a.sure(r.GetImpact().GetCertainty()))
	spread := r.GetSpread().GetRisk()
	add(Text{"拡大の可能性", "spread"}, spread != 0 && spread != pb.SpreadRisk_SPREAD_RISK_UNKNOWN, word(spread).in(a.lang)+a.sure(r.GetSpread().GetCertainty()))
	recovery := r.GetRecovery().GetState()
	add(Text{"復旧", "recovery"}, recovery != 0 && recovery != pb.RecoveryState_RECOVERY_STATE_UNKNOWN, word(recovery).in(a.lang)+a.sure(r.GetRecovery().GetCertainty()))
	personal := r.GetPersonalData()
	add(Text{"個人情報", "personal data"}, personal != 0 && personal != pb.PersonalData_PERSONAL_DATA_UNKNOWN, word(personal).in(a.lang))
	add(Text{"次報予定", "next report"}, r.GetNextReportTime() != nil, a.moment(r.GetNextReportTime()))
	add(Text{"組織", "organisation"}, true, plain(strings.TrimSpace(r.GetReporter().GetOrganisation()+" "+r.GetReporter().GetUnit())))
	for _, c := range r.GetReporter().GetContacts() {
		add(Text{"窓口", "contact"}, true, plain(strings.TrimSpace(c.GetName()+" "+c.GetPhone()+" "+c.GetMail())))
	}
	return rows
}

func (a *app) sure(c pb.Certainty) string {
	if c == pb.Certainty_CERTAINTY_UNSPECIFIED {
		return ""
	}
	return " (" + word(c).in(a.lang) + ")"
}

// printPublished says, for a report of one's own, how far each copy has come.
func (a *app) printPublished(answer *pb.GetReportResponse) error {
	out := answer.GetPublished()
	if out == nil {
		return nil
	}
	if out.GetState() == pb.OutboxState_OUTBOX_STATE_REFUSED {
		return a.say("\n" + strings.TrimRight(block(refused(out.GetRefusal()), a.lang), "\n"))
	}
	if out.GetDelayReason() != "" && out.GetState() == pb.OutboxState_OUTBOX_STATE_QUEUED {
		return a.sayText(textf("\nハブに届かない理由: %s", "\nwhy the hub was not reached: %s", reasonText(out.GetDelayReason())))
	}
	if answer.GetCopiesError() != "" {
		a.talk(textf("配信の状況は分かりません: %s", "how far the copies have come is not known: %s", reasonText(answer.GetCopiesError())))
	}
	l := a.list(a.t("会員", "member"), a.t("送信", "sent"), a.t("保存", "stored"), a.t("応答", "answered"), a.t("答え", "answer"), a.t("名称", "name"))
	for _, c := range answer.GetCopies() {
		reaction := word(c.GetReaction()).in(a.lang)
		if c.GetPerson() != "" {
			reaction += "(" + plain(c.GetPerson()) + ")"
		}
		if c.GetRejection() != "" {
			reaction = a.t("受け取れず: ", "rejected: ") + plain(c.GetRejection())
		}
		if err := l.add(plain(c.GetCopy().GetMember()), a.moment(c.GetSendTime()), a.moment(c.GetStoreTime()),
			a.moment(c.GetAcknowledgeTime()), reaction, plain(c.GetCopy().GetName())); err != nil {
			return err
		}
	}
	return l.end()
}

// partsOf are all parts of a report: its STIX bundle and its attachments.
func partsOf(r *pb.Report) []*pb.Part {
	var parts []*pb.Part
	if p := r.GetAttackTechnical().GetStixBundle(); p != nil {
		parts = append(parts, p)
	}
	return append(parts, r.GetAttachments()...)
}
